//! Where a path leads: a directory that is held open, and a name in it.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::error::{Error, Result};
use crate::config::{Live, User};

/// How many links are followed at the end of a path.
const LINKS: usize = 40;

/// Everything below one root.
#[derive(Clone, Debug)]
pub struct Files {
    root: Arc<Root>,
    config: Live,
}

/// The root, opened when it is there.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    opened: OnceLock<OwnedFd>,
}

/// A name in a directory that is held open.
#[derive(Debug)]
pub struct Place {
    /// The directory.
    pub parent: OwnedFd,
    /// The name in it; `.` for the root itself.
    pub name: OsString,
    /// The path as the client named it, made absolute.
    pub path: String,
}

impl Root {
    fn open(&self) -> std::result::Result<&OwnedFd, Errno> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&self.path, flags, Mode::empty())?;
        Ok(self.opened.get_or_init(|| opened))
    }
}

impl Files {
    /// Everything below `root`, for the main process of `config`.
    pub fn new(root: &Path, config: Live) -> std::io::Result<Self> {
        let root = Root {
            path: root.to_owned(),
            opened: OnceLock::new(),
        };
        // It may be on what a component brings, which is not there yet.
        if !config.borrow().has_storage_components() {
            root.open()?;
        }
        Ok(Self {
            root: Arc::new(root),
            config,
        })
    }

    /// Who gets what is made: the main process's user, unless it is asked for as root.
    pub(super) fn owner(&self, as_root: bool) -> Option<User> {
        let user = || self.config.borrow().process.user.clone();
        (!as_root).then(user).flatten()
    }

    /// `path`, relative to `working_dir` unless it is absolute.
    pub fn absolute(what: &'static str, working_dir: &str, path: &str) -> Result<PathBuf> {
        if path.is_empty() {
            return Err(Error::invalid(what, path, "no path is given"));
        }
        if path.contains('\0') || working_dir.contains('\0') {
            return Err(Error::invalid(what, "it", "a path cannot contain NUL"));
        }
        Ok(Path::new("/").join(working_dir).join(path))
    }

    /// Opens `path` below the root.
    pub fn open(&self, what: &'static str, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        let below = relative(path);
        let flags = flags | OFlags::CLOEXEC;
        let root = self.root.open();
        let root = root.map_err(|errno| Error::new(what, &path.display().to_string(), errno))?;
        let opened = rustix::fs::openat2(
            root,
            &below,
            flags,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        );
        opened.map_err(|errno| Error::new(what, &path.display().to_string(), errno))
    }

    /// The directory that `path` is in, and its name there. The last name is not followed
    /// if it is a link.
    pub fn place(&self, what: &'static str, path: &Path) -> Result<Place> {
        let text = path.display().to_string();
        let (parent, name) = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => (parent, name),
            // Up to where `..` leads, and there the directory itself.
            _ => (path, OsStr::new(".")),
        };
        let parent = self.open(what, parent, OFlags::PATH | OFlags::DIRECTORY);
        let parent = parent.map_err(|error| Error {
            path: text.clone(),
            ..error
        })?;
        Ok(Place {
            parent,
            name: name.to_owned(),
            path: text,
        })
    }

    /// Like [`Files::place`], but where a link leads.
    pub fn followed(&self, what: &'static str, path: &Path) -> Result<Place> {
        let mut path = path.to_owned();
        for _ in 0..LINKS {
            let place = self.place(what, &path)?;
            let link = rustix::fs::readlinkat(&place.parent, &place.name, Vec::new());
            let Ok(target) = link else { return Ok(place) };
            let target = Path::new(OsStr::from_bytes(target.as_bytes()));
            path = path.parent().unwrap_or(Path::new("/")).join(target);
        }
        let text = path.display().to_string();
        Err(Error::new(what, &text, Errno::LOOP))
    }
}

impl Place {
    /// What is there, without following a link.
    pub fn stat(&self) -> rustix::io::Result<Stat> {
        rustix::fs::statat(&self.parent, &self.name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// An error about this place.
    #[must_use]
    pub fn error(&self, what: &'static str, errno: Errno) -> Error {
        Error::new(what, &self.path, errno)
    }

    /// Whether there is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.stat()
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    }
}

/// The path below the root: the kernel takes it from there.
fn relative(path: &Path) -> PathBuf {
    let below: PathBuf = path
        .components()
        .filter(|part| !matches!(part, Component::RootDir | Component::Prefix(_)))
        .collect();
    if below.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        below
    }
}

/// Gives what was made to `owner`, if we may.
pub fn give(fd: impl AsFd, owner: Option<&User>) -> rustix::io::Result<()> {
    owner.map_or(Ok(()), |owner| give_to(fd, owner.uid, owner.gid))
}

/// Gives what was made to a user and a group by their numbers, if we may.
pub fn give_to(fd: impl AsFd, uid: u32, gid: u32) -> rustix::io::Result<()> {
    let (uid, gid) = (
        rustix::fs::Uid::from_raw(uid),
        rustix::fs::Gid::from_raw(gid),
    );
    match rustix::fs::fchown(fd, Some(uid), Some(gid)) {
        // Who is not root makes everything as themselves.
        Err(Errno::PERM) => Ok(()),
        result => result,
    }
}
