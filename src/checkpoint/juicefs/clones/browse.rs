//! Looking into a checkpoint that is mounted.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use rustix::fs::{self as sys, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::super::super::driver::{Content, Context as _, Error, FileContent, Listed, Look};
use super::super::super::store::Place;
use super::directory::entries;
use super::views::View;

/// How much is read at once.
const BLOCK: usize = 256 << 10;

/// A file of a checkpoint that is open. The checkpoint stays mounted as long.
#[derive(Debug)]
pub struct Opened {
    file: File,
    _view: Arc<View>,
}

/// What is at `path`. Symbolic links are not followed.
pub fn look(view: &Arc<View>, path: &str) -> Result<Look, Error> {
    let shown = Path::new(path);
    let unknown = || Error::NoEntry(path.to_owned());
    let mut names: Vec<_> = path
        .split('/')
        .filter(|name| !matches!(*name, "" | "."))
        .collect();
    if names.contains(&"..") {
        return Err(unknown());
    }
    let last = names.pop();
    let mut place = Place::root(view.root()).context("open", view.root())?;
    for name in names {
        place = place.child(name.as_bytes()).map_err(|_| unknown())?;
    }
    let parent = match place.open() {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => {
            return Err(unknown());
        }
        parent => parent.context("open", shown)?,
    };
    let at = last.unwrap_or(".");
    let stat = match sys::statat(&parent, at, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT | Errno::NAMETOOLONG) => return Err(unknown()),
        stat => stat.context("look at", shown)?,
    };
    let open = |flags| {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        sys::openat(&parent, at, flags, Mode::empty()).context("open", shown)
    };
    let own = listed(parent.as_fd(), last.unwrap_or_default().as_bytes(), &stat);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let directory = open(OFlags::RDONLY | OFlags::DIRECTORY)?;
            let entries = entries(&directory, shown)?;
            let listed =
                |(name, stat): &(CString, Stat)| listed(directory.as_fd(), name.as_bytes(), stat);
            Ok(Look::Directory(own, entries.iter().map(listed).collect()))
        }
        FileType::RegularFile => {
            let opened = Opened {
                file: open(OFlags::RDONLY)?.into(),
                _view: Arc::clone(view),
            };
            let size = own.size;
            let content = Content::Opened(Arc::new(opened));
            Ok(Look::File(own, FileContent { size, content }))
        }
        _ => Ok(Look::Other(own)),
    }
}

/// What clients see of an entry of a directory.
fn listed(directory: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> Listed {
    let target = || {
        let target = sys::readlinkat(directory, OsStr::from_bytes(name), Vec::new());
        target.ok().map(|it| it.to_string_lossy().into_owned())
    };
    let (kind, size, target) = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => (
            "file",
            u64::try_from(stat.st_size).unwrap_or_default(),
            None,
        ),
        FileType::Directory => ("directory", 0, None),
        FileType::Symlink => ("symlink", 0, target()),
        _ => ("other", 0, None),
    };
    let nanoseconds = i32::try_from(stat.st_mtime_nsec).unwrap_or_default();
    let time = Timestamp::new(stat.st_mtime, nanoseconds);
    Listed {
        name: String::from_utf8_lossy(name).into_owned(),
        kind,
        size,
        mode: format!("{:04o}", stat.st_mode & 0o7777),
        uid: stat.st_uid,
        gid: stat.st_gid,
        mod_time: time.map(|time| time.to_string()).unwrap_or_default(),
        target,
    }
}

/// The bytes of a file from `offset` on; empty at its end.
pub fn read(file: &FileContent, offset: u64) -> Result<Vec<u8>, Error> {
    let Content::Opened(opened) = &file.content else {
        let why = "the file is not of a checkpoint on the volume";
        return Err(Error::Unusable(why.to_owned()));
    };
    let mut bytes = vec![0; BLOCK];
    let read = opened.file.read_at(&mut bytes, offset);
    let length = read.context("read", Path::new("the file"))?;
    bytes.truncate(length);
    Ok(bytes)
}
