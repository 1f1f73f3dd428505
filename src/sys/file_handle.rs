//! Opening a file by the handle that the kernel has named it with.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// No filesystem has longer ones (`MAX_HANDLE_SZ`).
const LONGEST: usize = 128;

/// As the kernel has it, with room for the longest handle.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    name: [u8; LONGEST],
}

/// Opens, as a mere name (`O_PATH`), what `handle` of type `kind` names on the filesystem
/// of `mount`.
pub fn open(mount: BorrowedFd<'_>, kind: i32, handle: &[u8]) -> io::Result<OwnedFd> {
    let mut whole = Handle {
        bytes: u32::try_from(handle.len()).unwrap_or(u32::MAX),
        kind,
        name: [0; LONGEST],
    };
    let room = whole.name.get_mut(..handle.len());
    room.ok_or(io::ErrorKind::InvalidInput)?
        .copy_from_slice(handle);
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: `whole` is laid out as `struct file_handle` and lives through the call; the
    // kernel reads `bytes` bytes behind its head, and so many are there.
    let fd = unsafe { libc::open_by_handle_at(mount.as_raw_fd(), (&raw mut whole).cast(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
