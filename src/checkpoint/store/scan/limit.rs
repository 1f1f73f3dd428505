//! A walk of a part of the tree: of those directories only in which something may have
//! changed.

use std::collections::{HashMap, HashSet};

use rayon::iter::{
    IndexedParallelIterator as _, IntoParallelRefIterator as _, ParallelIterator as _,
};

use super::super::live::{Directory, Entry, Live, Slot};
use super::super::pool::Pool;

/// The directories that are looked at, by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// Those that are read.
    read: HashSet<u32>,
    /// Those, and all above them.
    reached: HashSet<u32>,
}

impl Limit {
    /// Directories with these inode numbers, and those that have an entry with one of
    /// `files`.
    #[must_use]
    pub fn to(pool: &Pool, live: &Live, directories: &HashSet<u64>, files: &HashSet<u64>) -> Self {
        let has = |directory: &Directory| {
            let mut entries = directory.entries.iter();
            !files.is_empty() && entries.any(|entry| files.contains(&entry.stamp.inode))
        };
        let is_read = |slot: &Slot| {
            let directory = slot.directory.as_ref();
            directory.is_some_and(|it| directories.contains(&slot.inode) || has(it))
        };
        let slots = live.slots.par_iter().enumerate();
        let read = slots.filter(|(_, slot)| is_read(slot));
        let read = read.filter_map(|(number, _)| u32::try_from(number).ok());
        let read: Vec<u32> = pool.run(|| read.collect());
        let mut limit = Self::default();
        for number in read {
            limit.add(live, number);
        }
        limit
    }

    fn add(&mut self, live: &Live, number: u32) {
        self.read.insert(number);
        let parent = |number: u32| {
            live.slots
                .get(number as usize)
                .map_or(0, |slot| slot.parent)
        };
        // What a directory itself looks like is known to the one that it is in.
        self.read.insert(parent(number));
        let mut at = number;
        while self.reached.insert(at) {
            at = parent(at);
        }
    }

    /// Takes out what `other` reads too. Returns whether something is left to read.
    pub fn without(&mut self, other: &Self) -> bool {
        self.read.retain(|number| !other.read.contains(number));
        !self.read.is_empty()
    }

    /// Takes in what `other` has.
    pub fn join(&mut self, other: Self) {
        self.read.extend(other.read);
        self.reached.extend(other.reached);
    }

    /// Whether a directory is read.
    pub(super) fn reads(&self, number: u32) -> bool {
        self.read.contains(&number)
    }

    /// Whether a directory is read, or one below it.
    pub(super) fn reaches(&self, number: u32) -> bool {
        self.reached.contains(&number)
    }
}

/// Frees the slots of directories that are no more in one of those that were made anew.
/// Returns the inodes of files with several names that had one in them: nobody was told of
/// the directories that their other names are in.
pub fn drop_removed(live: &mut Live, previous: &Live, fresh: &[u32]) -> HashSet<u64> {
    let directories = |directory: Option<&std::sync::Arc<Directory>>| -> Vec<u32> {
        let entries = directory
            .into_iter()
            .flat_map(|directory| &directory.entries);
        entries
            .filter(|entry| entry.is_directory())
            .map(|entry| entry.directory)
            .collect()
    };
    let mut left = Vec::new();
    for number in fresh {
        let now: HashSet<u32> = directories(live.directory(*number)).into_iter().collect();
        let before = directories(previous.directory(*number)).into_iter();
        left.extend(
            before
                .filter(|child| !now.contains(child))
                .map(|child| (*number, child)),
        );
    }
    let mut relinked = HashSet::new();
    while let Some((parent, number)) = left.pop() {
        // It may only have been moved.
        if live
            .slots
            .get(number as usize)
            .is_none_or(|slot| slot.parent != parent)
        {
            continue;
        }
        left.extend(
            directories(live.directory(number))
                .into_iter()
                .map(|child| (number, child)),
        );
        if let Some(slot) = live.slots.get_mut(number as usize) {
            let dropped = std::mem::take(slot).directory;
            let entries = dropped.iter().flat_map(|directory| &directory.entries);
            let groups = entries.filter(|entry| entry.stamp.is_group());
            relinked.extend(groups.map(|entry| entry.stamp.inode));
        }
    }
    relinked
}

/// The inodes of files with several names of which one has changed, appeared or gone: all
/// their names look different now.
pub fn relinked(previous: &Live, fresh: &HashMap<u32, Directory>) -> HashSet<u64> {
    let mut inodes = HashSet::new();
    for (number, directory) in fresh {
        let nothing = Directory::default();
        let before = previous.directory(*number).map_or(&nothing, AsRef::as_ref);
        let old: HashMap<&[u8], &Entry> = before.named().collect();
        let new: HashMap<&[u8], &Entry> = directory.named().collect();
        let differ = |name: &[u8], entry: &Entry, other: &HashMap<&[u8], &Entry>| {
            entry.stamp.is_group()
                && other
                    .get(name)
                    .is_none_or(|other| other.stamp != entry.stamp)
        };
        let gone = old.iter().filter(|(name, entry)| differ(name, entry, &new));
        let come = new.iter().filter(|(name, entry)| differ(name, entry, &old));
        inodes.extend(gone.chain(come).map(|(_, entry)| entry.stamp.inode));
    }
    inodes
}
