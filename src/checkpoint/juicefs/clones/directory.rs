//! The entries of a directory that nobody changes.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{self as sys, AtFlags, Dir, Stat};

use super::super::super::driver::{Context as _, Error};

/// What is in an open directory, sorted by name; `path` is where it is, for people.
pub fn entries(directory: &OwnedFd, path: &Path) -> Result<Vec<(CString, Stat)>, Error> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(directory).context("read", path)? {
        let entry = entry.context("read", path)?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            let stat = sys::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
            entries.push((name.to_owned(), stat.context("look at", path)?));
        }
    }
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(entries)
}
