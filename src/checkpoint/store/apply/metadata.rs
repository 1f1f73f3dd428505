//! Owner, mode, extended attributes and times.

use std::ffi::CStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self as sys, AtFlags, Gid, Mode, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::super::super::driver::{Context as _, Error};
use super::super::attributes;
use super::super::live;
use super::super::node::{self, Attribute, Kind, Time};
use super::super::place::Place;
use super::{Work, lock};

impl Work<'_> {
    /// Gives `name` its owner, mode, extended attributes and times, in the order in which
    /// none undoes another. With `known` only where it differs.
    pub(super) fn metadata(
        &self,
        directory: BorrowedFd<'_>,
        name: &CStr,
        wanted: &node::Entry,
        known: Option<&live::Entry>,
        path: &Path,
    ) -> Result<(), Error> {
        let stamp = known.map(|known| &known.stamp);
        let there = known.map(attributes_of);
        let same = stamp.is_some_and(|stamp| {
            (stamp.uid, stamp.gid) == (wanted.uid, wanted.gid)
                && stamp.mode & 0o7777 == wanted.mode
                && stamp.modified == wanted.modified
        });
        if same && there == Some(&wanted.attributes) {
            return Ok(());
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if stamp.is_none_or(|stamp| (stamp.uid, stamp.gid) != (wanted.uid, wanted.gid)) {
            let (uid, gid) = (Uid::from_raw(wanted.uid), Gid::from_raw(wanted.gid));
            let changed = sys::chownat(directory, name, Some(uid), Some(gid), flags);
            self.unless_forbidden(changed, "owner", path)
                .context("chown", path)?;
        }
        if !matches!(wanted.kind, Kind::Link(_)) {
            let mode = Mode::from_raw_mode(wanted.mode);
            let changed = sys::chmodat(directory, name, mode, AtFlags::empty());
            self.unless_forbidden(changed, "mode", path)
                .context("chmod", path)?;
        }
        let changed = attributes::write(directory, name, &wanted.attributes);
        self.unless_forbidden(changed, "extended attributes", path)
            .context("write the extended attributes of", path)?;
        let changed = sys::utimensat(directory, name, &times(wanted.modified), flags);
        self.unless_forbidden(changed, "times", path)
            .context("set the times of", path)
    }

    /// The same of a file that was written, which needs no look for its name. Most have their
    /// owner from the start, and to set it again costs as much as to write a block.
    pub(super) fn metadata_of(
        &self,
        file: BorrowedFd<'_>,
        wanted: &node::Entry,
        path: &Path,
    ) -> Result<(), Error> {
        let stat = sys::fstat(file).context("look at", path)?;
        let is_owned = (stat.st_uid, stat.st_gid) == (wanted.uid, wanted.gid);
        if !is_owned {
            let (uid, gid) = (Uid::from_raw(wanted.uid), Gid::from_raw(wanted.gid));
            let changed = sys::fchown(file, Some(uid), Some(gid));
            self.unless_forbidden(changed, "owner", path)
                .context("chown", path)?;
        }
        // A new owner takes some bits of the mode away.
        if !is_owned || stat.st_mode & 0o7777 != wanted.mode {
            let mode = Mode::from_raw_mode(wanted.mode);
            let changed = sys::fchmod(file, mode);
            self.unless_forbidden(changed, "mode", path)
                .context("chmod", path)?;
        }
        let changed = attributes::write_open(file, &wanted.attributes);
        self.unless_forbidden(changed, "extended attributes", path)
            .context("write the extended attributes of", path)?;
        let changed = sys::futimens(file, &times(wanted.modified));
        self.unless_forbidden(changed, "times", path)
            .context("set the times of", path)
    }

    /// Without privileges some things cannot be set; that is told and no failure.
    pub(super) fn unless_forbidden(
        &self,
        result: Result<(), Errno>,
        what: &str,
        path: &Path,
    ) -> Result<(), Errno> {
        match result {
            Err(error @ (Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP)) => {
                let note = format!(
                    "{}: its {what} could not be restored: {error}",
                    path.display()
                );
                lock(&self.applied).notes.push(note);
                Ok(())
            }
            result => result,
        }
    }
}

/// Sets the time of the last change, and leaves that of the last access.
fn times(modified: Time) -> Timestamps {
    Timestamps {
        last_access: timespec(Time {
            seconds: 0,
            nanoseconds: rustix::fs::UTIME_OMIT.try_into().unwrap_or_default(),
        }),
        last_modification: timespec(modified),
    }
}

fn timespec(time: Time) -> Timespec {
    Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    }
}

/// The extended attributes of an entry.
fn attributes_of(entry: &live::Entry) -> &Vec<Attribute> {
    static NONE: Vec<Attribute> = Vec::new();
    entry
        .extras
        .as_ref()
        .map_or(&NONE, |extras| &extras.attributes)
}

/// Opens a directory and makes sure that we may change what is in it. What it looks like
/// is set last.
pub fn open_to_change(place: &Place) -> Result<OwnedFd, Error> {
    let fd = match place.open() {
        Err(Errno::ACCESS | Errno::PERM) => {
            // Its owner may always change its mode, by way of the directory above it.
            let parent = place.full();
            sys::chmod(&parent, Mode::from_raw_mode(0o700)).context("chmod", &parent)?;
            place.open()
        }
        result => result,
    };
    let fd = fd.context("open", &place.full())?;
    if !rustix::process::geteuid().is_root() {
        let stat = sys::fstat(fd.as_fd()).context("look at", &place.full())?;
        if stat.st_mode & 0o700 != 0o700 {
            let mode = Mode::from_raw_mode((stat.st_mode & 0o7777) | 0o700);
            sys::fchmod(&fd, mode).context("chmod", &place.full())?;
        }
    }
    Ok(fd)
}
