//! Large files that have changed: read at once, read where they differ from what they were,
//! or left for later.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use super::super::frozen::{self, Aside};
use super::super::id::Id;
use super::super::live::Entry;
use super::super::lock;
use super::super::objects::Encoder;
use super::super::place::Place;
use super::super::pool::WAITING;
use super::super::stamp::{self, Stamp};
use super::content::{Large, Older};
use super::{Found, Walk, lists, now};

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
    /// They are cloned, but for those that have not changed since they were, and read afterwards.
    /// A clone takes the longer the more extents there are, and an update of it less.
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
    /// What it looked like when it was cloned; none if it was not, or may have changed since and
    /// look the same.
    pub cloned: Option<Stamp>,
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
        let mut cloned = None;
        let content = known.map_or(Id::HOLE, |known| known.content);
        match self.scan.look.large {
            LargeFiles::Read => return None,
            LargeFiles::Compare(snapshot) => {
                let known = known.filter(|known| known.content != Id::HOLE)?;
                let older = frozen::same_file(snapshot, &path(), &stamp?)?;
                return Older::of(self.scan.objects, &older, file, known.content)
                    .map(Later::Compared);
            }
            LargeFiles::Leave => {}
            LargeFiles::Clone(aside) => match self.clone_large(aside, file, content) {
                Ok(looks) => cloned = looks,
                Err(error) => {
                    tracing::debug!("a file that cannot be cloned is read: {error}");
                    return None;
                }
            },
        }
        entry.content = content;
        // Until it has been read.
        entry.marks.doubtful = true;
        lock(&self.found).push(Found::Deferred(Deferred {
            inode,
            size,
            old: entry.content,
            stamp,
            cloned,
            path: String::from_utf8_lossy(&path()).into_owned().into(),
        }));
        Some(Later::Deferred)
    }

    /// Clones a large file of which this content was known, unless its clone is still what it is.
    /// Returns what it looked like then; none if the next change may not show.
    fn clone_large(&self, aside: &Aside, file: &OwnedFd, known: Id) -> io::Result<Option<Stamp>> {
        let hints = self.scan.look.hints;
        let at = now();
        // It may have changed since its directory was looked at.
        let (looks, _) = stamp::stamp_of(file.as_fd())?;
        let is_same = hints.cloned.get(&looks.inode) == Some(&looks)
            && !hints.distrusted.contains(&looks.inode);
        if !is_same {
            aside.clone_file(file, looks.inode, known)?;
        }
        let quiet = at.since_epoch().saturating_sub(looks.changed.since_epoch());
        Ok((quiet >= self.scan.granularity).then_some(looks))
    }
}
