//! Extended attributes, of an open file and of anything in an open directory.

use std::ffi::{CStr, CString, OsStr};
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs as sys;
use rustix::io::{Errno, Result};

use super::node::Attribute;

/// What has the attributes.
enum Owner<'a> {
    Open(BorrowedFd<'a>),
    Named(CString),
}

impl Owner<'_> {
    fn list(&self, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Self::Open(fd) => sys::flistxattr(fd, buffer),
            Self::Named(path) => sys::llistxattr(path, buffer),
        }
    }

    fn get(&self, key: &OsStr, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Self::Open(fd) => sys::fgetxattr(fd, key, buffer),
            Self::Named(path) => sys::lgetxattr(path, key, buffer),
        }
    }

    fn set(&self, key: &OsStr, value: &[u8]) -> Result<()> {
        let flags = sys::XattrFlags::empty();
        match self {
            Self::Open(fd) => sys::fsetxattr(fd, key, value, flags),
            Self::Named(path) => sys::lsetxattr(path, key, value, flags),
        }
    }

    fn remove(&self, key: &OsStr) -> Result<()> {
        match self {
            Self::Open(fd) => sys::fremovexattr(fd, key),
            Self::Named(path) => sys::lremovexattr(path, key),
        }
    }
}

/// There are calls for an entry of an open directory since Linux 6.13 only; this names it
/// for all.
fn path(directory: BorrowedFd<'_>, name: &CStr) -> CString {
    let mut path = Vec::with_capacity(40 + name.count_bytes());
    // Writing to memory cannot fail.
    let _ = write!(path, "/proc/self/fd/{}/", directory.as_raw_fd());
    path.extend_from_slice(name.to_bytes());
    CString::new(path).unwrap_or_default()
}

/// The extended attributes of `name` in `directory`, sorted. Where there are none, and
/// where the filesystem has none, none.
pub fn read(directory: BorrowedFd<'_>, name: &CStr) -> Result<Vec<Attribute>> {
    read_of(&Owner::Named(path(directory, name)))
}

/// The extended attributes of an open file, sorted: no path is looked up for them.
pub fn read_open(file: BorrowedFd<'_>) -> Result<Vec<Attribute>> {
    read_of(&Owner::Open(file))
}

fn read_of(owner: &Owner) -> Result<Vec<Attribute>> {
    let names = whole(|buffer| owner.list(buffer));
    let names = match names {
        Err(Errno::OPNOTSUPP | Errno::NOENT) => return Ok(Vec::new()),
        names => names?,
    };
    let mut attributes = Vec::new();
    for name in names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let key = OsStr::from_bytes(name);
        match whole(|buffer| owner.get(key, buffer)) {
            Ok(value) => attributes.push(Attribute {
                name: name.to_vec(),
                value,
            }),
            // Removed meanwhile.
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error),
        }
    }
    attributes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(attributes)
}

/// All of something whose length is not known before.
fn whole(mut read: impl FnMut(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    let mut buffer = vec![0; 512];
    loop {
        match read(&mut buffer) {
            Err(Errno::RANGE) => buffer.resize(buffer.len() * 4, 0),
            Err(error) => return Err(error),
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
        }
    }
}

/// Gives `name` in `directory` these extended attributes and no others. What is forbidden does not
/// keep the others from it, and is the error in the end.
pub fn write(directory: BorrowedFd<'_>, name: &CStr, wanted: &[Attribute]) -> Result<()> {
    write_of(&Owner::Named(path(directory, name)), wanted)
}

/// Gives an open file these extended attributes and no others.
pub fn write_open(file: BorrowedFd<'_>, wanted: &[Attribute]) -> Result<()> {
    write_of(&Owner::Open(file), wanted)
}

fn write_of(owner: &Owner, wanted: &[Attribute]) -> Result<()> {
    let there = read_of(owner)?;
    if there == wanted {
        return Ok(());
    }
    let mut forbidden = Ok(());
    let mut unless_forbidden = |done: Result<()>| match done {
        Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => {
            forbidden = done;
            Ok(())
        }
        done => done,
    };
    for attribute in wanted.iter().filter(|wanted| !there.contains(wanted)) {
        let key = OsStr::from_bytes(&attribute.name);
        unless_forbidden(owner.set(key, &attribute.value))?;
    }
    for attribute in there {
        if !wanted.iter().any(|wanted| wanted.name == attribute.name) {
            match owner.remove(OsStr::from_bytes(&attribute.name)) {
                // On xfs an access control list has two names, and both went with the other.
                Err(Errno::NODATA) => {}
                done => unless_forbidden(done)?,
            }
        }
    }
    forbidden
}
