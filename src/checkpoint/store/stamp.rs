//! What `statx` says of a file, as far as it tells whether the file has changed.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{self as sys, AtFlags, FileType, Mode, OFlags, Statx, StatxFlags};
use serde::{Deserialize, Serialize};

use super::node::Time;

/// What tells whether a file has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Its inode number.
    pub inode: u64,
    /// A file's length in bytes; the number of a device; 0 for anything else.
    pub size: u64,
    /// When its content was modified.
    pub modified: Time,
    /// When anything of it was changed.
    pub changed: Time,
    /// Its type and permissions.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// How many names it has; 0 for a directory.
    pub links: u32,
}

impl Stamp {
    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// Whether it is a regular file with more than one name.
    #[must_use]
    pub fn is_group(&self) -> bool {
        self.links > 1 && self.kind() == FileType::RegularFile
    }
}

/// A stamp, and whether something else is mounted there.
pub fn stamp(
    directory: BorrowedFd<'_>,
    name: &std::ffi::CStr,
    device: (u32, u32),
) -> rustix::io::Result<(Stamp, bool)> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let stat = sys::statx(directory, name, flags, StatxFlags::BASIC_STATS)?;
    let is_root = rustix::fs::StatxAttributes::MOUNT_ROOT;
    let mounted = device_of(&stat) != device
        || (stat.stx_attributes_mask.contains(is_root) && stat.stx_attributes.contains(is_root));
    Ok((from_statx(&stat), mounted))
}

/// The stamp of an open file, and its filesystem.
pub fn stamp_of(file: BorrowedFd<'_>) -> rustix::io::Result<(Stamp, (u32, u32))> {
    let stat = sys::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
    Ok((from_statx(&stat), device_of(&stat)))
}

const fn device_of(stat: &Statx) -> (u32, u32) {
    (stat.stx_dev_major, stat.stx_dev_minor)
}

fn from_statx(stat: &Statx) -> Stamp {
    let time = |time: &rustix::fs::StatxTimestamp| Time {
        seconds: time.tv_sec,
        nanoseconds: time.tv_nsec,
    };
    let mode = u32::from(stat.stx_mode);
    let (size, links) = match FileType::from_raw_mode(mode) {
        FileType::RegularFile => (stat.stx_size, stat.stx_nlink),
        FileType::CharacterDevice | FileType::BlockDevice => (
            sys::makedev(stat.stx_rdev_major, stat.stx_rdev_minor),
            stat.stx_nlink,
        ),
        FileType::Directory => (0, 0),
        _ => (0, stat.stx_nlink),
    };
    Stamp {
        inode: stat.stx_ino,
        size,
        modified: time(&stat.stx_mtime),
        changed: time(&stat.stx_ctime),
        mode,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        links,
    }
}

/// How long a change may hide behind an older one with the same change time: nothing on
/// filesystems whose times are made finer when somebody looks (Linux 6.13 and later),
/// else the tick of the kernel's clock, rounded up; very long where times are cached.
/// `dir` is where it is tried out; `same` tells whether that is the filesystem in
/// question.
pub fn granularity(dir: &Path, same: bool, tree: &Path) -> Duration {
    const FUSE: sys::FsWord = 0x6573_5546;
    const TICK: Duration = Duration::from_millis(20);
    if sys::statfs(tree).is_ok_and(|fs| fs.f_type == FUSE) {
        return Duration::from_secs(2);
    }
    if same && is_fine(dir).unwrap_or(false) {
        Duration::ZERO
    } else {
        TICK
    }
}

/// Whether each of several changes right after a look has its own time.
fn is_fine(dir: &Path) -> io::Result<bool> {
    let path = dir.join("clock");
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::TRUNC;
    let file = sys::open(&path, flags, Mode::from_raw_mode(0o600))?;
    let mut last = None;
    let mut each_differs = true;
    for _ in 0..20 {
        rustix::io::write(&file, b"x")?;
        let stat = sys::statx(&file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
        let now = from_statx(&stat).changed;
        each_differs &= last != Some(now);
        last = Some(now);
    }
    sys::unlink(&path)?;
    Ok(each_differs)
}
