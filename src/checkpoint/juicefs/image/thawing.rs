//! Filesystems that a killed sprite-env has left frozen.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags};

use super::super::super::driver::Context as _;
use super::super::{Error, Volume};
use super::device;
use crate::sys::freeze;

/// Lets go what one like us held for a checkpoint when it was killed.
pub fn thaw(tree: &Path) {
    let thawed = File::open(tree).and_then(|root| freeze::thaw(root.as_fd()));
    if thawed.is_ok() {
        tracing::warn!("{} was frozen: thawed", tree.display());
    }
}

/// Lets go what is on a JuiceFS that is dead, by way of another mount of it: no path leads to that
/// which is there, and the kernel unmounts it as soon as somebody looks. Once JuiceFS is unmounted
/// nothing tells any more what the device is of, and the kernel would keep both for ever.
pub fn thaw_dead(volume: &Volume) -> Result<(), Error> {
    let (image, at) = (volume.canonical().image_file(), volume.dir.join("thawed"));
    for device in device::all() {
        if device.backing_file() != Some(image.clone()) || !device.has("ext4") {
            continue;
        }
        fs::create_dir_all(&at).context("create", &at)?;
        // What is in use is not read anew.
        let (path, flags) = (device.path(), MountFlags::NOATIME);
        let mounted = rustix::mount::mount(&path, &at, "ext4", flags, c"");
        mounted.context("mount once more at", &at)?;
        thaw(&at);
        rustix::mount::unmount(&at, UnmountFlags::DETACH).context("unmount", &at)?;
        fs::remove_dir(&at).context("remove", &at)?;
    }
    Ok(())
}
