//! Large files that have changed: read at once, read where they differ from what they were,
//! or left for later.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::super::frozen::{self, Aside};
use super::super::id::Id;
use super::super::live::Entry;
use super::super::lock;
use super::super::place::Place;
use super::super::stamp::Stamp;
use super::content::Older;
use super::{Found, Walk};

/// Files up to this length are read at once, whatever the filesystem can do.
pub const DEFERRED: u64 = 1 << 20;

/// What becomes of large files that have changed.
#[derive(Clone, Copy, Debug)]
pub enum LargeFiles<'a> {
    /// They are read.
    Read,
    /// They are read where they differ from this older snapshot.
    Compare(&'a Place),
    /// They are left for the next walk.
    Leave,
    /// They are cloned, and read afterwards.
    Clone(&'a Aside),
}

/// A large file whose content is still to be found.
#[derive(Clone, Debug)]
pub struct Deferred {
    /// Its inode.
    pub inode: u64,
    /// Its length.
    pub size: u64,
    /// The content that it had when it was read last; none if it never was.
    pub old: Id,
    /// What it looked like then.
    pub stamp: Option<Stamp>,
    /// Its path, for people.
    pub path: PathBuf,
}

/// What is done about a large file besides reading all of it.
pub enum Later {
    /// It is read later.
    Deferred,
    /// It is read where it differs.
    Compared(Older),
}

impl Walk<'_> {
    /// What is done about a large file, if it need not be read whole, or not now.
    pub(super) fn defer(
        &self,
        file: &OwnedFd,
        entry: &mut Entry,
        known: Option<&Entry>,
        path: &dyn Fn() -> Vec<u8>,
    ) -> Option<Later> {
        let (size, inode) = (entry.stamp.size, entry.stamp.inode);
        if size <= DEFERRED {
            return None;
        }
        let left = self.scan.look.hints.left.get(&inode).copied();
        let stamp = left.or(known.map(|known| known.stamp));
        match self.scan.look.large {
            LargeFiles::Read => return None,
            LargeFiles::Compare(snapshot) => {
                let known = known.filter(|known| known.content != Id::HOLE)?;
                let older = frozen::same_file(snapshot, &path(), &stamp?)?;
                return Older::of(self.scan.objects, &older, file, known.content)
                    .map(Later::Compared);
            }
            LargeFiles::Leave => {}
            LargeFiles::Clone(aside) => {
                if let Err(error) = aside.clone_file(file, inode) {
                    tracing::debug!("a file that cannot be cloned is read: {error}");
                    return None;
                }
            }
        }
        entry.content = known.map_or(Id::HOLE, |known| known.content);
        // Until it has been read.
        entry.marks.doubtful = true;
        lock(&self.found).push(Found::Deferred(Deferred {
            inode,
            size,
            old: entry.content,
            stamp,
            path: String::from_utf8_lossy(&path()).into_owned().into(),
        }));
        Some(Later::Deferred)
    }
}
