//! The bytes of files, cut into blocks.

use std::ffi::CStr;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{self as sys, Advice, FileType, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::super::super::driver::{Cancel, Context as _, Error};
use super::super::super::meter::Meter;
use super::super::extents::Same;
use super::super::id::Id;
use super::super::live::Entry;
use super::super::node::{BLOCK, BLOCKS};
use super::super::objects::{Decoder, Encoder, Objects};
use super::super::plan;
use super::{Found, Spot, Walk, is_forbidden, lists, lock};

/// How much of a large file is read at once.
const READ: usize = 16 * BLOCK;

/// A file of more than one block.
pub struct Large {
    pub file: OwnedFd,
    pub size: u64,
    pub path: PathBuf,
    pub spot: Spot,
    /// What is known of it from before, where it has not changed.
    pub older: Option<Older>,
}

/// What a large file was, and where it still is that.
pub struct Older {
    same: Same,
    size: u64,
    /// The lists of its blocks.
    lists: Vec<Id>,
}

/// Where content is stored.
#[derive(Clone, Copy)]
pub struct Storing<'a> {
    pub objects: &'a Objects,
    pub cancel: &'a Cancel,
    pub meter: &'a Meter,
}

impl Older {
    /// How `newer` compares with `older`, of which this is the content; none if that cannot
    /// be told.
    pub fn of(objects: &Objects, older: &OwnedFd, newer: &OwnedFd, content: Id) -> Option<Self> {
        let size = rustix::fs::fstat(older).ok()?.st_size;
        let size = u64::try_from(size).ok()?;
        let same = Same::of(older.as_fd(), newer.as_fd(), 0..size).ok()?;
        Self::known(objects, content, size, same)
    }

    /// A file of this content and size, where it still is the same.
    pub fn known(objects: &Objects, content: Id, size: u64, same: Same) -> Option<Self> {
        let mut decoder = Decoder::default();
        let lists = match lists(size) {
            0 | 1 if size <= BLOCK as u64 => return None,
            1 => vec![content],
            _ => plan::ids(objects.get(&mut decoder, &content).ok()?, content).ok()?,
        };
        Some(Self { same, size, lists })
    }

    /// Whether the bytes in `range` of the file, which has `size` bytes now, are as they were
    /// and make up the same blocks.
    fn has(&self, range: &Range<u64>, size: u64) -> bool {
        // A block that is not full is another one when it grows.
        let is_full = (range.end - range.start).is_multiple_of(BLOCK as u64);
        let as_long = is_full && range.end <= self.size || size == self.size;
        as_long && self.same.covers(range)
    }
}

impl Walk<'_> {
    /// Opens a file whose content has to be read. None for what has no content, whose content is
    /// known, or which may not be read: then the entry, or what was found, says so.
    pub(super) fn open_content(
        &self,
        fd: BorrowedFd<'_>,
        name: &CStr,
        entry: &mut Entry,
        spot: Spot,
        path: &dyn Fn() -> PathBuf,
    ) -> Result<Option<OwnedFd>, Error> {
        let stamp = &entry.stamp;
        if stamp.kind() != FileType::RegularFile || stamp.size == 0 || !self.scan.look.reads {
            return Ok(None);
        }
        entry.marks.doubtful = self.scan.look.hints.distrusted.contains(&stamp.inode);
        let written = self.scan.look.hints.written.get(&stamp.inode);
        if let Some(written) = written.filter(|written| written.size == stamp.size) {
            entry.content = written.content;
            return Ok(None);
        }
        if stamp.links > 1 {
            let mut first = lock(&self.first);
            if let Some((of, looks)) = first.get(&stamp.inode) {
                let (of, same) = (*of, *looks == *stamp);
                lock(&self.found).push(Found::Alias { spot, of, same });
                return Ok(None);
            }
            first.insert(stamp.inode, (spot, *stamp));
        }
        match open(fd, name) {
            Ok(file) => return Ok(Some(file)),
            Err(error) if is_forbidden(error) => entry.marks.unreadable = true,
            // It has become something else meanwhile.
            Err(Errno::LOOP | Errno::NXIO) => {
                entry.stamp.size = 0;
                entry.marks.doubtful = true;
            }
            Err(error) => return Err(error).context("open", &path()),
        }
        Ok(None)
    }
}

/// Opens the file `name` without waiting for it, whatever it has become.
fn open(directory: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match sys::openat(directory, name, flags | OFlags::NOATIME, Mode::empty()) {
        // Only its owner and root may leave no trace.
        Err(Errno::PERM) => sys::openat(directory, name, flags, Mode::empty()),
        result => result,
    }
}

/// Reads what is at `offset`, as much as there is room and file. Once so much is read as is
/// `expected`, no further read asks whether the file goes on: it had room, and brought no more.
pub fn read(
    file: BorrowedFd<'_>,
    buffer: &mut [u8],
    offset: u64,
    expected: u64,
) -> Result<usize, Errno> {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(file, rest, offset + length as u64) {
            Ok(0) => break,
            Ok(more) => {
                length += more;
                if length as u64 == expected {
                    break;
                }
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

impl Large {
    /// Stores the blocks of list number `index`, and the list. Returns it, and whether the
    /// file was shorter than it should be.
    pub fn list(
        &self,
        storing: &Storing,
        encoder: &mut Encoder,
        index: usize,
    ) -> Result<(Id, bool), Error> {
        let start = (index * BLOCKS * BLOCK) as u64;
        let end = self.size.min(start + (BLOCKS * BLOCK) as u64);
        let blocks = usize::try_from((end - start).div_ceil(BLOCK as u64)).unwrap_or(BLOCKS);
        let old = self.older.as_ref();
        let old = old.and_then(|older| Some((older, *older.lists.get(index)?)));
        let whole = (BLOCKS * BLOCK) as u64;
        let known = match old {
            // A list that is not full is another one when the file grows.
            Some((older, list))
                if (end - start == whole || self.size == older.size)
                    && older.has(&(start..end), self.size) =>
            {
                return Ok((list, false));
            }
            Some((older, list)) => {
                let known = self.known(storing.objects, start, blocks, older, list)?;
                self.will_read(start, &known);
                known
            }
            None => vec![None; blocks],
        };
        let mut ids: Vec<Id> = known.iter().map(|id| id.unwrap_or(Id::HOLE)).collect();
        let mut buffer = vec![0; READ];
        let mut at = start;
        let mut torn = false;
        while let Some(data) = self.next_data(at, end).context("read", &self.path)? {
            storing.cancel.check()?;
            // Whole blocks only, however the holes lie.
            let first = usize::try_from((data - start) / BLOCK as u64).unwrap_or(BLOCKS);
            let from = start + (first * BLOCK) as u64;
            let rest = known.get(first..).unwrap_or_default();
            let skipped = rest.iter().take_while(|id| id.is_some()).count();
            if skipped > 0 {
                at = from + (skipped * BLOCK) as u64;
                continue;
            }
            let run = rest.iter().take_while(|id| id.is_none()).count() * BLOCK;
            let wanted = usize::try_from(end - from)
                .unwrap_or(READ)
                .min(READ)
                .min(run);
            let buffer = buffer.get_mut(..wanted).unwrap_or_default();
            let length = read(self.file.as_fd(), buffer, from, wanted as u64);
            let length = length.context("read", &self.path)?;
            storing.meter.add(0, length as u64);
            if length < wanted {
                torn = true;
                buffer.get_mut(length..).unwrap_or_default().fill(0);
            }
            let ids = ids.get_mut(first..).unwrap_or_default();
            for (id, block) in ids.iter_mut().zip(buffer.chunks(BLOCK)) {
                if block.iter().any(|byte| *byte != 0) {
                    *id = storing.objects.put(encoder, block)?;
                }
            }
            at = from + wanted as u64;
        }
        let list: Vec<u8> = ids.iter().flat_map(|id| *id.as_bytes()).collect();
        Ok((storing.objects.put(encoder, &list)?, torn))
    }

    /// What is known of the blocks from `start` on without reading them: what of `list`, which
    /// they had, still holds.
    fn known(
        &self,
        objects: &Objects,
        start: u64,
        blocks: usize,
        older: &Older,
        list: Id,
    ) -> Result<Vec<Option<Id>>, Error> {
        let mut known = vec![None; blocks];
        let mut decoder = Decoder::default();
        let ids = plan::ids(objects.get(&mut decoder, &list)?, list)?;
        for (number, (known, id)) in known.iter_mut().zip(ids).enumerate() {
            let first = start + (number * BLOCK) as u64;
            let block = first..self.size.min(first + BLOCK as u64);
            *known = older.has(&block, self.size).then_some(id);
        }
        Ok(known)
    }

    /// Has the disk read the blocks from `start` on that are not known: they lie here and there, and
    /// take less time together than one after the other.
    fn will_read(&self, start: u64, known: &[Option<Id>]) {
        if known.iter().filter(|known| known.is_none()).count() * 2 > known.len() {
            // They are read one after the other anyway.
            return;
        }
        let mut at = start;
        for run in known.chunk_by(|one, next| one.is_none() == next.is_none()) {
            let length = (run.len() * BLOCK) as u64;
            if run.iter().any(Option::is_none) {
                // If it does not, they are read when they are needed.
                let _ = sys::fadvise(&self.file, at, NonZeroU64::new(length), Advice::WillNeed);
            }
            at += length;
        }
    }

    /// Where the next data are, at or behind `at` and before `end`.
    fn next_data(&self, at: u64, end: u64) -> io::Result<Option<u64>> {
        if at >= end {
            return Ok(None);
        }
        match sys::seek(&self.file, SeekFrom::Data(at)) {
            Ok(data) => Ok((data < end).then_some(data)),
            // Nothing but a hole behind it, or the file has become shorter.
            Err(Errno::NXIO) => Ok(None),
            // This filesystem knows no holes.
            Err(Errno::INVAL) => Ok(Some(at)),
            Err(error) => Err(error.into()),
        }
    }
}
