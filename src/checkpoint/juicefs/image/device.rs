//! Images as loop devices.

use std::ffi::CStr;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::super::Error;
use super::super::program::Tool;
use super::tool;

/// How the filesystem behaves: what is removed makes room on the volume, and what cannot be
/// written stops it instead of going on with what was not.
const OPTIONS: &CStr = c"discard,errors=remount-ro";
/// What is only read is not repaired either: it was whole when it was cloned.
const READING: &CStr = c"noload";

const LOSETUP: Tool<'static> = tool("losetup", "install util-linux");

/// What a filesystem is mounted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To be used as the environment's directory.
    Write,
    /// To be looked at: nothing in it is run, or is a device.
    Read,
}

/// A loop device.
pub struct Loop(String);

impl Loop {
    /// Where it is: `/dev/loop0`.
    pub fn path(&self) -> PathBuf {
        Path::new("/dev").join(&self.0)
    }

    /// That of this name: `loop0`.
    pub fn named(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// What tells it from everything else that is ever on a device of this name: the kernel numbers
    /// what is put on devices, from each boot on.
    pub fn identity(&self) -> Option<String> {
        let number = fs::read_to_string(format!("/sys/block/{}/diskseq", self.0)).ok()?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(format!("{} {} {}", self.0, number.trim(), boot.trim()))
    }

    /// The file that it is on; none where nothing is.
    pub fn backing_file(&self) -> Option<PathBuf> {
        let path = format!("/sys/block/{}/loop/backing_file", self.0);
        let file = fs::read_to_string(path).ok()?;
        Some(PathBuf::from(file.trim_end()))
    }

    /// Whether a filesystem of this kind is in use on it, mounted or not.
    pub fn has(&self, kind: &str) -> bool {
        Path::new("/sys/fs").join(kind).join(&self.0).exists()
    }
}

/// All loop devices.
pub fn all() -> impl Iterator<Item = Loop> {
    let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("loop")).map(Loop)
}

/// Mounts the filesystem in `image` at `at`. The inner error is that of the mount itself.
pub fn mount(image: &Path, at: &Path, access: Access) -> Result<Result<(), Errno>, Error> {
    let path = image.display().to_string();
    let (flags, options) = match access {
        Access::Write => (MountFlags::NOATIME, OPTIONS),
        Access::Read => {
            let guarded = MountFlags::NODEV | MountFlags::NOSUID;
            (MountFlags::RDONLY | MountFlags::NOATIME | guarded, READING)
        }
    };
    let read_only: &[&str] = match access {
        Access::Write => &[],
        Access::Read => &["--read-only"],
    };
    // A device that is there is used again: two would be two filesystems in one file.
    let arguments = [read_only, &["--nooverlap", "--find", "--show", &path]].concat();
    let device = LOSETUP.run(&arguments)?;
    let device = PathBuf::from(device.trim());
    let mounted = rustix::mount::mount(&device, at, "ext4", flags, options);
    // From now on the device goes when nothing is mounted from it.
    let detached = detach(&device);
    if mounted.is_ok() {
        detached?;
    }
    Ok(mounted)
}

/// Has a loop device go when nothing is mounted from it any more.
pub fn detach(device: &Path) -> Result<(), Error> {
    let detached = LOSETUP.run(&["--detach", &device.display().to_string()]);
    detached.map(drop)
}

/// Whether a loop device is on it: one is where it could not be unmounted.
pub fn is_attached(image: &Path) -> Result<bool, Error> {
    let found = LOSETUP.run(&["--associated", &image.display().to_string()])?;
    Ok(!found.trim().is_empty())
}
