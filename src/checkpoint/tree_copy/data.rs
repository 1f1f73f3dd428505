//! A file's bytes and holes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs as sys;

use crate::checkpoint::driver::{Cancel, Context as _, Error};

/// How much is copied at once, so that a copy can be given up.
const PIECE: usize = 4 << 20;

/// Copies a file's data and leaves its holes holes.
pub fn copy(source: &Path, target: &Path, size: u64, cancel: &Cancel) -> Result<(), Error> {
    let from = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(source)
        .context("open", source)?;
    let to = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(target)
        .context("create", target)?;
    let mut at = 0;
    while let Some((start, end)) = next_data(&from, at, size).context("read", source)? {
        let (mut read_at, mut write_at) = (start, start);
        while read_at < end {
            cancel.check()?;
            let piece = usize::try_from(end - read_at).unwrap_or(PIECE).min(PIECE);
            let copied = copy_piece(&from, &mut read_at, &to, &mut write_at, piece)
                .context("copy to", target)?;
            // The file got shorter meanwhile.
            if copied == 0 {
                break;
            }
        }
        at = end;
    }
    to.set_len(size).context("set the size of", target)
}

/// The next range of `file` with data at or behind `at`, before `size`.
fn next_data(file: &File, at: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= size {
        return Ok(None);
    }
    match sys::seek(file, sys::SeekFrom::Data(at)) {
        Ok(start) => {
            let end = match sys::seek(file, sys::SeekFrom::Hole(start)) {
                // The file got shorter meanwhile; the pass in which nothing writes sees it.
                Err(rustix::io::Errno::NXIO) => return Ok(None),
                end => end?,
            };
            Ok((start < size).then_some((start, end.min(size))))
        }
        // No data behind `at`.
        Err(rustix::io::Errno::NXIO) => Ok(None),
        // This filesystem knows no holes.
        Err(rustix::io::Errno::INVAL) => Ok(Some((at, size))),
        Err(error) => Err(error.into()),
    }
}

/// Copies up to `length` bytes, in the kernel where it can (which shares blocks where
/// the filesystem can), and advances both positions.
fn copy_piece(
    from: &File,
    read_at: &mut u64,
    to: &File,
    write_at: &mut u64,
    length: usize,
) -> io::Result<usize> {
    use rustix::io::Errno;
    use std::os::unix::fs::FileExt as _;
    match sys::copy_file_range(from, Some(read_at), to, Some(write_at), length) {
        Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
            let mut buffer = vec![0; length.min(1 << 20)];
            let read = from.read_at(&mut buffer, *read_at)?;
            let data = buffer.get(..read).unwrap_or_default();
            to.write_all_at(data, *write_at)?;
            *read_at += read as u64;
            *write_at += read as u64;
            Ok(read)
        }
        result => Ok(result?),
    }
}
