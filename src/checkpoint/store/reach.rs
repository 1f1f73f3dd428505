//! Which objects a checkpoint needs.

use std::collections::HashSet;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::super::driver::{Cancel, Error};
use super::id::Id;
use super::node::{BLOCK, Kind};
use super::objects::{Decoder, Objects};
use super::pool::{Pool, Workers};
use super::{lock, plan, scan};

const SHARDS: usize = 64;

/// All objects that are reached from some roots.
#[derive(Debug)]
pub struct Reached(Vec<HashSet<Id>>);

impl Reached {
    /// Whether an object is among them.
    #[must_use]
    pub fn contains(&self, id: &Id) -> bool {
        self.0
            .get(shard(id))
            .is_some_and(|shard| shard.contains(id))
    }

    /// All of them.
    pub fn ids(&self) -> impl Iterator<Item = &Id> {
        self.0.iter().flatten()
    }
}

fn shard(id: &Id) -> usize {
    let [first, ..] = id.as_bytes();
    usize::from(*first) % SHARDS
}

struct Search<'a> {
    objects: &'a Objects,
    cancel: &'a Cancel,
    seen: Vec<Mutex<HashSet<Id>>>,
    decoders: Workers<Decoder>,
    failure: OnceLock<Error>,
}

/// Everything that is reached from `roots`. All of it is there; else it fails with the
/// first thing that is missing or damaged. The bytes of files are not read.
pub fn reach(
    objects: &Objects,
    pool: &Pool,
    roots: &[Id],
    cancel: &Cancel,
) -> Result<Reached, Error> {
    let search = Search {
        objects,
        cancel,
        seen: (0..SHARDS).map(|_| Mutex::default()).collect(),
        decoders: pool.workers(Decoder::default),
        failure: OnceLock::new(),
    };
    pool.scope(|scope| {
        for root in roots {
            search.spawn(scope, *root);
        }
    });
    if let Some(error) = search.failure.into_inner() {
        return Err(error);
    }
    let seen = search.seen.into_iter();
    Ok(Reached(
        seen.map(|shard| shard.into_inner().unwrap_or_else(PoisonError::into_inner))
            .collect(),
    ))
}

impl Search<'_> {
    fn spawn<'s>(&'s self, scope: &rayon::Scope<'s>, node: Id) {
        if self.is_new(&node) {
            scope.spawn(move |scope| {
                if let Err(error) = self.node(scope, node) {
                    let _ = self.failure.set(error);
                }
            });
        }
    }

    fn is_new(&self, id: &Id) -> bool {
        let shard = self.seen.get(shard(id));
        shard.is_some_and(|shard| lock(shard).insert(*id))
    }

    /// Marks an object that names no others; it must be there.
    fn leaf(&self, id: Id) -> Result<(), Error> {
        if id == Id::HOLE || !self.is_new(&id) || self.objects.contains(&id) {
            return Ok(());
        }
        Err(self.objects.missing(&id))
    }

    fn node<'s>(&'s self, scope: &rayon::Scope<'s>, id: Id) -> Result<(), Error> {
        self.cancel.check()?;
        if self.failure.get().is_some() {
            return Ok(());
        }
        let decoder = &mut *self.decoders.mine();
        let bytes = self.objects.get(decoder, &id)?.to_vec();
        for entry in plan::decode(&bytes, &id)? {
            match entry.kind {
                Kind::Directory { node } if node != Id::HOLE => self.spawn(scope, node),
                Kind::File { size, content, .. } if size > 0 => {
                    self.content(decoder, size, content)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn content(&self, decoder: &mut Decoder, size: u64, content: Id) -> Result<(), Error> {
        if size <= BLOCK as u64 {
            return self.leaf(content);
        }
        if !self.is_new(&content) {
            return Ok(());
        }
        let ids = plan::ids(self.objects.get(decoder, &content)?, content)?;
        if scan::lists(size) <= 1 {
            return ids.into_iter().try_for_each(|block| self.leaf(block));
        }
        for list in ids {
            self.cancel.check()?;
            if self.is_new(&list) {
                let blocks = plan::ids(self.objects.get(decoder, &list)?, list)?;
                blocks.into_iter().try_for_each(|block| self.leaf(block))?;
            }
        }
        Ok(())
    }
}
