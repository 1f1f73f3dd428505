//! Large files that have changed: read at once, read where they differ from what they were,
//! or left for later.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::frozen::{self, Aside};
use super::super::id::Id;
use super::super::live::Entry;
use super::super::lock;
use super::super::objects::Encoder;
use super::super::place::Place;
use super::super::pool::WAITING;
use super::super::stamp::Stamp;
use super::content::{Large, Older};
use super::{Found, Walk, lists};

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
    /// Has the lists of a large file stored by whichever threads are free, in any order among
    /// all that wait: there are blocks then that take long to compress and blocks that take
    /// long to write at any time, and neither the processors nor the disk are idle for long.
    /// The calling thread helps as long as too many wait, each of which may be the one for
    /// which its file is open.
    pub(super) fn spawn_lists<'s>(
        &'s self,
        scope: &rayon::Scope<'s>,
        encoder: &mut Encoder,
        large: &Arc<Large>,
    ) {
        for index in 0..usize::try_from(lists(large.size)).unwrap_or(usize::MAX) {
            let waiting = {
                let mut waiting = lock(&self.waiting);
                waiting.push((Arc::clone(large), index));
                waiting.len()
            };
            if waiting > WAITING {
                self.list(encoder);
            } else {
                scope.spawn(|_| self.list(&mut self.workers.mine().encoder));
            }
        }
    }

    /// Stores the blocks of one of the lists that wait.
    fn list(&self, encoder: &mut Encoder) {
        let (large, index) = {
            let mut waiting = lock(&self.waiting);
            if waiting.is_empty() {
                return;
            }
            let any = fastrand::usize(..waiting.len());
            waiting.swap_remove(any)
        };
        match large.list(&self.scan.storing(), encoder, index) {
            Ok((list, torn)) => lock(&self.found).push(Found::List {
                spot: large.spot,
                index,
                list,
                torn,
            }),
            Err(error) => {
                let _ = self.failure.set(error);
            }
        }
    }

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
