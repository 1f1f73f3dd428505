//! Reading what was frozen, once everything runs again: a snapshot of the tree, or clones of
//! large files.

use std::collections::hash_map::Entry as Slot;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};

use super::checkpointing::Making;
use super::frozen::{Aside, CaptureSource};
use super::live::{Entry, Live};
use super::look::Look;
use super::objects::Encoder;
use super::pool::Pool;
use super::scan::{self, Deferred, Hints, Large, LargeFiles, Older, Scanned, Storing};
use super::{Id, Store};
use crate::checkpoint::driver::{Cancel, Error};

impl Store {
    /// Reads what was frozen for a checkpoint, after a walk that has found this.
    pub(super) fn read_frozen(&self, scanned: Scanned, making: &Making) -> Result<Scanned, Error> {
        match &self.opened()?.source {
            CaptureSource::Snapshot(aside) if making.is_snapshot => {
                self.read_snapshot(aside, scanned, making)
            }
            CaptureSource::Clones(aside) => self.read_clones(aside, scanned, &making.distrusted),
            _ => Ok(scanned),
        }
    }

    fn read_snapshot(
        &self,
        aside: &Aside,
        scanned: Scanned,
        making: &Making,
    ) -> Result<Scanned, Error> {
        let (root, older) = (aside.taken()?, aside.kept());
        let cancel = Cancel::default();
        let hints = Hints {
            distrusted: making.distrusted.clone(),
            open: making.open.clone(),
            ..Hints::after(&scanned)
        };
        let large = older.as_ref();
        let look = Look {
            root: Some(&root),
            large: large.map_or(LargeFiles::Read, LargeFiles::Compare),
            meter: &self.meter,
            ..Look::new(&hints, &cancel)
        };
        let pool = Pool::new()?;
        let changed = match &making.changed {
            Some(changed) => changed.clone(),
            None => self.changed_since(&pool, &scanned, &look)?,
        };
        let as_of = scanned.live.as_of;
        let mut read = self.pass_over(&pool, scanned, &changed, HashSet::new(), &look)?;
        // Not when it was read: what changes after the instant must show.
        read.live.as_of = as_of;
        Ok(read)
    }

    /// The directories of the live tree in which something has changed since the walk that has
    /// found this, and those that are there no more. What was so in the snapshot is so now: changes
    /// do not undo themselves, other than with the directory. The live tree is looked at since the
    /// kernel knows it; a new snapshot has to be read from the disk.
    fn changed_since(
        &self,
        pool: &Pool,
        scanned: &Scanned,
        look: &Look,
    ) -> Result<HashSet<u64>, Error> {
        let look = Look {
            root: None,
            large: LargeFiles::Read,
            reads: false,
            ..*look
        };
        let now = self.pass(pool, Scanned::of(scanned.live.clone()), &look)?;
        let inode = |number: &u32| now.live.slots.get(*number as usize).map(|slot| slot.inode);
        // What the root itself looks like is known to no directory of the tree.
        let changed = now.changed.iter().chain(&[0]).filter_map(inode);
        let there: HashSet<u64> = directories(&now.live).collect();
        let gone = directories(&scanned.live).filter(|inode| !there.contains(inode));
        Ok(changed.chain(gone).collect())
    }

    /// Reads the clones of large files, and enters their contents.
    fn read_clones(
        &self,
        aside: &Aside,
        mut scanned: Scanned,
        distrusted: &HashSet<u64>,
    ) -> Result<Scanned, Error> {
        if scanned.deferred.is_empty() {
            return Ok(scanned);
        }
        let pool = Pool::new()?;
        let mut contents = HashMap::new();
        for file in &scanned.deferred {
            if let Slot::Vacant(slot) = contents.entry(file.inode) {
                slot.insert(self.read_clone(&pool, aside, file)?);
            }
        }
        for number in scanned.changed.clone() {
            let slot = scanned.live.slots.get_mut(number as usize);
            let Some(directory) = slot.and_then(|slot| slot.directory.as_mut()) else {
                continue;
            };
            for entry in &mut Arc::make_mut(directory).entries {
                if let Some(content) = contents.get(&entry.stamp.inode).filter(|_| is_large(entry))
                {
                    entry.content = *content;
                    entry.marks.doubtful = distrusted.contains(&entry.stamp.inode);
                }
            }
        }
        Ok(scanned)
    }

    fn read_clone(&self, pool: &Pool, aside: &Aside, file: &Deferred) -> Result<Id, Error> {
        let objects = &self.opened()?.objects;
        let clone = aside.taken_clone(file.inode, file.size)?;
        let older = match aside.updated(file.inode, file.old) {
            Some((same, size)) => Older::known(objects, file.old, size, same),
            None => aside
                .kept_clone(file.inode, file.old)
                .and_then(|older| Older::of(objects, &older, &clone, file.old)),
        };
        let large = Large {
            file: clone,
            size: file.size,
            path: file.path.clone(),
            spot: (0, 0),
            older,
        };
        let storing = Storing {
            objects,
            cancel: &Cancel::default(),
            meter: &self.meter,
        };
        let lists = usize::try_from(scan::lists(file.size)).unwrap_or(usize::MAX);
        // A clone does not change while it is read.
        let read = |index| Ok(large.list(&storing, &mut Encoder::default(), index)?.0);
        let lists: Result<Vec<Id>, Error> =
            pool.run(|| (0..lists).into_par_iter().map(read).collect());
        scan::content_of(objects, &mut Encoder::default(), &lists?)
    }

    /// Keeps what was frozen, so that the next checkpoint need not read again what has not
    /// changed since.
    pub(super) fn keep_frozen(&self, scanned: &Scanned, making: &Making) {
        match self.opened().map(|opened| &opened.source) {
            Ok(CaptureSource::Snapshot(aside)) if making.is_snapshot => {
                aside.keep_snapshot();
            }
            Ok(CaptureSource::Clones(aside)) => {
                let large = scanned.live.entries().filter(|entry| is_large(entry));
                let there: HashMap<u64, Id> = large
                    .map(|entry| (entry.stamp.inode, entry.content))
                    .collect();
                let taken: HashSet<u64> = scanned.deferred.iter().map(|file| file.inode).collect();
                let taken = taken.into_iter();
                let taken: Vec<_> = taken
                    .filter_map(|inode| Some((inode, *there.get(&inode)?)))
                    .collect();
                aside.keep_clones(&taken, &|inode, id| there.get(&inode) == Some(&id));
            }
            _ => {}
        }
    }
}

/// The inodes of the directories of a tree.
fn directories(live: &Live) -> impl Iterator<Item = u64> {
    let there = live.slots.iter().filter(|slot| slot.directory.is_some());
    there.map(|slot| slot.inode)
}

fn is_large(entry: &Entry) -> bool {
    entry.stamp.kind() == rustix::fs::FileType::RegularFile && entry.stamp.size > scan::DEFERRED
}
