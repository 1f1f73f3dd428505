//! Holding a whole filesystem still.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// `_IOWR('X', 119, int)`.
const FIFREEZE: libc::c_ulong = 0xc004_5877;
/// `_IOWR('X', 120, int)`.
const FITHAW: libc::c_ulong = 0xc004_5878;

fn send(directory: BorrowedFd<'_>, request: libc::c_ulong) -> io::Result<()> {
    // SAFETY: both requests take no argument, whatever their numbers say; the kernel reads and
    // writes nothing of ours.
    let done = unsafe { libc::ioctl(directory.as_raw_fd(), request as _, 0) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Writes everything that waits to be written to the filesystem of `directory`, and holds
/// whoever wants to change anything in it from then on.
pub fn freeze(directory: BorrowedFd<'_>) -> io::Result<()> {
    send(directory, FIFREEZE)
}

/// Lets them go.
pub fn thaw(directory: BorrowedFd<'_>) -> io::Result<()> {
    send(directory, FITHAW)
}
