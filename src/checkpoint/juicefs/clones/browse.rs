//! Looking into a checkpoint that is mounted.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use rustix::fs::{self as sys, AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::super::super::driver::{Content, Context as _, Error, FileContent, Listed, Look};
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
    let mut names = path.split('/').filter(|name| !matches!(*name, "" | "."));
    let unknown = || Error::NoEntry(path.to_owned());
    if names.clone().any(|name| name == "..") {
        return Err(unknown());
    }
    let last = names.clone().next_back();
    let relative = names.by_ref().collect::<Vec<_>>().join("/");
    let relative = if relative.is_empty() { "." } else { &relative };
    let root = File::open(view.root()).context("open", view.root())?;
    let open = |flags| {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match sys::openat2(&root, relative, flags, Mode::empty(), resolve) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => Err(unknown()),
            opened => opened.context("open", Path::new(path)),
        }
    };
    let name = last.unwrap_or_default().as_bytes();
    // It may be a pipe, or a link.
    let parent = parent_of(&root, relative, path)?;
    let at = last.unwrap_or(".");
    let stat = match sys::statat(&parent, at, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT | Errno::NAMETOOLONG) => return Err(unknown()),
        stat => stat.context("look at", Path::new(path))?,
    };
    let own = listed(parent.as_fd(), name, &stat);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let entries = list(&open(OFlags::RDONLY | OFlags::DIRECTORY)?, path)?;
            Ok(Look::Directory(own, entries))
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

/// The directory that something is in.
fn parent_of(root: &File, relative: &str, path: &str) -> Result<OwnedFd, Error> {
    let above = relative.rsplit_once('/').map_or(".", |(above, _)| above);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match sys::openat2(root, above, flags, Mode::empty(), resolve) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => {
            Err(Error::NoEntry(path.to_owned()))
        }
        opened => opened.context("open", Path::new(path)),
    }
}

/// What is in a directory, sorted by name.
fn list(directory: &OwnedFd, path: &str) -> Result<Vec<Listed>, Error> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(directory).context("read", Path::new(path))? {
        let entry = entry.context("read", Path::new(path))?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = sys::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.context("look at", Path::new(path))?;
        entries.push((name.to_owned(), stat));
    }
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    let listed = |(name, stat): &(_, Stat)| {
        let name: &std::ffi::CString = name;
        listed(directory.as_fd(), name.as_bytes(), stat)
    };
    Ok(entries.iter().map(listed).collect())
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
