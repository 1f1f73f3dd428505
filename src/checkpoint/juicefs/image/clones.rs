//! Clones of the image: what the daemon has done in processes that can be killed.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::RenameFlags;
use rustix::mount::{MountFlags, UnmountFlags};

use super::super::super::driver::Context as _;
use super::super::super::volume::is_mounted;
use super::super::super::{durable, mounts};
use super::super::clones::Intent;
use super::super::{Error, Volume, lock};
use super::device::{self, Access, Loop};
use super::thawing::remember;
use super::{FSCK, grow, make, overlay, try_to_mount};

/// How long a filesystem may be in use when it is to be unmounted.
const BUSY: Duration = Duration::from_secs(2);
/// The pause between two attempts.
const AGAIN: Duration = Duration::from_millis(20);

/// Puts the image at `other` into the place of that which is mounted, and mounts it; the one that
/// was mounted is at `other` then. Each has a name at any time. Without another, the image that is
/// there is mounted if it is not.
pub fn swap(volume: &Volume, other: Option<&Path>) -> Result<(), Error> {
    let Some(size) = volume.image else {
        return Ok(());
    };
    let _swapping = lock::take(&volume.swap_lock())?;
    let (image, tree) = (volume.image_file(), volume.tree());
    match other {
        None if is_mounted(&tree)? => return overlay::mount(volume),
        None => {}
        Some(other) => {
            if let Some(target) = overlay::target(volume) {
                take_down(target)?;
                // Whoever has something open there still cannot write to what is kept.
                make_read_only(&tree).context("keep writers from", &tree)?;
            }
            if is_mounted(&tree)? {
                take_down(&tree)?;
            }
            exchange(&image, other)?;
        }
    }
    grow(&image, size)?;
    let mounted = try_to_mount(&image, &tree)?;
    mounted.context("mount", &image)?;
    remember(volume);
    overlay::mount(volume)
}

/// Has two files change places.
fn exchange(image: &Path, other: &Path) -> Result<(), Error> {
    let here = rustix::fs::CWD;
    let swapped = rustix::fs::renameat_with(here, other, here, image, RenameFlags::EXCHANGE);
    swapped.context("put into the place of the image", other)?;
    for path in [image, other] {
        durable::sync_directory(path.parent().unwrap_or(path))?;
    }
    Ok(())
}

/// Unmounts what is to be kept as a checkpoint: all that was written must be in it, and nothing may
/// be written to it later.
fn take_down(tree: &Path) -> Result<(), Error> {
    durable::sync_filesystem(tree)?;
    let begun = Instant::now();
    while let Err(error) = rustix::mount::unmount(tree, UnmountFlags::empty()) {
        if begun.elapsed() < BUSY {
            std::thread::sleep(AGAIN);
            continue;
        }
        if make_read_only(tree).is_err() {
            return Err(error).context(
                "unmount (something that is not below sprite-env writes there; fuser -vm tells what)",
                tree,
            )?;
        }
        tracing::warn!(
            "{} is still in use: {error}; it goes when that ends",
            tree.display()
        );
        let unmounted = rustix::mount::unmount(tree, UnmountFlags::DETACH);
        return Ok(unmounted.context("unmount", tree)?);
    }
    Ok(())
}

/// Lets nobody write to a filesystem any more; fails if somebody has a file open for that.
fn make_read_only(tree: &Path) -> rustix::io::Result<()> {
    let flags = MountFlags::RDONLY | MountFlags::NOATIME;
    rustix::mount::mount_remount(tree, flags, c"")
}

/// Puts the image back that a restore has replaced by a clone that is damaged, if one is under way;
/// whether the filesystem is mounted. Nothing else is to take its place then.
pub fn undo_damaged(volume: &Volume) -> Result<bool, Error> {
    let (image, replaced) = (volume.image_file(), volume.replaced_image());
    let inode = fs::metadata(&image).map(|found| found.ino());
    let clone = Intent::read(&volume.restore_intent())?.map(|intent| intent.clone);
    // What is there else is the environment's own, which is mended.
    if clone.is_none() || clone != inode.ok() || !replaced.exists() {
        return Ok(false);
    }
    if try_to_mount(&image, &volume.tree())?.is_ok() {
        return Ok(true);
    }
    tracing::error!("what was to be restored cannot be mounted; what it replaced is put back");
    exchange(&image, &replaced)?;
    Ok(false)
}

/// Mounts a clone at `at`, to be read.
pub fn show(image: &Path, at: &Path) -> Result<(), Error> {
    let mounted = device::mount(image, at, Access::Read)?;
    Ok(mounted.context("mount", image)?)
}

/// Makes a new filesystem in `image`, and mounts it at `at`.
pub fn blank(volume: &Volume, image: &Path, at: &Path) -> Result<(), Error> {
    let Some(size) = volume.image else {
        return Ok(());
    };
    make(image, size)?;
    let mounted = try_to_mount(image, at)?;
    Ok(mounted.context("mount", image)?)
}

/// Fails unless the filesystem in `image` is whole.
pub fn check(image: &Path) -> Result<(), Error> {
    let path = image.display().to_string();
    FSCK.run(&["-f", "-n", &path]).map(drop)
}

/// Unmounts every clone of this volume, so that nothing keeps the volume.
pub fn unmount_all(volume: &Volume) {
    let clones = volume.canonical().checkpoints();
    let is_clone = |device: &Loop| {
        let file = device.backing_file();
        file.is_some_and(|file| file.starts_with(&clones))
    };
    let devices: Vec<_> = device::all().filter(is_clone).collect();
    for mount in mounts::all().unwrap_or_default().iter().rev() {
        if devices
            .iter()
            .any(|device| device.path() == Path::new(&mount.device))
        {
            let unmounted = rustix::mount::unmount(&mount.at, UnmountFlags::empty())
                .or_else(|_| rustix::mount::unmount(&mount.at, UnmountFlags::DETACH));
            if let Err(error) = unmounted {
                tracing::warn!("cannot unmount {}: {error}", mount.at.display());
            }
        }
    }
    // One that was to be mounted.
    for device in devices.iter().filter(|device| is_clone(device)) {
        if let Err(error) = device::detach(&device.path()) {
            tracing::warn!("{error}");
        }
    }
}
