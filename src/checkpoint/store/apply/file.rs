//! The content of a file that is restored: written anew, or patched where it differs.

use std::ffi::CString;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{self as sys, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

use super::super::super::driver::{Context as _, Error};
use super::super::id::Id;
use super::super::node::{self, BLOCK, BLOCKS};
use super::super::objects::Decoder;
use super::super::pool::WAITING;
use super::super::{plan, scan, stamp};
use super::{Work, Written, entry, lock};

/// A file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// How long it is.
    pub size: u64,
    /// Its id.
    pub id: Id,
}

/// A file of more than one block that is being written.
struct Large {
    fd: OwnedFd,
    name: CString,
    path: PathBuf,
    index: usize,
    content: Content,
    group: Option<u64>,
    /// Its lists of blocks, and those of what was there, if there was something like it.
    lists: Vec<Id>,
    old: Vec<Id>,
    /// How many lists are still to be done.
    left: AtomicUsize,
}

impl Work<'_> {
    /// Writes a file. `old` is the content of what is there and may be patched; none if
    /// nothing is there.
    pub(super) fn write<'s>(
        &'s self,
        scope: &rayon::Scope<'s>,
        spot: &entry::Spot,
        wanted: &node::Entry,
        content: Content,
        old: Option<Content>,
        group: Option<u64>,
    ) -> Result<(), Error> {
        let path = spot.path();
        let fd = open_to_write(spot, old.is_some()).context("write", &path)?;
        if content.size > BLOCK as u64 {
            let lists = self.lists(content)?;
            let old_lists = match old {
                Some(old) if old.size > BLOCK as u64 => self.lists(old)?,
                _ => Vec::new(),
            };
            if old.is_some_and(|old| old.size != content.size || old_lists.is_empty()) {
                if old_lists.is_empty() {
                    sys::ftruncate(&fd, 0).context("write", &path)?;
                }
                sys::ftruncate(&fd, content.size).context("write", &path)?;
            }
            let large = Arc::new(Large {
                fd,
                name: spot.name.to_owned(),
                path,
                index: spot.index,
                content,
                group,
                left: AtomicUsize::new(lists.len()),
                lists,
                old: old_lists,
            });
            self.spawn_parts(scope, &large);
            return Ok(());
        }
        if content.size > 0 {
            let decoder = &mut *self.decoders.mine();
            let bytes = self.apply.objects.get(decoder, &content.id)?;
            write_all(fd.as_fd(), bytes, 0).context("write", &path)?;
        }
        if old.is_some_and(|old| old.size != content.size) {
            sys::ftruncate(&fd, content.size).context("write", &path)?;
        }
        self.metadata_of(fd.as_fd(), wanted, &path)?;
        self.note_written(&fd, content, group, &path)
    }

    /// The ids of the lists of a file's blocks.
    fn lists(&self, content: Content) -> Result<Vec<Id>, Error> {
        if scan::lists(content.size) <= 1 {
            return Ok(vec![content.id]);
        }
        let decoder: &mut Decoder = &mut self.decoders.mine();
        plan::ids(self.apply.objects.get(decoder, &content.id)?, content.id)
    }

    /// Has what each of its lists names written by whichever thread is free; by this one if too
    /// many wait, each of which may be the one for which its file is open.
    fn spawn_parts<'s>(&'s self, scope: &rayon::Scope<'s>, large: &Arc<Large>) {
        for index in 0..large.lists.len() {
            if self.waiting.load(Ordering::Relaxed) >= WAITING {
                self.part(large, index);
                continue;
            }
            self.waiting.fetch_add(1, Ordering::Relaxed);
            let large = Arc::clone(large);
            scope.spawn(move |_| {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                self.part(&large, index);
            });
        }
    }

    /// Writes what one list names, and finishes the file after the last.
    fn part(&self, large: &Large, index: usize) {
        let done = self.blocks(large, index).and_then(|()| {
            if large.left.fetch_sub(1, Ordering::AcqRel) > 1 {
                return Ok(());
            }
            self.finish(large)
        });
        if let Err(error) = done {
            self.fail(error);
        }
    }

    fn blocks(&self, large: &Large, index: usize) -> Result<(), Error> {
        self.check()?;
        let (new, old) = (large.lists.get(index), large.old.get(index));
        let Some(new) = new.filter(|new| old != Some(new)) else {
            return Ok(());
        };
        let decoder = &mut *self.decoders.mine();
        let objects = self.apply.objects;
        let old = match old {
            Some(old) => plan::ids(objects.get(decoder, old)?, *old)?,
            None => Vec::new(),
        };
        let new = plan::ids(objects.get(decoder, new)?, *new)?;
        let start = (index * BLOCKS * BLOCK) as u64;
        for (number, id) in new.iter().enumerate() {
            let old = old.get(number);
            if old == Some(id) {
                continue;
            }
            let at = start + (number * BLOCK) as u64;
            if *id == Id::HOLE {
                // Where nothing was written there is a hole already.
                if old.is_some() {
                    let length = (BLOCK as u64).min(large.content.size - at);
                    punch(large.fd.as_fd(), at, length).context("write", &large.path)?;
                }
                continue;
            }
            self.apply.cancel.check()?;
            let bytes = objects.get(decoder, id)?;
            write_all(large.fd.as_fd(), bytes, at).context("write", &large.path)?;
        }
        Ok(())
    }

    fn finish(&self, large: &Large) -> Result<(), Error> {
        sys::ftruncate(&large.fd, large.content.size).context("write", &large.path)?;
        let Some(visit) = self.plan.visits.get(large.index) else {
            return Ok(());
        };
        let entries = plan::decode(&visit.node, &large.path.display())?;
        let found = entries.binary_search_by(|entry| entry.name.cmp(large.name.to_bytes()));
        if let Some(wanted) = found.ok().and_then(|found| entries.get(found)) {
            self.metadata_of(large.fd.as_fd(), wanted, &large.path)?;
        }
        self.note_written(&large.fd, large.content, large.group, &large.path)
    }

    fn note_written(
        &self,
        fd: &OwnedFd,
        content: Content,
        group: Option<u64>,
        path: &std::path::Path,
    ) -> Result<(), Error> {
        let (stamp, _) = stamp::stamp_of(fd.as_fd()).context("look at", path)?;
        let written = Written {
            size: content.size,
            content: content.id,
            group,
        };
        lock(&self.applied).written.insert(stamp.inode, written);
        self.apply.meter.add(1, content.size);
        Ok(())
    }
}

fn open_to_write(spot: &entry::Spot, there: bool) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if !there {
        let flags = flags | OFlags::CREATE | OFlags::EXCL;
        return sys::openat(spot.fd, spot.name, flags, Mode::from_raw_mode(0o600));
    }
    match sys::openat(spot.fd, spot.name, flags, Mode::empty()) {
        // Its owner may give himself the right.
        Err(Errno::ACCESS) => {
            let mode = Mode::from_raw_mode(0o600);
            sys::chmodat(spot.fd, spot.name, mode, sys::AtFlags::empty())?;
            sys::openat(spot.fd, spot.name, flags, Mode::empty())
        }
        result => result,
    }
}

fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8], mut at: u64) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(fd, bytes, at) {
            Ok(written) => {
                bytes = bytes.get(written..).unwrap_or_default();
                at += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes a part of a file a hole, or zeros where the filesystem knows no holes.
fn punch(fd: BorrowedFd<'_>, at: u64, length: u64) -> rustix::io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match sys::fallocate(fd, flags, at, length) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            let zeros = vec![0; usize::try_from(length).unwrap_or(BLOCK)];
            write_all(fd, &zeros, at)
        }
        result => result,
    }
}
