//! What is known of the live tree: for each entry, what it looked like when its content
//! was stored. With it, only what has changed since is read again.

mod keeper;
mod kept;

use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::sync::Arc;

use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

pub use self::keeper::Keeper;
use super::apply::Written;
use super::id::Id;
use super::node::{Attribute, Time};
use super::pool::Pool;
use super::stamp::Stamp;

/// What only few entries have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extras {
    /// The extended attributes, sorted by name.
    pub attributes: Vec<Attribute>,
    /// Where a symbolic link leads.
    #[serde(with = "serde_bytes")]
    pub link: Vec<u8>,
}

/// What is to be known of an entry besides its looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// The content may have changed without a trace in the stamp.
    pub doubtful: bool,
    /// Something else is mounted there; it is not looked into.
    pub mounted: bool,
    /// It could not be read.
    pub unreadable: bool,
}

/// An entry of a directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// What it looked like.
    pub stamp: Stamp,
    /// Where its name begins among the directory's names.
    pub name: u32,
    /// The number of the directory, if it is one.
    pub directory: u32,
    /// A file's content.
    pub content: Id,
    /// More of it.
    pub marks: Marks,
    /// More of it.
    pub extras: Option<Box<Extras>>,
}

impl Entry {
    /// Whether it is a directory that is looked into.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.stamp.kind() == FileType::Directory && !self.marks.mounted
    }
}

/// A directory: its entries, sorted by name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Directory {
    /// The names, each with a NUL behind it.
    #[serde(with = "serde_bytes")]
    pub names: Vec<u8>,
    /// The entries.
    pub entries: Vec<Entry>,
    /// It could not be read.
    pub unreadable: bool,
}

impl Directory {
    /// One with room for so many entries and bytes of names, and no more: there may be many.
    #[must_use]
    pub fn with_room(entries: usize, names: usize) -> Self {
        Self {
            names: Vec::with_capacity(names),
            entries: Vec::with_capacity(entries),
            unreadable: false,
        }
    }

    /// The name of one of its entries.
    #[must_use]
    pub fn name(&self, entry: &Entry) -> &CStr {
        let rest = self.names.get(entry.name as usize..).unwrap_or_default();
        CStr::from_bytes_until_nul(rest).unwrap_or_default()
    }

    /// Adds an entry; its name must come after those that are there.
    pub fn push(&mut self, name: &CStr, mut entry: Entry) {
        entry.name = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.extend_from_slice(name.to_bytes_with_nul());
        self.entries.push(entry);
    }

    /// The entries with their names.
    pub fn named(&self) -> impl Iterator<Item = (&[u8], &Entry)> {
        let entries = self.entries.iter();
        entries.map(|entry| (self.name(entry).to_bytes(), entry))
    }
}

/// A directory's place in the tree.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Slot {
    /// The directory; none if the slot is free.
    pub directory: Option<Arc<Directory>>,
    /// The number of the directory that it is in; its own for the root.
    pub parent: u32,
    /// The directory's inode number.
    pub inode: u64,
    /// Its node, as of the last capture.
    pub node: Id,
}

/// The whole tree. Directories are numbered; the root is 0.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// The root's own looks.
    pub root: Option<Entry>,
    /// The directories.
    pub slots: Vec<Slot>,
    /// When the walk that made this began. Later changes may not show.
    pub as_of: Time,
    /// Everything changed before that was on stable storage.
    pub synced: Time,
    /// The number of each file that has several names, by its inode number.
    pub groups: HashMap<u64, u64>,
    /// The next such number; none is used twice.
    pub next_group: u64,
}

impl Live {
    /// Nothing of a tree but the numbers of its files with several names.
    #[must_use]
    pub fn nothing(&self) -> Self {
        Self {
            groups: self.groups.clone(),
            next_group: self.next_group,
            ..Self::default()
        }
    }

    /// The inodes of the files that may have changed without a trace.
    #[must_use]
    pub fn doubtful(&self, pool: &Pool) -> HashSet<u64> {
        let directories = self.slots.par_iter().map(|slot| &slot.directory);
        let entries = directories.flatten().flat_map_iter(|it| &it.entries);
        let doubtful = entries.filter(|entry| entry.marks.doubtful);
        pool.run(|| doubtful.map(|entry| entry.stamp.inode).collect())
    }

    /// The directory with this number.
    #[must_use]
    pub fn directory(&self, number: u32) -> Option<&Arc<Directory>> {
        self.slots.get(number as usize)?.directory.as_ref()
    }

    /// The node of the directory with this number.
    #[must_use]
    pub fn node(&self, number: u32) -> Id {
        let slot = self.slots.get(number as usize);
        slot.map_or(Id::HOLE, |slot| slot.node)
    }

    /// Gives each file with several names that has no number yet one.
    pub fn number_group(&mut self, inode: u64) {
        let next = &mut self.next_group;
        self.groups.entry(inode).or_insert_with(|| {
            *next += 1;
            *next
        });
    }

    /// Forgets the contents and nodes that are not `there` any more: the files have to be
    /// read again. Returns the directories whose nodes have to be stored again.
    pub fn forget(&mut self, there: &dyn Fn(&Id) -> bool) -> Vec<u32> {
        let mut changed = Vec::new();
        for (number, slot) in (0_u32..).zip(&mut self.slots) {
            let Some(directory) = &mut slot.directory else {
                continue;
            };
            if !there(&slot.node) {
                changed.push(number);
            }
            let gone = |entry: &Entry| entry.content != Id::HOLE && !there(&entry.content);
            if directory.entries.iter().any(gone) {
                let entries = &mut Arc::make_mut(directory).entries;
                for entry in entries.iter_mut().filter(|entry| gone(entry)) {
                    entry.content = Id::HOLE;
                    entry.marks.doubtful = true;
                }
            }
        }
        changed
    }

    /// Gives files that were written the numbers that they have in the checkpoint.
    pub fn set_groups(&mut self, written: &HashMap<u64, Written>) {
        let numbered = written
            .iter()
            .filter_map(|(inode, written)| Some((*inode, written.group?)));
        let numbered: HashMap<u64, u64> = numbered.collect();
        if numbered.is_empty() {
            return;
        }
        // No number twice: inodes that had them are no more.
        let taken: HashSet<u64> = numbered.values().copied().collect();
        self.groups.retain(|_, group| !taken.contains(group));
        self.next_group = taken
            .into_iter()
            .max()
            .unwrap_or_default()
            .max(self.next_group);
        self.groups.extend(numbered);
    }

    /// The names that lead from the root to the directory with this number, innermost
    /// first; none if it is in no directory.
    #[must_use]
    pub fn names_to(&self, mut number: u32) -> Option<Vec<&[u8]>> {
        let mut names = Vec::new();
        while number != 0 {
            let parent = self.slots.get(number as usize)?.parent;
            let mut all = self.directory(parent)?.named();
            let (name, _) = all.find(|(_, e)| e.is_directory() && e.directory == number)?;
            names.push(name);
            number = parent;
        }
        Some(names)
    }

    /// All entries but the root.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        let directories = self.slots.iter().filter_map(|slot| slot.directory.as_ref());
        directories.flat_map(|directory| &directory.entries)
    }
}
