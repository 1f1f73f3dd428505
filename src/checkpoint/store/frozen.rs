//! How the instant is taken: the best of what the filesystem can do.

mod clones;

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::{self as sys, Mode, OFlags, RenameFlags};

use self::clones::{MAKING, Updated};
use super::place::Place;
use super::stamp::{self, Stamp};
use crate::checkpoint::driver::{Context as _, Error};
use crate::sys::btrfs;

/// What `statfs` says of btrfs.
const BTRFS: sys::FsWord = 0x9123_683e;
/// The inode number of the root of each subvolume.
const SUBVOLUME: u64 = 256;
/// The snapshot or the clones of the checkpoint in the making.
const TAKEN: &CStr = c"taken";
/// Those of the last one: what has not changed since need not be read again.
const KEPT: &CStr = c"kept";

/// How the instant is taken.
#[derive(Debug)]
pub enum CaptureSource {
    /// What changes is read while everything runs, and what changed meanwhile while it is
    /// held.
    Copy,
    /// A snapshot of the whole tree is taken while everything is held, and read afterwards.
    Snapshot(Aside),
    /// Large files are cloned, again while everything is held if they have changed since, and
    /// read afterwards.
    Clones(Aside),
}

/// A directory beside the tree, on its filesystem.
#[derive(Debug)]
pub struct Aside {
    dir: PathBuf,
    fd: OwnedFd,
    /// What is known of the clones among what was taken that were kept ones and were brought up to
    /// date, by their inodes.
    updated: Mutex<HashMap<u64, Updated>>,
    /// Held while a file is cloned, by the remainder of its inode.
    making: [Mutex<()>; MAKING],
}

impl CaptureSource {
    /// The best one for the tree at `tree`.
    pub fn best(tree: &Path) -> Self {
        match Self::try_best(tree) {
            Ok(source) => source,
            Err(error) => {
                tracing::debug!("neither snapshots nor clones can be made: {error}");
                Self::Copy
            }
        }
    }

    fn try_best(tree: &Path) -> io::Result<Self> {
        let looks = fs::metadata(tree)?;
        let is_btrfs = sys::statfs(tree)?.f_type == BTRFS;
        let aside = Aside::beside(tree)?;
        if is_btrfs && looks.ino() == SUBVOLUME {
            match aside.snapshot(tree).and_then(|()| aside.destroy(TAKEN)) {
                Ok(()) => return Ok(Self::Snapshot(aside)),
                Err(error) => tracing::debug!("no snapshots: {error}"),
            }
        }
        match aside.try_to_clone() {
            Ok(()) => Ok(Self::Clones(aside)),
            Err(error) => {
                // Nothing is left where nothing can be done.
                let _ = fs::remove_dir(&aside.dir);
                Err(error)
            }
        }
    }

    /// What it is called in `/status`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Copy => "precopy",
            Self::Snapshot(_) => "btrfs",
            Self::Clones(_) => "reflink",
        }
    }

    /// What is beside the tree, if it is used.
    #[must_use]
    pub const fn aside(&self) -> Option<&Aside> {
        match self {
            Self::Copy => None,
            Self::Snapshot(aside) | Self::Clones(aside) => Some(aside),
        }
    }
}

impl Aside {
    /// `.NAME.checkpoint` beside the directory NAME, empty but for what the last checkpoint
    /// has kept there.
    fn beside(tree: &Path) -> io::Result<Self> {
        let none = || io::Error::other("the tree has nothing beside it");
        let (parent, name) = (tree.parent(), tree.file_name());
        let (parent, name) = (parent.ok_or_else(none)?, name.ok_or_else(none)?);
        let dir = parent.join(format!(".{}.checkpoint", name.to_string_lossy()));
        // What is in it is for nobody else: what was removed from the tree may be there still.
        match fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = sys::open(&dir, flags, Mode::empty())?;
        let aside = Self {
            dir,
            fd,
            updated: Mutex::default(),
            making: Default::default(),
        };
        aside.drop_taken();
        Ok(aside)
    }

    /// Where something in it is.
    fn path(&self, name: &CStr) -> PathBuf {
        let name = std::ffi::OsStr::from_bytes(name.to_bytes());
        self.dir.join(name)
    }

    /// Takes a snapshot of the tree.
    pub fn snapshot(&self, tree: &Path) -> io::Result<()> {
        let subvolume = File::open(tree)?;
        btrfs::snapshot(subvolume.as_fd(), self.fd.as_fd(), TAKEN)
    }

    fn destroy(&self, name: &CStr) -> io::Result<()> {
        btrfs::destroy(self.fd.as_fd(), name)
    }

    /// The snapshot that was taken.
    pub fn taken(&self) -> Result<Place, Error> {
        let path = self.path(TAKEN);
        Place::root(&path).context("open", &path)
    }

    /// The snapshot of the checkpoint before, if there is one.
    #[must_use]
    pub fn kept(&self) -> Option<Place> {
        Place::root(&self.path(KEPT)).ok()
    }

    /// Forgets what was taken for a checkpoint that came to nothing, but for clones that are still
    /// of use.
    pub fn drop_taken(&self) {
        if self.destroy(TAKEN).is_err() {
            self.drop_clones();
        }
    }

    /// Makes the snapshot that was taken the one that is kept. What goes wrong costs the next
    /// checkpoint time, and nothing else.
    pub fn keep_snapshot(&self) {
        let kept = match self.destroy(KEPT) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => {
                let fd = self.fd.as_fd();
                let renamed = sys::renameat_with(fd, TAKEN, fd, KEPT, RenameFlags::NOREPLACE);
                renamed.map_err(Into::into)
            }
        };
        if let Err(error) = kept {
            tracing::warn!("the next checkpoint has to read changed files whole: {error}");
            self.drop_taken();
        }
    }

    /// Takes a snapshot of the tree as it is and keeps it.
    pub fn keep_tree(&self, tree: &Path) {
        match self.snapshot(tree) {
            Ok(()) => self.keep_snapshot(),
            Err(error) => tracing::warn!("no snapshot of what was restored: {error}"),
        }
    }
}

/// The file at `path` in an older snapshot, if it is the one with this stamp: then what is
/// known of that is known of it.
pub fn same_file(snapshot: &Place, path: &[u8], known: &Stamp) -> Option<OwnedFd> {
    let root = snapshot.open().ok()?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = sys::openat(&root, CString::new(path).ok()?, flags, Mode::empty()).ok()?;
    let (stamp, _) = stamp::stamp_of(file.as_fd()).ok()?;
    (stamp == *known).then_some(file)
}
