//! Removing, renaming and copying files, and changing what they belong to.

use std::os::fd::{AsFd, AsRawFd as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use super::error::{Error, Result};
use super::place::{Files, Place, give, give_to};
use super::write::{Options, sync_directory};

/// A file that was copied, and its length in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// From where.
    pub source: PathBuf,
    /// To where.
    pub dest: PathBuf,
    /// Its length.
    pub size: u64,
}

/// How files are to be copied.
#[derive(Clone, Copy, Debug, Default)]
pub struct CopyOptions {
    /// Whether directories are, with all that is in them.
    pub recursive: bool,
    /// Whether times and owners are kept, not only permissions.
    pub preserve: bool,
    /// Whether the copies are to belong to root.
    pub as_root: bool,
}

impl Files {
    /// Removes a file, or a directory: an empty one, or with all that is in it.
    pub fn delete(&self, path: &Path, recursive: bool) -> Result<()> {
        let what = "delete";
        let place = self.place(what, path)?;
        if place.name == "." {
            return Err(Error::invalid(what, &place.path, "it is the root"));
        }
        let stat = place.stat().map_err(|errno| place.error(what, errno))?;
        let flags = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if recursive => {
                self.empty(path)?;
                AtFlags::REMOVEDIR
            }
            FileType::Directory => AtFlags::REMOVEDIR,
            _ => AtFlags::empty(),
        };
        rustix::fs::unlinkat(&place.parent, &place.name, flags)
            .map_err(|errno| place.error(what, errno))?;
        let _ = sync_directory(&place);
        Ok(())
    }

    /// Removes everything in a directory, the deepest first.
    fn empty(&self, directory: &Path) -> Result<()> {
        for (path, stat) in self.tree(directory)?.into_iter().rev() {
            let place = self.place("delete", &path)?;
            let flags = match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => AtFlags::REMOVEDIR,
                _ => AtFlags::empty(),
            };
            match rustix::fs::unlinkat(&place.parent, &place.name, flags) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(place.error("delete", errno)),
            }
        }
        Ok(())
    }

    /// Everything below a directory, each directory before what is in it.
    fn tree(&self, directory: &Path) -> Result<Vec<(PathBuf, Stat)>> {
        let mut found = Vec::new();
        let mut pending = vec![directory.to_owned()];
        while let Some(directory) = pending.pop() {
            for (path, stat) in self.children(&directory)? {
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    pending.push(path.clone());
                }
                found.push((path, stat));
            }
        }
        Ok(found)
    }

    /// Gives a file another name; what had it before is replaced.
    pub fn rename(&self, source: &Path, dest: &Path) -> Result<()> {
        let what = "rename";
        let (from, to) = (self.place(what, source)?, self.place(what, dest)?);
        rustix::fs::renameat(&from.parent, &from.name, &to.parent, &to.name).map_err(|errno| {
            Error {
                why: Some(format!("to {}: {}", to.path, std::io::Error::from(errno))),
                ..from.error(what, errno)
            }
        })?;
        sync_directory(&to)
            .and_then(|()| sync_directory(&from))
            .map_err(|errno| to.error(what, errno))
    }

    /// Copies a file, or a directory with all that is in it. A directory that is there
    /// takes in the copy under its own name.
    pub fn copy(&self, source: &Path, dest: &Path, options: CopyOptions) -> Result<Vec<Copied>> {
        let what = "copy";
        let place = self.followed(what, source)?;
        let stat = place.stat().map_err(|errno| place.error(what, errno))?;
        let mut dest = dest.to_owned();
        if self.place(what, &dest)?.is_directory()
            && let Some(name) = source.file_name()
        {
            dest.push(name);
        }
        let mut copied = Vec::new();
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            copied.extend(self.copy_one(source, &stat, &dest, options)?);
            return Ok(copied);
        }
        if !options.recursive {
            let why = "it is a directory; ask for \"recursive\"";
            let error = place.error(what, Errno::ISDIR);
            return Err(Error {
                why: Some(why.to_owned()),
                ..error
            });
        }
        if dest.starts_with(source) {
            return Err(Error::invalid(
                what,
                &place.path,
                "a directory cannot be copied into itself",
            ));
        }
        copied.extend(self.copy_one(source, &stat, &dest, options)?);
        for (path, stat) in self.tree(source)? {
            let below = path.strip_prefix(source).unwrap_or(&path);
            copied.extend(self.copy_one(&path, &stat, &dest.join(below), options)?);
        }
        Ok(copied)
    }

    /// Copies one thing: of a directory itself, not what is in it. None for what cannot
    /// be copied (pipes, sockets, devices).
    fn copy_one(
        &self,
        source: &Path,
        stat: &Stat,
        dest: &Path,
        options: CopyOptions,
    ) -> Result<Option<Copied>> {
        let what = "copy";
        let to = self.place(what, dest)?;
        let error = |errno| to.error(what, errno);
        let permissions = stat.st_mode & 0o7777;
        let mut size = 0;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                match rustix::fs::mkdirat(&to.parent, &to.name, Mode::from(0o700)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(error(errno)),
                }
                let made = self.open(what, dest, OFlags::RDONLY | OFlags::DIRECTORY)?;
                self.dress(&made, stat, options).map_err(error)?;
                rustix::fs::fchmod(&made, Mode::from(permissions)).map_err(error)?;
            }
            FileType::RegularFile => {
                let (mut from, _) = self.read(source)?;
                // Beside its place first: a copy onto itself, or one that fails, takes
                // nothing away.
                let mut draft = self.write(
                    dest,
                    Options {
                        mode: Some(permissions),
                        as_root: options.as_root,
                        ..Options::default()
                    },
                )?;
                draft.append_all(&mut from)?;
                self.dress(draft.file(), stat, options).map_err(error)?;
                size = draft.keep()?.1;
            }
            FileType::Symlink => return self.copy_link(source, &to),
            _ => return Ok(None),
        }
        Ok(Some(Copied {
            source: source.to_owned(),
            dest: dest.to_owned(),
            size,
        }))
    }

    /// Gives a copy the owner and times that it is to have.
    fn dress(&self, made: impl AsFd, stat: &Stat, options: CopyOptions) -> rustix::io::Result<()> {
        if !options.preserve {
            let owner = self.owner(options.as_root);
            return give(made, owner.as_ref());
        }
        give_to(&made, stat.st_uid, stat.st_gid)?;
        let time = |seconds, nanoseconds: u64| rustix::fs::Timespec {
            tv_sec: seconds,
            tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
        };
        let times = rustix::fs::Timestamps {
            last_access: time(stat.st_atime, stat.st_atime_nsec),
            last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
        };
        rustix::fs::futimens(&made, &times)
    }

    fn copy_link(&self, source: &Path, to: &Place) -> Result<Option<Copied>> {
        let what = "copy";
        let from = self.place(what, source)?;
        let target = rustix::fs::readlinkat(&from.parent, &from.name, Vec::new())
            .map_err(|errno| from.error(what, errno))?;
        rustix::fs::symlinkat(&target, &to.parent, &to.name)
            .map_err(|errno| to.error(what, errno))?;
        Ok(Some(Copied {
            source: source.to_owned(),
            dest: PathBuf::from(&to.path),
            size: 0,
        }))
    }

    /// Sets permissions; returns the paths.
    pub fn chmod(&self, path: &Path, mode: u32, recursive: bool) -> Result<Vec<PathBuf>> {
        let what = "change the mode of";
        self.each(path, recursive, |place| {
            // Held, so that nobody puts a link in its place meanwhile.
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let held = rustix::fs::openat(&place.parent, &place.name, flags, Mode::empty())
                .map_err(|errno| place.error(what, errno))?;
            let stat = rustix::fs::fstat(&held).map_err(|errno| place.error(what, errno))?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                return Err(place.error(what, Errno::LOOP));
            }
            let held = format!("/proc/self/fd/{}", held.as_raw_fd());
            rustix::fs::chmod(held, Mode::from(mode & 0o7777))
                .map_err(|errno| place.error(what, errno))
        })
    }

    /// Sets the owner, the group, or both; returns the paths.
    pub fn chown(
        &self,
        path: &Path,
        uid: Option<u32>,
        gid: Option<u32>,
        recursive: bool,
    ) -> Result<Vec<PathBuf>> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        self.each(path, recursive, |place| {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(&place.parent, &place.name, uid, gid, flags)
                .map_err(|errno| place.error("change the owner of", errno))
        })
    }

    /// Does something with a path, where a link at its end leads; recursively with all
    /// that is below it, links left out.
    fn each(
        &self,
        path: &Path,
        recursive: bool,
        mut act: impl FnMut(&Place) -> Result<()>,
    ) -> Result<Vec<PathBuf>> {
        let first = self.followed("change", path)?;
        act(&first)?;
        let mut done = vec![path.to_owned()];
        if recursive && first.is_directory() {
            for (path, stat) in self.tree(path)? {
                if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
                    act(&self.place("change", &path)?)?;
                    done.push(path);
                }
            }
        }
        Ok(done)
    }
}
