//! Snapshots of btrfs subvolumes.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// `_IOW(0x94, 23, struct btrfs_ioctl_vol_args_v2)`.
const SNAP_CREATE_V2: libc::c_ulong = 0x5000_9417;
/// `_IOW(0x94, 15, struct btrfs_ioctl_vol_args)`.
const SNAP_DESTROY: libc::c_ulong = 0x5000_940f;
/// `_IOW(0x94, 24, struct btrfs_ioctl_vol_args_v2)`.
const SUBVOL_CREATE_V2: libc::c_ulong = 0x5000_9418;
/// Nobody can write to it.
const READ_ONLY: u64 = 2;
/// The room for a name.
const NAME: usize = 4088;

/// `struct btrfs_ioctl_vol_args`; that of the second version is as long, has two numbers and
/// 32 bytes of nothing behind the first, and the name behind these.
#[repr(C)]
struct Arguments {
    fd: i64,
    rest: [u8; NAME],
}

impl Arguments {
    /// With `name` at `at` of the rest, and `flags` for the second version.
    fn new(fd: i64, flags: u64, at: usize, name: &CStr) -> io::Result<Box<Self>> {
        let mut arguments = Box::new(Self {
            fd,
            rest: [0; NAME],
        });
        if at > 0 {
            let room = arguments.rest.get_mut(8..16);
            room.ok_or(io::ErrorKind::InvalidInput)?
                .copy_from_slice(&flags.to_ne_bytes());
        }
        let name = name.to_bytes_with_nul();
        let room = arguments.rest.get_mut(at..at + name.len());
        room.ok_or(io::ErrorKind::InvalidInput)?
            .copy_from_slice(name);
        Ok(arguments)
    }

    fn send(&self, directory: BorrowedFd<'_>, request: libc::c_ulong) -> io::Result<()> {
        // SAFETY: `self` is laid out as the 4096 bytes that these requests take, has a name
        // that ends in NUL, and lives through the call; the kernel only reads it.
        let done = unsafe { libc::ioctl(directory.as_raw_fd(), request as _, &raw const *self) };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// Where the name is in the second version.
const SECOND: usize = 48;

/// Makes the snapshot `name` of `subvolume` in `directory`; it can only be read.
pub fn snapshot(
    subvolume: BorrowedFd<'_>,
    directory: BorrowedFd<'_>,
    name: &CStr,
) -> io::Result<()> {
    let fd = i64::from(subvolume.as_raw_fd());
    Arguments::new(fd, READ_ONLY, SECOND, name)?.send(directory, SNAP_CREATE_V2)
}

/// Makes the subvolume `name` in `directory`.
pub fn create(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    Arguments::new(0, 0, SECOND, name)?.send(directory, SUBVOL_CREATE_V2)
}

/// Removes the subvolume `name` in `directory`.
pub fn destroy(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    Arguments::new(0, 0, 0, name)?.send(directory, SNAP_DESTROY)
}
