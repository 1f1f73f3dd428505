//! From the live tree to nodes: what makes a checkpoint of a walk.

use std::path::PathBuf;

use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
use rustix::fs::FileType;

use super::super::driver::Error;
use super::super::manifest::UNREADABLE;
use super::id::Id;
use super::live::{self, Directory, Live, Slot};
use super::node::{self, Attribute, Kind};
use super::objects::{Encoder, Objects};
use super::pool::Pool;
use super::scan::Scanned;

/// How many things that could not be captured are named in a manifest.
const NAMED: usize = 10_000;
const SOCKET: &str = "a socket has no content";

/// What a tree comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many entries it has, its root not counted.
    pub entries: u64,
    /// How many bytes its files have.
    pub bytes: u64,
    /// What could not be captured, and why.
    pub skipped: Vec<String>,
}

/// Stores the nodes of the directories that have changed, and of all above them. Returns
/// the node that has the root as its only entry, without a name.
pub fn store(scanned: &mut Scanned, objects: &Objects, pool: &Pool) -> Result<Id, Error> {
    let live = &mut scanned.live;
    let encoders = pool.workers(Encoder::default);
    for level in innermost_first(live, &scanned.changed).chunk_by(|(a, _), (b, _)| a == b) {
        let stored = |(_, number): &(u32, u32)| {
            let directory = live.directory(*number)?;
            let entries = entries(live, directory);
            let stored = put(&entries, objects, &mut encoders.mine());
            Some(stored.map(|id| (*number, id)))
        };
        let stored: Result<Vec<_>, Error> =
            pool.run(|| level.par_iter().filter_map(stored).collect());
        for (number, id) in stored? {
            if let Some(slot) = live.slots.get_mut(number as usize) {
                slot.node = id;
            }
        }
    }
    scanned.changed.clear();
    let root = live.root.as_ref().map(|root| entry(live, b"", root));
    put(root.as_slice(), objects, &mut Encoder::default())
}

/// Stores the node with these entries.
pub fn put(entries: &[node::Entry], objects: &Objects, encoder: &mut Encoder) -> Result<Id, Error> {
    let bytes = node::encode(entries);
    let bytes =
        bytes.map_err(|error| Error::Unusable(format!("cannot encode a directory: {error}")))?;
    objects.put(encoder, &bytes)
}

/// The directories that are to be stored anew, each before the one that it is in, and how deep
/// they are.
fn innermost_first(live: &Live, changed: &[u32]) -> Vec<(u32, u32)> {
    let parent = |number: u32| {
        live.slots
            .get(number as usize)
            .map_or(0, |slot| slot.parent)
    };
    let mut depths: std::collections::HashMap<u32, u32> = std::collections::HashMap::from([(0, 0)]);
    let mut path = Vec::new();
    for number in changed {
        let mut at = *number;
        // Up to the first whose depth is known, and down again.
        while !depths.contains_key(&at) {
            path.push(at);
            at = parent(at);
        }
        let mut depth = depths.get(&at).copied().unwrap_or_default();
        while let Some(number) = path.pop() {
            depth += 1;
            depths.insert(number, depth);
        }
    }
    if changed.is_empty() {
        depths.clear();
    }
    let mut all: Vec<(u32, u32)> = depths
        .into_iter()
        .map(|(number, depth)| (depth, number))
        .collect();
    all.sort_unstable_by(|a, b| b.cmp(a));
    all
}

/// The entries of a node. Sockets are left out: they have no content, and what made them
/// makes them anew.
fn entries<'a>(live: &Live, directory: &'a Directory) -> Vec<node::Entry<'a>> {
    let kept = directory
        .named()
        .filter(|(_, e)| e.stamp.kind() != FileType::Socket);
    kept.map(|(name, e)| entry(live, name, e)).collect()
}

fn entry<'a>(live: &Live, name: &'a [u8], entry: &'a live::Entry) -> node::Entry<'a> {
    let stamp = &entry.stamp;
    let extras = entry.extras.as_deref();
    let attributes = extras.map_or_else(Vec::<Attribute>::new, |extras| extras.attributes.clone());
    let kind = match stamp.kind() {
        kind if entry.marks.unreadable || (entry.marks.mounted && kind != FileType::Directory) => {
            Kind::Unreadable
        }
        FileType::Directory => {
            let readable = entry.marks.mounted
                || live
                    .directory(entry.directory)
                    .is_some_and(|directory| !directory.unreadable);
            match (readable, entry.marks.mounted) {
                (false, _) => Kind::Unreadable,
                // What is mounted there is none of ours; the place for it is.
                (_, true) => Kind::Directory { node: Id::HOLE },
                _ => Kind::Directory {
                    node: live.node(entry.directory),
                },
            }
        }
        FileType::Symlink => Kind::Link(extras.map_or(&[], |extras| &extras.link)),
        FileType::Fifo => Kind::Fifo,
        FileType::CharacterDevice => Kind::Character(stamp.size),
        FileType::BlockDevice => Kind::Block(stamp.size),
        _ => Kind::File {
            size: stamp.size,
            content: entry.content,
            group: stamp
                .is_group()
                .then(|| live.groups.get(&stamp.inode).copied().unwrap_or_default()),
        },
    };
    node::Entry {
        name,
        mode: stamp.mode & 0o7777,
        uid: stamp.uid,
        gid: stamp.gid,
        modified: stamp.modified,
        attributes,
        kind,
    }
}

/// What the tree comes to.
#[must_use]
pub fn summary(live: &Live, pool: &Pool) -> Summary {
    // Every entry is looked at, a million in a large tree: by all threads.
    let tallies: Vec<Tally> = pool.run(|| live.slots.par_iter().map(Tally::of).collect());
    let mut summary = Summary::default();
    let mut unnamed = 0;
    for ((number, slot), tally) in (0_u32..).zip(&live.slots).zip(tallies) {
        summary.entries += tally.entries;
        summary.bytes += tally.bytes;
        let Some(directory) = slot.directory.as_ref().filter(|_| !tally.is_whole) else {
            continue;
        };
        let mut skip = |name: &[u8], why: &str| {
            if summary.skipped.len() < NAMED {
                let path = path(live, number, name);
                summary.skipped.push(format!("{}: {why}", path.display()));
            } else {
                unnamed += 1;
            }
        };
        if directory.unreadable {
            skip(b"", UNREADABLE);
        }
        for (name, entry) in directory.named() {
            if let Some(why) = why_skipped(entry) {
                skip(name, why);
            }
        }
    }
    if unnamed > 0 {
        summary.skipped.push(format!("and {unnamed} more"));
    }
    summary
}

/// What a directory comes to, what is below it not counted.
#[derive(Default)]
struct Tally {
    entries: u64,
    bytes: u64,
    /// Whether all of it could be captured.
    is_whole: bool,
}

impl Tally {
    fn of(slot: &Slot) -> Self {
        let Some(directory) = &slot.directory else {
            return Self::default();
        };
        let mut tally = Self {
            is_whole: !directory.unreadable,
            ..Self::default()
        };
        for entry in &directory.entries {
            let why = why_skipped(entry);
            tally.is_whole &= why.is_none();
            tally.entries += u64::from(why != Some(SOCKET));
            if why.is_none() && entry.stamp.kind() == FileType::RegularFile {
                tally.bytes += entry.stamp.size;
            }
        }
        tally
    }
}

/// Why an entry could not be captured; none if it was.
fn why_skipped(entry: &live::Entry) -> Option<&'static str> {
    if entry.marks.unreadable {
        Some(UNREADABLE)
    } else if entry.marks.mounted {
        Some("another filesystem is mounted there")
    } else if entry.stamp.kind() == FileType::Socket {
        Some(SOCKET)
    } else {
        None
    }
}

/// The path of an entry from the root of the tree.
fn path(live: &Live, number: u32, name: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    let above = live.names_to(number).unwrap_or_default();
    let names = above.into_iter().rev().chain([name]);
    let names = names.filter(|name| !name.is_empty());
    names.map(std::ffi::OsStr::from_bytes).collect()
}
