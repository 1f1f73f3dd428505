//! The directories in which something has changed since a moment, told by the kernel
//! (fanotify(7)): what has not changed need not be looked at while everything is held.
//!
//! It needs `CAP_SYS_ADMIN` and a filesystem that can be watched as a whole; elsewhere the
//! tree is walked. Stores to mapped pages are not told, nor what libaio writes: files that are
//! mapped or open for writing are looked at anyway, and when the last mapping and descriptor of
//! one go, that it was open for writing is told.

use std::collections::HashSet;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
use rustix::fs::{AtFlags, Mode, OFlags, Statx, StatxFlags};
use rustix::io::Errno;

use super::place::Place;
use crate::sys::file_handle;

/// Told of changes to a filesystem.
#[derive(Debug)]
pub struct Watch {
    fanotify: Fanotify,
    /// On the filesystem, to open what it names.
    mount: OwnedFd,
    seen: HashSet<Handle>,
}

/// What the kernel names a directory with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Handle {
    kind: i32,
    bytes: Vec<u8>,
}

/// The length of the fixed part of an event.
const HEAD: usize = 24;
/// Kinds of information that have a directory's handle: with the name in it, and without.
const DIRECTORY: [u8; 2] = [2, 3];

impl Watch {
    /// Begins to be told of changes on the filesystem of `root`; none where that is not
    /// possible.
    #[must_use]
    pub fn begin(root: &Place) -> Option<Self> {
        let flags = InitFlags::from_bits_retain(
            libc::FAN_CLASS_NOTIF
                | libc::FAN_REPORT_DFID_NAME
                | libc::FAN_CLOEXEC
                | libc::FAN_NONBLOCK,
        );
        let fanotify =
            Fanotify::init(flags, EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC).ok()?;
        let mount = root.open().ok()?;
        let mask = MaskFlags::FAN_CREATE
            | MaskFlags::FAN_DELETE
            | MaskFlags::FAN_MOVED_FROM
            | MaskFlags::FAN_MOVED_TO
            | MaskFlags::FAN_MODIFY
            | MaskFlags::FAN_CLOSE_WRITE
            | MaskFlags::FAN_ATTRIB
            | MaskFlags::FAN_ONDIR;
        let marks = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_FILESYSTEM;
        let mut above = None;
        // By a directory of a subvolume btrfs cannot be marked, only by one of the filesystem's
        // own tree, which is often the one that the subvolume is in.
        while let Err(error) =
            fanotify.mark(marks, mask, above.as_ref().unwrap_or(&mount), Some("."))
        {
            if error != nix::errno::Errno::EXDEV {
                return None;
            }
            above = Some(parent(above.as_ref().unwrap_or(&mount).as_fd())?);
        }
        Some(Self {
            fanotify,
            mount,
            seen: HashSet::new(),
        })
    }

    /// The inodes of the directories in which something has changed since the watch began;
    /// none if not all changes were told.
    #[must_use]
    pub fn changed(&mut self) -> Option<HashSet<u64>> {
        self.drain()?;
        let mut inodes = HashSet::new();
        for handle in &self.seen {
            // One that was removed since cannot be opened; another may have its inode now.
            match file_handle::open(self.mount.as_fd(), handle.kind, &handle.bytes) {
                Ok(directory) => {
                    inodes.insert(inode(directory.as_fd()).ok()?);
                }
                // What has removed it is told of the directory that it was in.
                Err(error) if error.raw_os_error() == Some(libc::ESTALE) => {}
                Err(error) => {
                    tracing::debug!("the whole tree is looked at: a changed directory: {error}");
                    return None;
                }
            }
        }
        Some(inodes)
    }

    /// Ends it, in a thread: the kernel takes a while for that.
    pub fn end(self) {
        let thread = std::thread::Builder::new().name("unwatch".to_owned());
        // Without a thread it ends here.
        let _ = thread.spawn(move || drop(self));
    }

    /// What tells that there is something to read.
    pub fn descriptor(&self) -> std::io::Result<OwnedFd> {
        self.fanotify.as_fd().try_clone_to_owned()
    }

    /// Forgets what was told so far: somebody has looked at it.
    pub fn clear(&mut self) {
        self.seen.clear();
    }

    /// How many directories were told.
    #[must_use]
    pub fn told(&self) -> usize {
        self.seen.len()
    }

    /// Reads all that was told; none if something was lost.
    pub fn drain(&mut self) -> Option<()> {
        let mut buffer = vec![0; 256 << 10];
        loop {
            match rustix::io::read(self.fanotify.as_fd(), &mut buffer[..]) {
                Ok(0) | Err(Errno::AGAIN) => return Some(()),
                Ok(length) => self.take(buffer.get(..length)?)?,
                Err(Errno::INTR) => {}
                Err(_) => return None,
            }
        }
    }

    /// Takes in events; none if one says that some were lost, or cannot be understood.
    fn take(&mut self, mut events: &[u8]) -> Option<()> {
        while !events.is_empty() {
            let length = u32::from_ne_bytes(*events.first_chunk()?) as usize;
            let (event, rest) = events.split_at_checked(length)?;
            let mask = u64::from_ne_bytes(*event.get(8..)?.first_chunk()?);
            if mask & libc::FAN_Q_OVERFLOW != 0 {
                return None;
            }
            self.seen.insert(directory(event.get(HEAD..)?)?);
            events = rest;
        }
        Some(())
    }
}

/// The handle of the directory in an event's information.
fn directory(mut information: &[u8]) -> Option<Handle> {
    while let Some([kind, _, low, high]) = information.first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([*low, *high]));
        let (record, rest) = information.split_at_checked(length.max(4))?;
        if DIRECTORY.contains(kind) {
            // Behind the head and the number of the filesystem.
            let handle = record.get(12..)?;
            let length = u32::from_ne_bytes(*handle.first_chunk()?) as usize;
            let kind = i32::from_ne_bytes(*handle.get(4..)?.first_chunk()?);
            let bytes = handle.get(8..)?.get(..length)?.to_vec();
            return Some(Handle { kind, bytes });
        }
        information = rest;
    }
    None
}

fn inode(directory: BorrowedFd<'_>) -> Result<u64, Errno> {
    let flags = AtFlags::EMPTY_PATH;
    Ok(rustix::fs::statx(directory, c"", flags, StatxFlags::INO)?.stx_ino)
}

/// The directory that one is in; none if that is of another mount.
fn parent(directory: BorrowedFd<'_>) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::openat(directory, c"..", flags, Mode::empty()).ok()?;
    let looks = |of: BorrowedFd<'_>| {
        let wanted = StatxFlags::INO | StatxFlags::MNT_ID;
        rustix::fs::statx(of, c"", AtFlags::EMPTY_PATH, wanted).ok()
    };
    let (here, there) = (looks(directory)?, looks(parent.as_fd())?);
    let place = |looks: &Statx| (looks.stx_dev_major, looks.stx_dev_minor, looks.stx_ino);
    // Above the root of a mount namespace there is that root itself.
    let is_above = here.stx_mnt_id == there.stx_mnt_id && place(&here) != place(&there);
    is_above.then_some(parent)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn every_kind_of_change_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let root = Place::root(dir.path()).unwrap();
        if Watch::begin(&root).is_none() {
            println!("skipped: this machine does not let us watch a filesystem");
            return;
        }
        let at = |name: &str| dir.path().join(name);
        for name in [
            "kept", "made", "removed", "written", "looks", "from", "to", "linked",
        ] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("file"), "x").unwrap();
        }
        let inode = |name: &str| fs::metadata(at(name)).unwrap().ino();
        let open = fs::OpenOptions::new()
            .write(true)
            .open(at("written/file"))
            .unwrap();
        let mode = || std::os::unix::fs::PermissionsExt::from_mode(0o600);
        let ways: [(&str, &dyn Fn() -> std::io::Result<()>); 9] = [
            // As when a file that was mapped is left.
            ("written", &|| {
                let left = fs::OpenOptions::new().write(true).open(at("written/file"));
                left.map(drop)
            }),
            ("made", &|| fs::create_dir(at("made/new"))),
            ("removed", &|| fs::remove_file(at("removed/file"))),
            ("written", &|| std::io::Write::write_all(&mut &open, b"y")),
            ("written", &|| open.set_len(100)),
            ("looks", &|| fs::set_permissions(at("looks/file"), mode())),
            ("from", &|| fs::rename(at("from/file"), at("to/other"))),
            ("to", &|| fs::rename(at("to/other"), at("to/third"))),
            ("linked", &|| {
                fs::hard_link(at("to/third"), at("linked/link"))
            }),
        ];
        for (name, change) in ways {
            let mut watch = Watch::begin(&root).unwrap();
            change().unwrap();
            let changed = watch.changed().unwrap();
            assert!(changed.contains(&inode(name)), "{name}: {changed:?}");
            assert!(!changed.contains(&inode("kept")));
        }
        let mut watch = Watch::begin(&root).unwrap();
        fs::write(at("made/new/file"), "").unwrap();
        fs::remove_dir_all(at("made/new")).unwrap();
        let changed = watch.changed().unwrap();
        assert!(changed.contains(&inode("made")), "what is gone was in it");
    }
}
