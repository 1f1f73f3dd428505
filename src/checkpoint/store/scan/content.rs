//! The bytes of files, cut into blocks.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{self as sys, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::super::super::driver::{Context as _, Error};
use super::super::id::Id;
use super::super::node::{BLOCK, BLOCKS};
use super::super::objects::Encoder;
use super::{Scan, Spot};

/// How much of a large file is read at once.
const READ: usize = 16 * BLOCK;

/// A file of more than one block.
pub struct Large {
    pub file: OwnedFd,
    pub size: u64,
    pub path: PathBuf,
    pub spot: Spot,
}

/// Opens the file `name` without waiting for it, whatever it has become.
pub fn open(directory: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match sys::openat(directory, name, flags | OFlags::NOATIME, Mode::empty()) {
        // Only its owner and root may leave no trace.
        Err(Errno::PERM) => sys::openat(directory, name, flags, Mode::empty()),
        result => result,
    }
}

/// Reads what is at `offset`, as much as there is room and file.
pub fn read(file: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(file, rest, offset + length as u64) {
            Ok(0) => break,
            Ok(more) => length += more,
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
        scan: Scan,
        encoder: &mut Encoder,
        index: usize,
    ) -> Result<(Id, bool), Error> {
        let start = (index * BLOCKS * BLOCK) as u64;
        let end = self.size.min(start + (BLOCKS * BLOCK) as u64);
        let blocks = usize::try_from((end - start).div_ceil(BLOCK as u64)).unwrap_or(BLOCKS);
        let mut ids = vec![Id::HOLE; blocks];
        let mut buffer = vec![0; READ];
        let mut at = start;
        let mut torn = false;
        while let Some(data) = self.next_data(at, end).context("read", &self.path)? {
            scan.cancel.check()?;
            // Whole blocks only, however the holes lie.
            let from = start + (data - start) / BLOCK as u64 * BLOCK as u64;
            let wanted = usize::try_from(end - from).unwrap_or(READ).min(READ);
            let buffer = buffer.get_mut(..wanted).unwrap_or_default();
            let length = read(self.file.as_fd(), buffer, from).context("read", &self.path)?;
            scan.meter.add(0, length as u64);
            if length < wanted {
                torn = true;
                buffer.get_mut(length..).unwrap_or_default().fill(0);
            }
            let first = usize::try_from((from - start) / BLOCK as u64).unwrap_or(BLOCKS);
            let ids = ids.get_mut(first..).unwrap_or_default();
            for (id, block) in ids.iter_mut().zip(buffer.chunks(BLOCK)) {
                if block.iter().any(|byte| *byte != 0) {
                    *id = scan.objects.put(encoder, block)?;
                }
            }
            at = from + wanted as u64;
        }
        let list: Vec<u8> = ids.iter().flat_map(|id| *id.as_bytes()).collect();
        Ok((scan.objects.put(encoder, &list)?, torn))
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
