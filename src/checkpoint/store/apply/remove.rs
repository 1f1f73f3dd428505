//! Removing what a checkpoint does not have.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;

use rustix::fs::{self as sys, AtFlags};
use rustix::io::Errno;

use super::super::super::driver::{Context as _, Error};
use super::super::live::{Directory, Entry};
use super::super::place::Place;
use super::super::plan;
use super::{Work, entry, lock, metadata};

impl Work<'_> {
    /// Removes what is in the way of something else.
    pub(super) fn remove(&self, spot: &entry::Spot, known: &Entry) -> Result<(), Error> {
        let removed = self.remove_entry(spot.above, spot.fd.as_fd(), spot.name, known)?;
        if removed {
            return Ok(());
        }
        Err(Error::Unusable(format!(
            "{} is in the way and cannot be removed: another filesystem is mounted in it, or it \
             could not be read",
            spot.path().display()
        )))
    }

    /// Removes all entries that are to go.
    pub(super) fn remove_all<'s>(&'s self, scope: &rayon::Scope<'s>) {
        let mut removals = std::mem::take(&mut *lock(&self.removals));
        removals.sort();
        for chunk in removals.chunk_by(|a, b| a.0 == b.0) {
            let chunk = chunk.to_vec();
            scope.spawn(move |_| {
                if let Err(error) = self.remove_from(&chunk) {
                    self.fail(error);
                }
            });
        }
    }

    /// Removes entries of one directory.
    fn remove_from(&self, removals: &[(usize, std::ffi::CString)]) -> Result<(), Error> {
        let Some((index, _)) = removals.first() else {
            return Ok(());
        };
        let place = self.place(*index)?;
        let fd = place.open().context("open", &place.full())?;
        let directory = self.live_directory(*index).map(AsRef::as_ref);
        for (_, name) in removals {
            self.apply.cancel.check()?;
            if let Some(known) = plan::known(directory, name.to_bytes()) {
                self.remove_entry(place, fd.as_fd(), name, known)?;
            }
        }
        Ok(())
    }

    /// Removes an entry with all that is in it. What could not be captured would be lost:
    /// it stays, and so does what it is in. Returns whether all is gone.
    fn remove_entry(
        &self,
        place: &Place,
        fd: BorrowedFd<'_>,
        name: &std::ffi::CStr,
        known: &Entry,
    ) -> Result<bool, Error> {
        let path = || place.full_of(name.to_bytes());
        if known.marks.mounted || known.marks.unreadable {
            self.keep(&path());
            return Ok(false);
        }
        if !known.is_directory() {
            return match sys::unlinkat(fd, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(true),
                Err(error) => Err(error).context("remove", &path()),
            };
        }
        let empty = self.empty(
            place.child(name.to_bytes()).context("open", &path())?,
            known.directory,
        )?;
        if !empty {
            return Ok(false);
        }
        match sys::unlinkat(fd, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(error) => Err(error).context("remove", &path()),
        }
    }

    fn keep(&self, path: &std::path::Path) {
        lock(&self.applied).notes.push(format!(
            "{}: it is not in the checkpoint, but was not removed: it could not have been kept",
            path.display()
        ));
    }

    /// Removes all that is in a directory, however deep. Returns whether all is gone.
    fn empty(&self, place: Place, number: u32) -> Result<bool, Error> {
        let mut all = true;
        // Each directory comes twice: to empty it, and to remove it from the one above.
        let mut left = vec![(place, number, false)];
        while let Some((place, number, emptied)) = left.pop() {
            let nothing = Directory::default();
            let directory = self
                .apply
                .live
                .directory(number)
                .map_or(&nothing, AsRef::as_ref);
            if directory.unreadable {
                self.keep(&place.full());
                all = false;
                continue;
            }
            let fd = match metadata::open_to_change(&place) {
                Ok(fd) => fd,
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            if !emptied {
                left.push((place.clone(), number, true));
            }
            for entry in &directory.entries {
                let name = directory.name(entry);
                let path = || -> PathBuf { place.full_of(name.to_bytes()) };
                if entry.is_directory() {
                    if !emptied {
                        let child = place.child(name.to_bytes()).context("open", &path())?;
                        left.push((child, entry.directory, false));
                        continue;
                    }
                    match sys::unlinkat(&fd, name, AtFlags::REMOVEDIR) {
                        Ok(()) | Err(Errno::NOENT) => {}
                        // Something in it was kept, and said so.
                        Err(Errno::NOTEMPTY) if !all => {}
                        Err(error) => return Err(error).context("remove", &path()),
                    }
                } else if !emptied {
                    all &= self.remove_entry(&place, fd.as_fd(), name, entry)?;
                }
            }
        }
        Ok(all)
    }
}
