//! What differs between two trees that nobody changes.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{self as sys, FileType, Mode, OFlags, Stat};

use super::super::super::driver::{Change, Context as _, Difference, Error};
use super::super::super::store::{Place, attributes};
use super::directory::entries;

/// How much of two files is compared at once.
const BLOCK: usize = 64 << 10;

/// What differs between two trees; at most `most` things, and whether there are more. Of what
/// was added or removed, everything in it is named too.
pub fn differences(old: &Path, new: &Path, most: usize) -> Result<(Vec<Difference>, bool), Error> {
    let mut search = Search {
        found: Vec::new(),
        most,
        more: false,
    };
    let places = (
        Place::root(old).context("open", old)?,
        Place::root(new).context("open", new)?,
    );
    let stats = (stat_of(&places.0)?, stat_of(&places.1)?);
    if is_other(&stats.0, &stats.1) {
        search.tell(b"", Change::Metadata, Some(&stats.0), Some(&stats.1));
    }
    let mut left = vec![(Some(places.0), Some(places.1))];
    while let Some((old, new)) = left.pop() {
        if search.more {
            break;
        }
        search.compare(old.as_ref(), new.as_ref(), &mut left)?;
    }
    let Search {
        mut found, more, ..
    } = search;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((found, more))
}

fn stat_of(place: &Place) -> Result<Stat, Error> {
    let directory = place.open().context("open", &place.full())?;
    sys::fstat(&directory).context("look at", &place.full())
}

struct Search {
    found: Vec<Difference>,
    most: usize,
    more: bool,
}

/// A directory that is open.
struct Open<'a> {
    place: &'a Place,
    fd: OwnedFd,
    entries: BTreeMap<CString, Stat>,
}

impl<'a> Open<'a> {
    fn new(place: &'a Place) -> Result<Self, Error> {
        let fd = place.open().context("open", &place.full())?;
        let entries = entries(&fd, &place.full())?.into_iter().collect();
        Ok(Self { place, fd, entries })
    }

    fn child(&self, name: &CStr) -> Result<Place, Error> {
        let child = self.place.child(name.to_bytes());
        child.context("open", &self.place.full_of(name.to_bytes()))
    }

    /// Adds to an error what it was about.
    fn at<T>(&self, name: &CStr, result: io::Result<T>) -> Result<T, Error> {
        result.context("read", &self.place.full_of(name.to_bytes()))
    }
}

const fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

impl Search {
    /// Compares two directories, or tells of all that is in one; those below them are added to
    /// what is left.
    fn compare(
        &mut self,
        old: Option<&Place>,
        new: Option<&Place>,
        left: &mut Vec<(Option<Place>, Option<Place>)>,
    ) -> Result<(), Error> {
        let old = old.map(Open::new).transpose()?;
        let new = new.map(Open::new).transpose()?;
        let names = |open: Option<&Open>| {
            let entries = open.map(|open| open.entries.keys().cloned());
            entries.into_iter().flatten().collect::<Vec<_>>()
        };
        let mut all = names(old.as_ref());
        all.extend(names(new.as_ref()));
        all.sort();
        all.dedup();
        for name in all {
            let mut below = (None, None);
            let there = |open: Option<&Open>| open.and_then(|it| it.entries.get(&name).copied());
            let stats = (there(old.as_ref()), there(new.as_ref()));
            let is_directory =
                |stat: Option<&Stat>| stat.is_some_and(|it| kind(it) == FileType::Directory);
            if let Some(old) = old.as_ref().filter(|_| is_directory(stats.0.as_ref())) {
                below.0 = Some(old.child(&name)?);
            }
            if let Some(new) = new.as_ref().filter(|_| is_directory(stats.1.as_ref())) {
                below.1 = Some(new.child(&name)?);
            }
            if below.0.is_some() || below.1.is_some() {
                left.push(below);
            }
            let change = match (old.as_ref().zip(stats.0), new.as_ref().zip(stats.1)) {
                (None, _) => Some(Change::Added),
                (_, None) => Some(Change::Removed),
                (Some((old, before)), Some((new, after))) => {
                    change(&name, (old, &before), (new, &after))?
                }
            };
            let place = new.as_ref().or(old.as_ref()).map(|open| open.place);
            if let (Some(change), Some(place)) = (change, place) {
                let path = place.path_of(name.to_bytes());
                self.tell(&path, change, stats.0.as_ref(), stats.1.as_ref());
            }
            if self.more {
                break;
            }
        }
        Ok(())
    }

    fn tell(&mut self, path: &[u8], change: Change, old: Option<&Stat>, new: Option<&Stat>) {
        if self.found.len() >= self.most {
            self.more = true;
            return;
        }
        let path = if path.is_empty() { b"." } else { path };
        let size = |stat: Option<&Stat>| {
            let file = stat.filter(|it| kind(it) == FileType::RegularFile);
            file.and_then(|it| u64::try_from(it.st_size).ok())
        };
        self.found.push(Difference {
            path: String::from_utf8_lossy(path).into_owned(),
            change,
            kind: match new.or(old).map(kind) {
                Some(FileType::RegularFile) => "file",
                Some(FileType::Directory) => "directory",
                Some(FileType::Symlink) => "symlink",
                _ => "other",
            },
            old_size: size(old),
            size: size(new),
        });
    }
}

/// Whether owner, mode or time are others.
fn is_other(old: &Stat, new: &Stat) -> bool {
    let looks = |stat: &Stat| {
        let modified = (stat.st_mtime, stat.st_mtime_nsec);
        (stat.st_mode, stat.st_uid, stat.st_gid, modified)
    };
    looks(old) != looks(new)
}

/// How an entry that is in both has changed.
fn change(
    name: &CStr,
    (old, before): (&Open, &Stat),
    (new, after): (&Open, &Stat),
) -> Result<Option<Change>, Error> {
    let stamp = |stat: &Stat| (stat.st_ino, stat.st_ctime, stat.st_ctime_nsec, stat.st_size);
    // Nothing about it can change without that.
    if stamp(before) == stamp(after) {
        return Ok(None);
    }
    let is_same_content = kind(before) == kind(after)
        && match kind(before) {
            FileType::RegularFile => {
                before.st_size == after.st_size && new.at(name, is_same_file(name, old, new))?
            }
            FileType::Symlink => {
                let target = |open: &Open| Ok(sys::readlinkat(&open.fd, name, Vec::new())?);
                old.at(name, target(old))? == new.at(name, target(new))?
            }
            FileType::Directory => true,
            _ => before.st_rdev == after.st_rdev,
        };
    if !is_same_content {
        return Ok(Some(Change::Modified));
    }
    let attributes = |open: &Open| Ok(attributes::read(open.fd.as_fd(), name)?);
    let is_same = !is_other(before, after)
        && old.at(name, attributes(old))? == new.at(name, attributes(new))?;
    Ok((!is_same).then_some(Change::Metadata))
}

fn is_same_file(name: &CStr, old: &Open, new: &Open) -> io::Result<bool> {
    let open = |open: &Open| -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(sys::openat(
            &open.fd,
            OsStr::from_bytes(name.to_bytes()),
            flags,
            Mode::empty(),
        )?
        .into())
    };
    let (mut old, mut new) = (open(old)?, open(new)?);
    let (mut before, mut after) = (Vec::new(), Vec::new());
    loop {
        for (file, bytes) in [(&mut old, &mut before), (&mut new, &mut after)] {
            bytes.clear();
            file.take(BLOCK as u64).read_to_end(bytes)?;
        }
        if before != after {
            return Ok(false);
        }
        if before.is_empty() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_differs_is_told_with_everything_in_it() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for dir in [&old, &new] {
            fs::create_dir(dir.path().join("same")).unwrap();
            fs::write(dir.path().join("same/file"), "x").unwrap();
            symlink("a", dir.path().join("link")).unwrap();
        }
        fs::create_dir_all(old.path().join("gone/deep")).unwrap();
        fs::write(old.path().join("gone/deep/file"), "12345").unwrap();
        fs::write(new.path().join("new"), "123").unwrap();
        fs::write(old.path().join("text"), "abc").unwrap();
        fs::write(new.path().join("text"), "abd").unwrap();
        fs::write(old.path().join("kind"), "abc").unwrap();
        fs::create_dir(new.path().join("kind")).unwrap();
        let (found, more) = differences(old.path(), new.path(), 100).unwrap();
        assert!(!more);
        let found: Vec<_> = found
            .iter()
            .filter(|it| it.change != Change::Metadata)
            .map(|it| (it.path.as_str(), it.change, it.old_size, it.size))
            .collect();
        assert_eq!(
            found,
            [
                ("gone", Change::Removed, None, None),
                ("gone/deep", Change::Removed, None, None),
                ("gone/deep/file", Change::Removed, Some(5), None),
                ("kind", Change::Modified, Some(3), None),
                ("new", Change::Added, None, Some(3)),
                ("text", Change::Modified, Some(3), Some(3)),
            ]
        );
        let (few, more) = differences(old.path(), new.path(), 2).unwrap();
        assert_eq!((few.len(), more), (2, true));
        let (same, more) = differences(old.path(), old.path(), 2).unwrap();
        assert_eq!((same.len(), more), (0, false));
    }
}
