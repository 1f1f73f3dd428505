//! Looks whether everything is there that the checkpoints need, and is what it must be.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::super::driver::{Affected, Cancel, Error, Verified};
use super::objects::{Decoder, Objects};
use super::pool::Pool;
use super::reach::{Reached, reach};
use super::{Id, Store, lock};

/// How many objects a thread reads before it looks for more.
const SHARE: usize = 256;

impl Store {
    /// Looks at all that the checkpoints need; with `read_data` also at the bytes of files.
    /// Operations go on meanwhile.
    pub(super) fn verify_all(&self, read_data: bool) -> Result<Verified, Error> {
        let opened = self.opened()?;
        let (objects, pool) = (&opened.objects, Pool::new()?);
        let mut verified = Verified {
            damaged: opened.damaged(),
            ..Verified::default()
        };
        // The lists were read at the start, and are not looked at again until the next.
        let lists = objects.check_packs();
        verified
            .damaged
            .extend(lists.iter().map(ToString::to_string));
        let mut bad = HashMap::new();
        let mut seen = HashMap::new();
        let checkpoints: Vec<_> = self.state().catalog.list(true).collect();
        for checkpoint in &checkpoints {
            let roots: Vec<Id> = checkpoint.roots().collect();
            let found = reach(objects, &pool, &roots, &Cancel::default());
            let problem = match found {
                Ok(reached) if read_data => read(objects, &pool, &reached, &mut seen, &mut bad),
                Ok(reached) => {
                    for id in reached.ids() {
                        note(objects, *id, &mut seen);
                    }
                    None
                }
                Err(error) => Some(error.to_string()),
            };
            // What was deleted meanwhile may be gone.
            let is_there = self.state().catalog.find(&checkpoint.id).is_ok();
            if let Some(problem) = problem.filter(|_| is_there) {
                verified.affected.push(Affected {
                    id: checkpoint.id.clone(),
                    problem,
                });
            }
        }
        verified.checkpoints = checkpoints.len();
        verified.objects = seen.len();
        verified.bytes = seen.values().sum();
        verified.whole = verified.affected.is_empty() && verified.damaged.is_empty();
        Ok(verified)
    }
}

/// Counts an object; returns whether it is new.
fn note(objects: &Objects, id: Id, seen: &mut HashMap<Id, u64>) -> bool {
    let size = objects.place(&id).map_or(0, |(_, stored)| stored.into());
    id != Id::HOLE && seen.insert(id, size).is_none()
}

/// Reads those objects that nobody has read yet; returns what is wrong with one of them.
fn read(
    objects: &Objects,
    pool: &Pool,
    reached: &Reached,
    seen: &mut HashMap<Id, u64>,
    bad: &mut HashMap<Id, String>,
) -> Option<String> {
    let mut left: Vec<Id> = reached.ids().copied().collect();
    left.retain(|id| note(objects, *id, seen));
    // Pack by pack.
    left.sort_by_key(|id| objects.place(id).map(|(pack, _)| pack));
    let found = Mutex::new(Vec::new());
    let decoders = pool.workers(Decoder::default);
    pool.scope(|scope| {
        for share in left.chunks(SHARE) {
            let (decoders, found) = (&decoders, &found);
            scope.spawn(move |_| {
                let decoder = &mut *decoders.mine();
                for id in share {
                    if let Err(error) = objects.get(decoder, id) {
                        lock(found).push((*id, error.to_string()));
                    }
                }
            });
        }
    });
    bad.extend(found.into_inner().unwrap_or_else(PoisonError::into_inner));
    let mut problems = bad.iter().filter(|(id, _)| reached.contains(id));
    problems.next().map(|(_, problem)| problem.clone())
}
