//! The environment's directory as an ext4 filesystem in one file on the volume.
//!
//! To JuiceFS an environment is one large file then: metadata do not grow with its entries, and
//! small files cost what they cost on a disk. A process of its own mounts the filesystem and
//! waits; when it is told to go it unmounts it, so JuiceFS is never asked to before that.

mod clones;
mod device;
mod overlay;
mod thawing;

use std::fs::{self, DirBuilder, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, Timespec, Timestamps};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

pub use self::clones::{blank, check, show, swap};

use self::device::Access;
use self::thawing::{remember, thaw, thaw_dead};
use super::super::driver::Context as _;
use super::super::volume::is_mounted;
use super::super::{durable, mounts};
use super::program::Tool;
use super::{Error, Volume, lock};
use crate::sys;

/// What the kernel says of a filesystem that is damaged, or is none.
const CORRUPT: [Errno; 4] = [Errno::INVAL, Errno::UCLEAN, Errno::BADMSG, Errno::ILSEQ];

/// The bit of e2fsck's exit code that says that there is damage that it has left.
const UNCORRECTED: i32 = 4;

/// So much at the end of an image may be no part of the filesystem: two groups of blocks.
const SLACK: u64 = 256 << 20;

/// A program of the system.
const fn tool(program: &'static str, package: &'static str) -> Tool<'static> {
    Tool {
        program,
        key: None,
        hint: package,
    }
}

const MKFS: Tool<'static> = tool("mkfs.ext4", "install e2fsprogs");
const FSCK: Tool<'static> = tool("e2fsck", "install e2fsprogs");
const RESIZE: Tool<'static> = tool("resize2fs", "install e2fsprogs");

/// Mounts the filesystem, makes it if there is none, and unmounts it when it is told to go.
pub fn serve(volume: &Volume) -> Result<(), Error> {
    let Some(size) = volume.image else {
        return Ok(());
    };
    // One that comes while it is mounted must not leave it so.
    sys::block_all_signals().map_err(Error::Runtime)?;
    let held = lock::take(&volume.image_lock())?;
    let (image, tree) = (volume.image_file(), volume.tree());
    let below = volume.mount_point();
    if !is_mounted(&below)? {
        return Err(Error::NotMounted(below));
    }
    {
        // What a killed sprite-env has begun with the image ends first.
        let _swapping = lock::take(&volume.swap_lock())?;
        if !is_taken_over(volume, &tree)? {
            prepare(&image, &tree, size)?;
            grow(&image, size)?;
            if !clones::undo_damaged(volume)? {
                mount(&image, &tree, size)?;
            }
        }
    }
    thaw(&tree);
    remember(volume);
    // Not before: whoever writes to it does so after us.
    let ready = lock::tell_ready(&held, &volume.image_lock());
    let served = ready.and_then(|()| overlay::mount(volume));
    let served = served.and_then(|()| wait_for_the_end());
    // What is unmounted while it is frozen is so for ever.
    thaw(&tree);
    let unmounted = unmount_all(volume);
    served.and(unmounted)
}

/// Whether it is mounted still, by one like us that was killed. A filesystem must not be mounted
/// twice, so one that has stopped to write is unmounted first.
fn is_taken_over(volume: &Volume, tree: &Path) -> Result<bool, Error> {
    if !tree.exists() || !is_mounted(tree)? {
        return Ok(false);
    }
    if is_writable(tree)? {
        return Ok(true);
    }
    if let Some(target) = overlay::target(volume) {
        unmount(target)?;
    }
    let unmounted = rustix::mount::unmount(tree, UnmountFlags::empty());
    unmounted.context("unmount", tree)?;
    Ok(false)
}

/// Whether it still writes. Since Linux 6.14 one that has stopped to does not call itself read-only
/// in `statfs`.
fn is_writable(tree: &Path) -> Result<bool, Error> {
    let mount = mounts::at(tree)?.ok_or_else(|| Error::NotMounted(tree.to_owned()))?;
    let stopped = ["ro", "emergency_ro", "shutdown"];
    Ok(!stopped.iter().any(|option| mount.has(option)))
}

/// Fails unless the filesystem is mounted, by what this start has begun, and can be written to.
pub fn is_mounted_and_writable(volume: &Volume) -> Result<(), Error> {
    let tree = volume.tree();
    if !lock::is_ready(&volume.image_lock()) || !is_mounted(&tree)? {
        return Err(Error::NotMounted(tree));
    }
    if let Some(overlay) = &volume.overlay
        && overlay::target(volume).is_none()
    {
        return Err(Error::NotMounted(overlay.target.clone()));
    }
    if is_writable(&tree)? {
        Ok(())
    } else {
        Err(Error::ReadOnly(tree))
    }
}

/// Ends and unmounts what an earlier start has left, so that JuiceFS can be unmounted.
pub fn make_way(volume: &Volume) -> Result<(), Error> {
    let lock = volume.image_lock();
    if !lock.exists() {
        return Ok(());
    }
    let _lock = lock::take(&lock)?;
    let tree = volume.tree();
    if is_mounted(&volume.mount_point()).unwrap_or(false) && tree.exists() {
        thaw(&tree);
        unmount_all(volume)?;
    } else {
        clones::unmount_all(volume);
        if let Some(target) = overlay::target(volume) {
            unmount(target)?;
        }
        // What is on a dead JuiceFS goes with it, unless it is frozen.
        if let Err(error) = thaw_dead(volume) {
            tracing::warn!("{error}");
        }
    }
    Ok(())
}

/// Makes the place where it is mounted, and the filesystem if there is none. A crash leaves one
/// that has not got its name.
fn prepare(image: &Path, tree: &Path, size: u64) -> Result<(), Error> {
    if !tree.exists() {
        // Nobody is to write there while nothing is mounted.
        let above = tree.parent().unwrap_or(tree);
        fs::create_dir_all(above).context("create", above)?;
        let private = DirBuilder::new().mode(0o700).create(tree);
        private.context("create", tree)?;
    }
    if image.exists() {
        return Ok(());
    }
    let mut entries = fs::read_dir(tree).context("read", tree)?;
    if entries.next().is_some() {
        return Err(Error::Layout {
            tree: tree.to_owned(),
            has: "files, not an image",
            wanted: "tree",
        });
    }
    make(image, size)?;
    tracing::info!("a new filesystem: {}", image.display());
    Ok(())
}

fn make(image: &Path, size: u64) -> Result<(), Error> {
    let unfinished = image.with_extension("unfinished");
    durable::remove_file(&unfinished)?;
    let mut options = File::options();
    // What is in it is not for everybody.
    let file = options.write(true).create_new(true).mode(0o600);
    let file = file.open(&unfinished).context("create", &unfinished)?;
    file.set_len(size).context("create", &unfinished)?;
    // It is sparse, so what is zero need not be written.
    let later = "lazy_itable_init=1,lazy_journal_init=1,nodiscard";
    let path = unfinished.display().to_string();
    MKFS.run(&["-q", "-m", "0", "-E", later, &path])?;
    file.sync_all().context("flush", &unfinished)?;
    Ok(durable::rename(&unfinished, image)?)
}

/// Mounts it. One that is damaged is mended if that loses nothing; else it is kept under another
/// name, and there is a new one.
fn mount(image: &Path, tree: &Path, size: u64) -> Result<(), Error> {
    let first = try_to_mount(image, tree)?;
    if first.is_ok() {
        return Ok(());
    }
    let path = image.display().to_string();
    if device::is_attached(image)? {
        // What has it may write to it.
        return Ok(first.context("mount", image)?);
    }
    tracing::warn!("{path} is damaged; what can be mended safely is mended");
    let has_superblock = capacity(&superblock(image)?).is_some();
    let (code, said) = FSCK.code(&["-f", "-p", &path])?;
    if try_to_mount(image, tree)?.is_ok() {
        return Ok(());
    }
    // Anything else may be mended, or may be no damage but an error of what is below.
    if has_superblock && code & UNCORRECTED == 0 {
        return Err(Error::Failed {
            command: format!("mount {path}"),
            said,
        });
    }
    let time = Timestamp::now().strftime("%Y%m%dT%H%M%S%.6f");
    let kept = image.with_extension(format!("corrupt-{time}"));
    durable::rename(image, &kept)?;
    tracing::error!(
        "{path} cannot be mounted, and e2fsck could not mend it: {said}. It is kept as {}, and a new \
         one takes its place: restore a checkpoint",
        kept.display()
    );
    make(image, size)?;
    let again = try_to_mount(image, tree)?;
    Ok(again.context("mount", image)?)
}

/// Mounts it; the inner error is that it is damaged.
fn try_to_mount(image: &Path, tree: &Path) -> Result<Result<(), Errno>, Error> {
    match device::mount(image, tree, Access::Write)? {
        Ok(()) => {
            // It would be in the environment's directory, and makes itself anew when it is needed.
            remove_lost_and_found(tree);
            Ok(Ok(()))
        }
        Err(error) if CORRUPT.contains(&error) => Ok(Err(error)),
        Err(error) => Err(error).context("mount", image)?,
    }
}

fn remove_lost_and_found(tree: &Path) {
    let before = rustix::fs::stat(tree);
    if fs::remove_dir(tree.join("lost+found")).is_ok()
        && let Ok(before) = before
    {
        let time = |seconds, nanoseconds| Timespec {
            tv_sec: seconds,
            tv_nsec: i64::try_from(nanoseconds).unwrap_or_default(),
        };
        // It is none of the environment's changes.
        let times = Timestamps {
            last_access: time(before.st_atime, before.st_atime_nsec),
            last_modification: time(before.st_mtime, before.st_mtime_nsec),
        };
        let _ = rustix::fs::utimensat(rustix::fs::CWD, tree, &times, AtFlags::empty());
    }
}

/// Makes the filesystem as large as is wanted, if it is smaller and not damaged.
fn grow(image: &Path, size: u64) -> Result<(), Error> {
    let capacity = capacity(&superblock(image)?);
    let Some(capacity) = capacity.filter(|capacity| *capacity < size) else {
        return Ok(());
    };
    let file = File::options().write(true).open(image);
    let file = file.context("open", image)?;
    let length = file.metadata().context("look at", image)?.len();
    // It is never made shorter, and what is left at its end may be too little to be of use.
    if length >= size && size - capacity < SLACK || device::is_attached(image)? {
        return Ok(());
    }
    file.set_len(size.max(length))
        .context("make larger", image)?;
    drop(file);
    let path = image.display().to_string();
    // It says no if that has not been done, or was of no use.
    let _ = FSCK.run(&["-f", "-p", &path]);
    RESIZE.run(&[&path])?;
    tracing::info!("{path} has room for {size} bytes now");
    Ok(())
}

/// What tells what kind of filesystem it is.
fn superblock(image: &Path) -> Result<[u8; 1024], Error> {
    let mut superblock = [0; 1024];
    let read = File::open(image).and_then(|file| file.read_exact_at(&mut superblock, 1024));
    read.context("read", image)?;
    Ok(superblock)
}

/// How many bytes the filesystem has, by its superblock (ext4: `s_magic` at 56, `s_log_block_size`
/// at 24, `s_blocks_count` at 4 and, its upper half, at 336).
fn capacity(superblock: &[u8; 1024]) -> Option<u64> {
    let number = |at: usize| {
        let bytes = superblock.get(at..at + 4)?.try_into().ok()?;
        Some(u64::from(u32::from_le_bytes(bytes)))
    };
    if number(56)? & 0xffff != 0xef53 {
        return None;
    }
    let blocks = number(4)? | number(336)? << 32;
    let block = 1024_u64.checked_shl(number(24)?.try_into().ok()?)?;
    blocks.checked_mul(block)
}

/// Waits until we are told to go.
fn wait_for_the_end() -> Result<(), Error> {
    let signals = sys::signalfd().map_err(Error::Runtime)?;
    loop {
        let mut polled = [PollFd::new(&signals, PollFlags::IN)];
        match poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Error::Runtime(error.into())),
        }
        if let Ok(received) = sys::read_signal(signals.as_fd())
            && [libc::SIGTERM, libc::SIGINT].contains(&received.signal)
        {
            return Ok(());
        }
    }
}

/// Unmounts everything that is on the volume.
fn unmount_all(volume: &Volume) -> Result<(), Error> {
    clones::unmount_all(volume);
    if let Some(target) = overlay::target(volume) {
        unmount(target)?;
    }
    unmount(&volume.tree())
}

/// Writes what is left and unmounts it; if something is still in it, as soon as that is gone.
fn unmount(tree: &Path) -> Result<(), Error> {
    if !is_mounted(tree)? {
        return Ok(());
    }
    if let Err(error) = durable::sync_filesystem(tree) {
        tracing::error!("not everything could be written: {error}");
    }
    let Err(error) = rustix::mount::unmount(tree, UnmountFlags::empty()) else {
        return Ok(());
    };
    tracing::warn!(
        "{} is still in use: {error}; it goes when that ends",
        tree.display()
    );
    let unmounted = rustix::mount::unmount(tree, UnmountFlags::DETACH);
    Ok(unmounted.context("unmount", tree)?)
}
