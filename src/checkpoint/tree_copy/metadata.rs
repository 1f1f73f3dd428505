//! Owner, mode, extended attributes and times.

use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs as sys;

use crate::checkpoint::driver::{Context as _, Error};

/// Gives `target` the owner, mode, extended attributes and times of `source`, in the
/// order in which none undoes another.
pub fn copy(
    source: &Path,
    target: &Path,
    meta: &Metadata,
    path: &Path,
    skipped: &mut Vec<String>,
) -> Result<(), Error> {
    let mut note = |what: &str, error: rustix::io::Errno| {
        let error = io::Error::from(error);
        skipped.push(format!(
            "{}: its {what} was not kept: {error}",
            path.display()
        ));
    };
    let owner = sys::Uid::from_raw(meta.uid());
    let group = sys::Gid::from_raw(meta.gid());
    let flags = sys::AtFlags::SYMLINK_NOFOLLOW;
    if let Err(error) = sys::chownat(sys::CWD, target, Some(owner), Some(group), flags) {
        note("owner", error);
    }
    if !meta.is_symlink() {
        let mode = sys::Mode::from_raw_mode(meta.mode() & 0o7777);
        sys::chmodat(sys::CWD, target, mode, sys::AtFlags::empty()).context("chmod", target)?;
    }
    if let Err(error) = copy_attributes(source, target) {
        note("extended attributes", error);
    }
    let time = |seconds, nanoseconds| sys::Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = sys::Timestamps {
        last_access: time(meta.atime(), meta.atime_nsec()),
        last_modification: time(meta.mtime(), meta.mtime_nsec()),
    };
    sys::utimensat(sys::CWD, target, &times, flags).context("set the times of", target)
}

/// Gives `target` the extended attributes of `source`, and no others.
fn copy_attributes(source: &Path, target: &Path) -> rustix::io::Result<()> {
    use rustix::io::Errno;
    let wanted = attribute_names(source)?;
    for name in &wanted {
        let mut value = vec![0_u8; 4096];
        let length = loop {
            match sys::lgetxattr(source, name, &mut value) {
                Err(Errno::RANGE) => value.resize(value.len() * 4, 0),
                result => break result?,
            }
        };
        let value = value.get(..length).unwrap_or_default();
        sys::lsetxattr(target, name, value, sys::XattrFlags::empty())?;
    }
    for name in attribute_names(target)? {
        if !wanted.contains(&name) {
            sys::lremovexattr(target, &name)?;
        }
    }
    Ok(())
}

fn attribute_names(path: &Path) -> rustix::io::Result<Vec<OsString>> {
    use rustix::io::Errno;
    let mut names = vec![0_u8; 1024];
    let length = loop {
        match sys::llistxattr(path, &mut names) {
            Err(Errno::RANGE) => names.resize(names.len() * 4, 0),
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            result => break result?,
        }
    };
    let names = names.get(..length).unwrap_or_default();
    let names = names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    Ok(names
        .map(|name| OsStr::from_bytes(name).to_owned())
        .collect())
}
