//! A tree in the making, from the entries of an archive in whatever order they come.

use std::collections::BTreeMap;

use super::super::id::Id;
use super::super::node::{self, Attribute, Kind, Time};
use super::super::objects::{Encoder, Objects};
use crate::checkpoint::driver::Error;

/// Everything of an entry but its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub modified: Time,
    pub attributes: Vec<Attribute>,
    pub kind: ItemKind,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemKind {
    File {
        size: u64,
        content: Id,
        group: Option<u64>,
    },
    /// The number of the directory in the tree.
    Directory(usize),
    Link(Vec<u8>),
    Fifo,
    Character(u64),
    Block(u64),
}

/// The tree. Directory 0 is its root; each comes behind the one that it is in.
#[derive(Debug)]
pub struct Tree {
    directories: Vec<BTreeMap<Vec<u8>, Item>>,
    root: Item,
    groups: u64,
}

/// A directory of which the archive says nothing.
fn plain_directory(number: usize) -> Item {
    Item {
        mode: 0o755,
        uid: 0,
        gid: 0,
        modified: Time::default(),
        attributes: Vec::new(),
        kind: ItemKind::Directory(number),
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            directories: vec![BTreeMap::new()],
            root: plain_directory(0),
            groups: 0,
        }
    }
}

impl Tree {
    /// Puts an entry at `path`, in the place of what the archive had there before. For a
    /// directory, `item` says 0 and gets its number. Fails with the reason.
    pub fn insert(&mut self, path: &[&[u8]], mut item: Item) -> Result<(), &'static str> {
        let is_directory = matches!(item.kind, ItemKind::Directory(_));
        let Some((name, above)) = path.split_last() else {
            if !is_directory {
                return Err("the root must be a directory");
            }
            self.root = item;
            return Ok(());
        };
        let directory = self.make_all(above)?;
        let next = self.directories.len();
        let Some(entries) = self.directories.get_mut(directory) else {
            return Err("its directory was lost");
        };
        let there = entries.get(*name).and_then(|there| match there.kind {
            ItemKind::Directory(number) => Some(number),
            _ => None,
        });
        if is_directory {
            item.kind = ItemKind::Directory(there.unwrap_or(next));
        }
        entries.insert(name.to_vec(), item);
        match there {
            None if is_directory => self.directories.push(BTreeMap::new()),
            Some(replaced) if !is_directory => self.clear(replaced),
            _ => {}
        }
        Ok(())
    }

    /// Empties a directory that is no longer in the tree, and those in it.
    fn clear(&mut self, number: usize) {
        let mut left = vec![number];
        while let Some(number) = left.pop() {
            let entries = self.directories.get_mut(number).map(std::mem::take);
            let items = entries.into_iter().flat_map(BTreeMap::into_values);
            left.extend(items.filter_map(|item| match item.kind {
                ItemKind::Directory(number) => Some(number),
                _ => None,
            }));
        }
    }

    /// The number of the directory at `path`; what is missing of it is made.
    fn make_all(&mut self, path: &[&[u8]]) -> Result<usize, &'static str> {
        let mut at = 0;
        for name in path {
            let next = self.directories.len();
            let Some(entries) = self.directories.get_mut(at) else {
                return Err("its directory was lost");
            };
            let item = entries
                .entry(name.to_vec())
                .or_insert_with(|| plain_directory(next));
            let ItemKind::Directory(number) = item.kind else {
                return Err("it is below something that is no directory");
            };
            if number == next {
                self.directories.push(BTreeMap::new());
            }
            at = number;
        }
        Ok(at)
    }

    /// Makes `path` another name of the file at `target`.
    pub fn link(&mut self, path: &[&[u8]], target: &[&[u8]]) -> Result<(), &'static str> {
        let groups = self.groups + 1;
        let file = self.find(target).ok_or("it links to nothing before it")?;
        if let ItemKind::File { group, .. } = &mut file.kind {
            group.get_or_insert(groups);
        }
        let file = file.clone();
        if matches!(file.kind, ItemKind::Directory(_)) {
            return Err("it links to a directory");
        }
        self.groups = groups;
        self.insert(path, file)
    }

    fn find(&mut self, path: &[&[u8]]) -> Option<&mut Item> {
        let (name, above) = path.split_last()?;
        let mut at = 0;
        for name in above {
            match self.directories.get(at)?.get(*name)?.kind {
                ItemKind::Directory(number) => at = number,
                _ => return None,
            }
        }
        self.directories.get_mut(at)?.get_mut(*name)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.directories.iter().all(BTreeMap::is_empty)
    }

    /// How many entries it has, and how many bytes its files have.
    pub fn count(&self) -> (u64, u64) {
        let all = self.directories.iter().flat_map(BTreeMap::values);
        all.fold((0, 0), |(entries, bytes), item| match item.kind {
            ItemKind::File { size, .. } => (entries + 1, bytes + size),
            _ => (entries + 1, bytes),
        })
    }

    /// Stores its nodes; returns that which has the root as its only entry.
    pub fn store(&self, objects: &Objects, encoder: &mut Encoder) -> Result<Id, Error> {
        let mut nodes = vec![Id::HOLE; self.directories.len()];
        let put = |entries: &[node::Entry], encoder: &mut Encoder| {
            super::super::nodes::put(entries, objects, encoder)
        };
        // What is in a directory comes behind it.
        for (number, directory) in self.directories.iter().enumerate().rev() {
            let entries = directory.iter();
            let entries: Vec<_> = entries.map(|(name, it)| entry(name, it, &nodes)).collect();
            let id = put(&entries, encoder)?;
            if let Some(node) = nodes.get_mut(number) {
                *node = id;
            }
        }
        put(&[entry(b"", &self.root, &nodes)], encoder)
    }
}

fn entry<'a>(name: &'a [u8], item: &'a Item, nodes: &[Id]) -> node::Entry<'a> {
    node::Entry {
        name,
        mode: item.mode,
        uid: item.uid,
        gid: item.gid,
        modified: item.modified,
        attributes: item.attributes.clone(),
        kind: match &item.kind {
            ItemKind::File {
                size,
                content,
                group,
            } => Kind::File {
                size: *size,
                content: *content,
                group: *group,
            },
            ItemKind::Directory(number) => Kind::Directory {
                node: nodes.get(*number).copied().unwrap_or(Id::HOLE),
            },
            ItemKind::Link(to) => Kind::Link(to),
            ItemKind::Fifo => Kind::Fifo,
            ItemKind::Character(device) => Kind::Character(*device),
            ItemKind::Block(device) => Kind::Block(*device),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(kind: ItemKind) -> Item {
        Item {
            kind,
            ..plain_directory(0)
        }
    }

    fn file(size: u64) -> Item {
        item(ItemKind::File {
            size,
            content: Id::HOLE,
            group: None,
        })
    }

    #[test]
    fn entries_may_come_in_any_order() {
        let mut tree = Tree::default();
        tree.insert(&[b"a", b"b", b"file"], file(5)).unwrap();
        tree.insert(&[b"a"], item(ItemKind::Directory(0))).unwrap();
        tree.link(&[b"other"], &[b"a", b"b", b"file"]).unwrap();
        tree.insert(&[], item(ItemKind::Directory(0))).unwrap();
        assert_eq!(tree.count(), (4, 10));
        let group = |item: Option<&mut Item>| match item.map(|item| item.kind.clone()) {
            Some(ItemKind::File { group, .. }) => group,
            other => panic!("{other:?}"),
        };
        assert_eq!(group(tree.find(&[b"a", b"b", b"file"])), Some(1));
        assert_eq!(group(tree.find(&[b"other"])), Some(1));
        // What comes later counts.
        tree.insert(&[b"a", b"b"], item(ItemKind::Fifo)).unwrap();
        assert!(tree.find(&[b"a", b"b", b"file"]).is_none());
        assert_eq!(tree.count(), (3, 5));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let mut tree = Tree::default();
        assert!(tree.insert(&[], file(1)).is_err());
        tree.insert(&[b"file"], file(1)).unwrap();
        assert!(tree.insert(&[b"file", b"below"], file(1)).is_err());
        assert!(tree.link(&[b"x"], &[b"nothing"]).is_err());
        tree.insert(&[b"d"], item(ItemKind::Directory(0))).unwrap();
        assert!(tree.link(&[b"x"], &[b"d"]).is_err());
    }
}
