//! Clones of large files.
//!
//! To clone a file takes the longer the more extents it has, however few have changed. Where there
//! are many, the clone that is there, mostly that of the last checkpoint, is brought up to date
//! instead.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::MutexGuard;

use rustix::fs::{self as sys, Mode, OFlags};

use super::super::extents::Same;
use super::super::id::Id;
use super::super::lock;
use super::super::node::BLOCK;
use super::{Aside, KEPT, TAKEN};
use crate::checkpoint::driver::{Context as _, Error};
use crate::sys::extents;

/// So many extents are many: on xfs, whose count is known, each takes 15 to 25 µs to clone and
/// 2 µs to look at, and a range that has changed 40 µs.
const MANY: u32 = 256;
/// At most so many files are cloned at once.
pub(super) const MAKING: usize = 16;

/// A clone that was kept once, and was brought up to date since.
#[derive(Debug)]
pub(super) struct Updated {
    /// What it had when it was kept.
    content: Id,
    /// How many bytes it had then.
    size: u64,
    /// Where it still has the same.
    same: Same,
}

impl Aside {
    /// Fails if files cannot be cloned here.
    pub(super) fn try_to_clone(&self) -> io::Result<()> {
        let mut probe = tempfile::tempfile_in(&self.dir)?;
        probe.write_all(&[1; 4096])?;
        let cloned = self.clone_file(&probe.into(), 0, Id::HOLE);
        self.drop_taken();
        cloned?;
        fs::create_dir_all(self.path(KEPT))
    }

    /// Clones a file, of which this content was known. Where there are many extents, a clone of it
    /// that is there is brought up to date: the fewer have changed, the less that takes.
    pub fn clone_file(&self, file: &OwnedFd, inode: u64, known: Id) -> io::Result<()> {
        // It may have two names, and two threads.
        let _making = self.making(inode);
        match self.update_clone(file, inode, known) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => tracing::debug!("a clone that cannot be updated is made anew: {error}"),
        }
        let dir = self.path(TAKEN);
        fs::create_dir_all(&dir)?;
        let path = dir.join(inode.to_string());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let clone = sys::open(&path, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(sys::ioctl_ficlone(&clone, file).inspect_err(|_| {
            // One that is empty is no clone.
            let _ = fs::remove_file(&path);
        })?)
    }

    fn making(&self, inode: u64) -> Option<MutexGuard<'_, ()>> {
        let of = usize::try_from(inode).unwrap_or(0) % MAKING;
        self.making.get(of).map(lock)
    }

    /// Brings the clone that was taken of a file up to date, or makes the one that was kept of it
    /// with this content the one that is taken. Returns whether there is one, and it has many
    /// extents.
    ///
    /// To clone a range waits for whoever writes to the file. So the first is cloned in any case:
    /// only then is it known where what they write lies.
    fn update_clone(&self, file: &OwnedFd, inode: u64, known: Id) -> io::Result<bool> {
        // Forgotten, unless all goes well.
        let before = lock(&self.updated).remove(&inode);
        let taken = self.path(TAKEN).join(inode.to_string());
        let kept = self.path(KEPT).join(kept_name(inode, known));
        let (clone, is_kept) = match open(&taken)? {
            Some(clone) => (clone, false),
            None => match open(&kept)? {
                Some(clone) => (clone, true),
                None => return Ok(false),
            },
        };
        let before = before.filter(|before| before.content == known && !is_kept);
        if before.is_none() && extents::count(clone.as_fd()) < MANY {
            return Ok(false);
        }
        let had = clone.metadata()?.len();
        if is_kept {
            fs::create_dir_all(self.path(TAKEN))?;
            fs::rename(&kept, &taken)?;
        }
        let same = update(file, &clone, had)?;
        let updated = match before {
            Some(before) => Some(Updated {
                same: before.same.and(&same),
                ..before
            }),
            None => is_kept.then_some(Updated {
                content: known,
                size: had,
                same,
            }),
        };
        if let Some(updated) = updated {
            lock(&self.updated).insert(inode, updated);
        }
        Ok(true)
    }

    /// Where the clone that was taken of a file is as the one was that was kept with this content,
    /// and how long that was, if it was made of that.
    pub fn updated(&self, inode: u64, content: Id) -> Option<(Same, u64)> {
        let updated = lock(&self.updated);
        let updated = updated.get(&inode)?;
        (updated.content == content).then(|| (updated.same.clone(), updated.size))
    }

    /// The clone that was taken of a file, with this length: the file may have had another when it
    /// was cloned than when its directory was looked at. So the clone that is kept has what is
    /// known of it, and no more.
    pub fn taken_clone(&self, inode: u64, length: u64) -> Result<OwnedFd, Error> {
        let path = self.path(TAKEN).join(inode.to_string());
        let clone = File::options().read(true).write(true).open(&path);
        let clone = clone.context("open", &path)?;
        if clone.metadata().context("look at", &path)?.len() != length {
            clone.set_len(length).context("set the length of", &path)?;
        }
        Ok(clone.into())
    }

    /// The clone that was kept of a file when it had this content, if there is one.
    #[must_use]
    pub fn kept_clone(&self, inode: u64, content: Id) -> Option<OwnedFd> {
        let path = self.path(KEPT).join(kept_name(inode, content));
        Some(File::open(path).ok()?.into())
    }

    /// Keeps the clones that were taken, each with the content that it has, and forgets all of
    /// files that are no more or have changed.
    pub fn keep_clones(&self, taken: &[(u64, Id)], is_there: &dyn Fn(u64, Id) -> bool) {
        let (from, to) = (self.path(TAKEN), self.path(KEPT));
        for (inode, content) in taken {
            let kept = to.join(kept_name(*inode, *content));
            let _ = fs::rename(from.join(inode.to_string()), kept);
        }
        for entry in fs::read_dir(&to).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let wanted = name.to_str().and_then(parse_kept_name);
            if !wanted.is_some_and(|(inode, content)| is_there(inode, content)) {
                let _ = fs::remove_file(entry.path());
            }
        }
        // What was updated for a checkpoint that came to nothing may still be of use.
        let is_kept: HashSet<u64> = taken.iter().map(|(inode, _)| *inode).collect();
        lock(&self.updated)
            .retain(|inode, updated| !is_kept.contains(inode) && is_there(*inode, updated.content));
        self.drop_taken();
    }

    /// Forgets the clones that were taken, but for those that are still of use: what they were
    /// made of is no more, and the next checkpoint would have to read the whole file.
    pub(super) fn drop_clones(&self) {
        let taken = self.path(TAKEN);
        let updated = lock(&self.updated);
        for entry in fs::read_dir(&taken).into_iter().flatten().flatten() {
            let inode = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            if !inode.is_some_and(|inode: u64| updated.contains_key(&inode)) {
                let _ = fs::remove_file(entry.path());
            }
        }
        // Unless something is left.
        let _ = fs::remove_dir(&taken);
    }
}

/// Clones what differs in a file into `clone`, which has this length. Returns where the clone is as it
/// was.
fn update(file: &OwnedFd, clone: &File, had: u64) -> io::Result<Same> {
    let size = u64::try_from(sys::fstat(file)?.st_size).unwrap_or(0);
    if size < had {
        clone.set_len(size)?;
    }
    let clone_range = |range: Range<u64>| {
        // It may have grown meanwhile, and then its end is not that of a block.
        let length = NonZeroU64::new(range.end - range.start).filter(|_| range.end < size);
        extents::clone_range(file.as_fd(), clone.as_fd(), range.start, length)
    };
    let first = 0..size.min(BLOCK as u64);
    clone_range(first.clone())?;
    // What is behind its end is no part of what it was.
    let same = Same::of(clone.as_fd(), file.as_fd(), first.end..size.min(had))?;
    for range in same.differing(first.end..size) {
        clone_range(range)?;
    }
    Ok(same)
}

/// Opens a clone, if there is one.
fn open(path: &Path) -> io::Result<Option<File>> {
    match File::options().read(true).write(true).open(path) {
        Ok(clone) => Ok(Some(clone)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn kept_name(inode: u64, content: Id) -> String {
    format!("{inode}-{content}")
}

fn parse_kept_name(name: &str) -> Option<(u64, Id)> {
    let (inode, content) = name.split_once('-')?;
    Some((inode.parse().ok()?, content.parse().ok()?))
}
