//! The inodes of mounted checkpoints.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo};

use super::super::id::Id;
use super::super::node::{self, Attribute, Kind, Time};
use super::super::objects::{Decoder, Objects};
use super::super::{apply, lock, plan};
use crate::checkpoint::driver::{Content, Error, FileContent};

/// How many directories are kept decoded.
const DIRECTORIES: usize = 64;
/// The length of the blocks that `stat` counts.
const BLOCK: u64 = 512;

/// Something in a checkpoint.
#[derive(Debug)]
pub struct Item {
    pub what: What,
    pub kind: FileType,
    pub extended: Vec<Attribute>,
    mode: u32,
    uid: u32,
    gid: u32,
    modified: SystemTime,
    /// The names of the same file have the same one, in a tree with the same root.
    group: Option<(Id, u64)>,
}

/// What it is.
#[derive(Debug)]
pub enum What {
    /// A directory in the tree with this root, and its node.
    Directory {
        root: Id,
        node: Id,
    },
    File(FileContent),
    Link(Vec<u8>),
    Device(u64),
    Other,
}

/// The entries of a directory, sorted by name.
pub type Directory = Arc<Vec<(Vec<u8>, Arc<Item>)>>;

impl Item {
    fn new(root: Id, entry: &node::Entry) -> Self {
        let (what, kind) = match entry.kind {
            Kind::File { size, content, .. } => {
                let content = FileContent {
                    size,
                    content: Content::Stored(content),
                };
                (What::File(content), FileType::RegularFile)
            }
            Kind::Directory { node } => (What::Directory { root, node }, FileType::Directory),
            Kind::Link(to) => (What::Link(to.to_vec()), FileType::Symlink),
            Kind::Character(device) => (What::Device(device), FileType::CharDevice),
            Kind::Block(device) => (What::Device(device), FileType::BlockDevice),
            Kind::Fifo | Kind::Unreadable => (What::Other, FileType::NamedPipe),
        };
        let group = match entry.kind {
            Kind::File { group, .. } => group.map(|group| (root, group)),
            _ => None,
        };
        Self {
            what,
            kind,
            extended: entry.attributes.clone(),
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            modified: system_time(entry.modified),
            group,
        }
    }

    /// The root of a tree.
    pub fn root(objects: &Objects, root: Id) -> Result<Self, Error> {
        let mut decoder = Decoder::default();
        let bytes = objects.get(&mut decoder, &root)?.to_vec();
        let (entry, _) = apply::root_of(&bytes, root)?;
        Ok(Self::new(root, &entry))
    }

    /// A link of our own.
    pub fn link(to: Vec<u8>) -> Self {
        Self {
            what: What::Link(to),
            kind: FileType::Symlink,
            ..Self::top()
        }
    }

    /// The directory that all checkpoints are in.
    fn top() -> Self {
        Self {
            what: What::Other,
            kind: FileType::Directory,
            extended: Vec::new(),
            mode: 0o755,
            uid: 0,
            gid: 0,
            modified: UNIX_EPOCH,
            group: None,
        }
    }

    /// What `stat` tells of it.
    pub fn attributes(&self, number: u64) -> FileAttr {
        let (size, rdev) = match &self.what {
            What::File(content) => (content.size, 0),
            What::Link(to) => (to.len() as u64, 0),
            // A device number that is too large for the protocol is none.
            What::Device(device) => (0, u32::try_from(*device).unwrap_or(0)),
            What::Directory { .. } | What::Other => (0, 0),
        };
        FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size.div_ceil(BLOCK),
            atime: self.modified,
            mtime: self.modified,
            ctime: self.modified,
            crtime: self.modified,
            kind: self.kind,
            perm: u16::try_from(self.mode & 0o7777).unwrap_or(0),
            // Of a file with several names nobody has counted them.
            nlink: if self.group.is_some() { 2 } else { 1 },
            uid: self.uid,
            gid: self.gid,
            rdev,
            blksize: 4096,
            flags: 0,
        }
    }
}

fn system_time(time: Time) -> SystemTime {
    let nanoseconds = Duration::from_nanos(time.nanoseconds.into());
    let seconds = Duration::from_secs(time.seconds.unsigned_abs());
    let whole = if time.seconds < 0 {
        UNIX_EPOCH.checked_sub(seconds)
    } else {
        UNIX_EPOCH.checked_add(seconds)
    };
    whole.unwrap_or(UNIX_EPOCH) + nanoseconds
}

/// The inode number of the entry `name` of a directory: always the same.
pub fn number(parent: u64, name: &[u8], item: &Item) -> u64 {
    let mut hasher = blake3::Hasher::new();
    match &item.group {
        Some((root, group)) => hasher.update(root.as_bytes()).update(&group.to_le_bytes()),
        None => hasher.update(&parent.to_le_bytes()).update(name),
    };
    let hash = hasher.finalize();
    let first = hash.as_bytes().first_chunk().copied().unwrap_or_default();
    // Not 0, which is none, nor 1, which is the root.
    u64::from_le_bytes(first) | 1 << 63
}

/// What the kernel knows by number, and what was decoded lately.
#[derive(Debug, Default)]
pub struct Inodes {
    known: Mutex<HashMap<u64, (Arc<Item>, u64)>>,
    directories: Mutex<VecDeque<(Id, Id, Directory)>>,
}

impl Inodes {
    /// What has this number.
    pub fn get(&self, number: u64) -> Option<Arc<Item>> {
        if number == u64::from(INodeNo::ROOT) {
            return Some(Arc::new(Item::top()));
        }
        let known = lock(&self.known);
        known.get(&number).map(|(item, _)| Arc::clone(item))
    }

    /// Notes that the kernel has looked it up once more.
    pub fn remember(&self, number: u64, item: &Arc<Item>) {
        let mut known = lock(&self.known);
        let (_, lookups) = known.entry(number).or_insert((Arc::clone(item), 0));
        *lookups += 1;
    }

    /// Notes that it has forgotten so many of them.
    pub fn forget(&self, number: u64, lookups: u64) {
        let mut known = lock(&self.known);
        if let Some((_, left)) = known.get_mut(&number) {
            *left = left.saturating_sub(lookups);
            if *left == 0 {
                known.remove(&number);
            }
        }
    }

    /// What is in the directory with this node.
    pub fn directory(&self, objects: &Objects, root: Id, node: Id) -> Result<Directory, Error> {
        if node == Id::HOLE {
            return Ok(Directory::default());
        }
        let lately = lock(&self.directories);
        let found = lately.iter().find(|(r, n, _)| (*r, *n) == (root, node));
        if let Some((_, _, directory)) = found {
            return Ok(Arc::clone(directory));
        }
        drop(lately);
        let mut decoder = Decoder::default();
        let bytes = objects.get(&mut decoder, &node)?;
        let entries = plan::decode(bytes, &node)?;
        let entries = entries.iter();
        let items = entries.map(|entry| (entry.name.to_vec(), Arc::new(Item::new(root, entry))));
        let directory: Directory = Arc::new(items.collect());
        let mut lately = lock(&self.directories);
        lately.push_back((root, node, Arc::clone(&directory)));
        if lately.len() > DIRECTORIES {
            lately.pop_front();
        }
        Ok(directory)
    }
}
