//! Extended attributes, of anything in an open directory.

use std::ffi::{CStr, CString, OsStr};
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs as sys;
use rustix::io::{Errno, Result};

use super::node::Attribute;

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
    let path = path(directory, name);
    let names = whole(|buffer| sys::llistxattr(&path, buffer));
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
        match whole(|buffer| sys::lgetxattr(&path, key, buffer)) {
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

/// Gives `name` in `directory` these extended attributes and no others.
pub fn write(directory: BorrowedFd<'_>, name: &CStr, wanted: &[Attribute]) -> Result<()> {
    let there = read(directory, name)?;
    if there == wanted {
        return Ok(());
    }
    let path = path(directory, name);
    for attribute in wanted.iter().filter(|wanted| !there.contains(wanted)) {
        let key = OsStr::from_bytes(&attribute.name);
        sys::lsetxattr(&path, key, &attribute.value, sys::XattrFlags::empty())?;
    }
    for attribute in there {
        if !wanted.iter().any(|wanted| wanted.name == attribute.name) {
            sys::lremovexattr(&path, OsStr::from_bytes(&attribute.name))?;
        }
    }
    Ok(())
}
