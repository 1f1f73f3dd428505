//! Where the bytes of a file lie (`FS_IOC_FIEMAP`), and cloning some of them.

use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// How many extents are asked for at once.
const AT_ONCE: u32 = 128;
/// `_IOWR('f', 11, struct fiemap)`.
const FIEMAP: libc::c_ulong = 0xc020_660b;
/// `_IOR('X', 31, struct fsxattr)`.
const GET_ATTRIBUTES: libc::c_ulong = 0x801c_581f;
/// `_IOW(0x94, 13, struct file_clone_range)`.
const CLONE_RANGE: libc::c_ulong = 0x4020_940d;
/// Bring what is not written yet to its place first.
const SYNC: u32 = 1;
/// It has a place, but nothing was written there.
const UNWRITTEN: u32 = 0x800;
/// There is none behind it.
const LAST: u32 = 1;
/// Flags of extents that have no place of their own: unknown, not yet there, or inside
/// something else.
const ELSEWHERE: u32 = 0x2 | 0x4 | 0x100 | 0x200 | 0x400;

/// A part of a file and where it lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Extent {
    /// Its first byte in the file.
    pub logical: u64,
    /// Its first byte on the device.
    pub physical: u64,
    /// How many bytes it has.
    pub length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

impl Extent {
    /// An extent with a place of its own.
    #[cfg(test)]
    #[must_use]
    pub fn plain(logical: u64, physical: u64, length: u64) -> Self {
        Self {
            logical,
            physical,
            length,
            ..Self::default()
        }
    }

    /// Whether its place is its own, and tells whether it is the same.
    #[must_use]
    pub const fn has_place(&self) -> bool {
        self.flags & ELSEWHERE == 0
    }

    /// Whether it is compressed or encrypted: its place is that of all of it.
    #[must_use]
    pub const fn is_encoded(&self) -> bool {
        self.flags & 0x8 != 0
    }

    /// What kind of extent it is: written or not, compressed or not.
    #[must_use]
    pub const fn kind(&self) -> u32 {
        // Whether others share it, and how it was put together, change without the bytes.
        self.flags & !(LAST | 0x1000 | 0x2000)
    }
}

/// As the kernel has it, with room for some extents.
#[repr(C)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [Extent; AT_ONCE as usize],
}

/// `struct fsxattr`.
#[derive(Default)]
#[repr(C)]
struct Attributes {
    flags: u32,
    hint: u32,
    extents: u32,
    rest: [u32; 4],
}

/// How many extents a file has, if the filesystem keeps count of them: xfs does, others say 0.
#[must_use]
pub fn count(file: BorrowedFd<'_>) -> u32 {
    let mut attributes = Attributes::default();
    // SAFETY: `attributes` is laid out as `struct fsxattr`, which the kernel fills, and lives
    // through the call.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), GET_ATTRIBUTES as _, &raw mut attributes) };
    if done < 0 { 0 } else { attributes.extents }
}

/// `struct file_clone_range`.
#[repr(C)]
struct CloneRange {
    file: i64,
    start: u64,
    length: u64,
    to: u64,
}

/// Makes `clone` share so many bytes from `start` on with `file`, or all up to its end (none). Other
/// bounds are those of the filesystem's blocks. Waits for those who write to `file`.
pub fn clone_range(
    file: BorrowedFd<'_>,
    clone: BorrowedFd<'_>,
    start: u64,
    length: Option<NonZeroU64>,
) -> io::Result<()> {
    let arguments = CloneRange {
        file: file.as_raw_fd().into(),
        start,
        // For the kernel, too, 0 is up to the end.
        length: length.map_or(0, NonZeroU64::get),
        to: start,
    };
    // SAFETY: `arguments` is laid out as `struct file_clone_range`, which the kernel only reads,
    // and lives through the call.
    let done = unsafe { libc::ioctl(clone.as_raw_fd(), CLONE_RANGE as _, &raw const arguments) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The extents of a file that have been written to, in order. What is between them reads as zeros.
pub fn extents(file: BorrowedFd<'_>) -> io::Result<Vec<Extent>> {
    let mut found = Vec::new();
    let mut start = 0;
    loop {
        let mut map = Box::new(Fiemap {
            start,
            length: u64::MAX - start,
            flags: if start == 0 { SYNC } else { 0 },
            mapped: 0,
            count: AT_ONCE,
            reserved: 0,
            extents: [Extent::default(); AT_ONCE as usize],
        });
        // SAFETY: `map` is laid out as `struct fiemap` with `count` extents behind its head,
        // and lives through the call; the kernel writes no more than these.
        let done = unsafe { libc::ioctl(file.as_raw_fd(), FIEMAP as _, &raw mut *map) };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        let mapped = map.extents.get(..map.mapped as usize).unwrap_or_default();
        let written = mapped
            .iter()
            .filter(|extent| extent.flags & (UNWRITTEN | ELSEWHERE) != UNWRITTEN);
        found.extend(written);
        match mapped.last() {
            Some(last) if last.flags & LAST == 0 => start = last.logical + last.length,
            _ => return Ok(found),
        }
    }
}
