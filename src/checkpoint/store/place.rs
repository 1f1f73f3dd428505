//! A directory in a tree, opened relative to an open one above it: paths of any length,
//! and no step through a symbolic link.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{self as sys, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Paths are kept well below the 4096 bytes that the kernel takes.
const LONG: usize = 2048;
/// How directories are opened.
const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A directory in a tree.
#[derive(Clone)]
pub struct Place {
    base: Arc<Base>,
    /// From the base; empty for the base itself.
    path: Vec<u8>,
}

struct Base {
    fd: OwnedFd,
    /// From the root of the tree.
    path: Vec<u8>,
    root: PathBuf,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.full().display())
    }
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(path.len() + name.len() + 1);
    joined.extend_from_slice(path);
    if !path.is_empty() && !name.is_empty() {
        joined.push(b'/');
    }
    joined.extend_from_slice(name);
    joined
}

impl Place {
    /// The root of the tree at `path`, which may be reached by way of symbolic links.
    pub fn root(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = sys::open(path, flags, Mode::empty())?;
        let base = Base {
            fd,
            path: Vec::new(),
            root: path.to_owned(),
        };
        Ok(Self {
            base: Arc::new(base),
            path: Vec::new(),
        })
    }

    /// The directory `name` in it.
    pub fn child(&self, name: &[u8]) -> io::Result<Self> {
        if self.path.len() + name.len() < LONG {
            let base = Arc::clone(&self.base);
            let path = join(&self.path, name);
            return Ok(Self { base, path });
        }
        let base = Base {
            fd: self.open()?,
            path: join(&self.base.path, &self.path),
            root: self.base.root.clone(),
        };
        Ok(Self {
            base: Arc::new(base),
            path: name.to_vec(),
        })
    }

    /// Opens it; to read it leaves no trace, where that is possible: the times of the last access
    /// would be written to the disk with whatever is flushed next.
    pub fn open(&self) -> rustix::io::Result<OwnedFd> {
        match self.open_with(FLAGS | OFlags::NOATIME) {
            // Only its owner and root may leave no trace.
            Err(Errno::PERM) => self.open_with(FLAGS),
            result => result,
        }
    }

    fn open_with(&self, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        static OLD_KERNEL: AtomicBool = AtomicBool::new(false);
        let path: &[u8] = if self.path.is_empty() {
            b"."
        } else {
            &self.path
        };
        let path = OsStr::from_bytes(path);
        let base = self.base.fd.as_fd();
        if !OLD_KERNEL.load(Ordering::Relaxed) {
            let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
            match sys::openat2(base, path, flags, Mode::empty(), resolve) {
                // It says of the directory what the caller may not.
                Err(Errno::PERM) if flags.contains(OFlags::NOATIME) => return Err(Errno::PERM),
                // Some sandboxes forbid what they do not know.
                Err(Errno::NOSYS | Errno::PERM) => OLD_KERNEL.store(true, Ordering::Relaxed),
                result => return result,
            }
        }
        sys::openat(base, path, flags, Mode::empty())
    }

    /// Its path from the root of the tree.
    #[must_use]
    pub fn path(&self) -> Vec<u8> {
        join(&self.base.path, &self.path)
    }

    /// The path of the entry `name` in it from the root of the tree.
    #[must_use]
    pub fn path_of(&self, name: &[u8]) -> Vec<u8> {
        join(&self.path(), name)
    }

    /// Its path, for people.
    #[must_use]
    pub fn full(&self) -> PathBuf {
        self.full_of(b"")
    }

    /// The path of the entry `name` in it, for people.
    #[must_use]
    pub fn full_of(&self, name: &[u8]) -> PathBuf {
        let path = self.path_of(name);
        if path.is_empty() {
            return self.base.root.clone();
        }
        self.base.root.join(OsString::from_vec(path))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn reading_a_directory_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("below");
        fs::create_dir(&at).unwrap();
        let accessed = || {
            let meta = fs::metadata(&at).unwrap();
            (meta.atime(), meta.atime_nsec())
        };
        // With this time of access anybody else who reads it leaves a new one (relatime).
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        let times = fs::FileTimes::new().set_accessed(long_ago);
        fs::File::open(&at).unwrap().set_times(times).unwrap();
        let place = Place::root(dir.path()).unwrap().child(b"below").unwrap();
        let fd = place.open().unwrap();
        let names = sys::Dir::new(fd).unwrap();
        assert_eq!(names.count(), 2, ". and ..");
        assert_eq!(accessed(), (0, 0));
    }
}
