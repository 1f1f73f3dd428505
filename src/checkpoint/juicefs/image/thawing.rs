//! Filesystems that a killed sprite-env has left frozen.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags};

use super::super::super::driver::Context as _;
use super::super::super::mounts;
use super::super::{Error, Volume};
use super::device::Loop;
use crate::sys::freeze;

/// Lets go what one like us held for a checkpoint when it was killed.
pub fn thaw(tree: &Path) {
    let thawed = File::open(tree).and_then(|root| freeze::thaw(root.as_fd()));
    if thawed.is_ok() {
        tracing::warn!("{} was frozen: thawed", tree.display());
    }
}

/// Writes down which device the filesystem at the environment's directory is on.
pub fn remember(volume: &Volume) {
    let write = || {
        let mount = mounts::at(&volume.tree())?;
        let name = mount
            .as_ref()
            .and_then(|it| it.device.strip_prefix("/dev/"));
        let identity = name.and_then(|name| Loop::named(name).identity());
        let path = volume.device();
        fs::write(&path, identity.unwrap_or_default()).context("write", &path)
    };
    if let Err(error) = write() {
        tracing::warn!("{error}");
    }
}

/// Lets go what is on a JuiceFS that is dead, by way of another mount of it: no path leads to that
/// which is there, and the kernel unmounts it as soon as somebody looks. Once it is unmounted
/// nothing could let it go any more, and the kernel would keep it and its device for ever.
pub fn thaw_dead(volume: &Volume) -> Result<(), Error> {
    // A path alone may be that of another container's image.
    let identity = fs::read_to_string(volume.device()).unwrap_or_default();
    let name = identity.split(' ').next().unwrap_or_default();
    let device = Loop::named(name);
    if name.is_empty() || device.identity() != Some(identity) || !device.has("ext4") {
        return Ok(());
    }
    let at = volume.dir.join("thawed");
    fs::create_dir_all(&at).context("create", &at)?;
    // One that was killed here has left its mount.
    while rustix::mount::unmount(&at, UnmountFlags::DETACH).is_ok() {}
    let path = device.path();
    // What is in use is not read anew; after an error it may be read-only, and is mounted so only.
    let mount = |flags| rustix::mount::mount(&path, &at, "ext4", flags, c"");
    let mounted = mount(MountFlags::NOATIME)
        .or_else(|_| mount(MountFlags::NOATIME | MountFlags::RDONLY))
        .context("mount once more at", &at);
    if mounted.is_ok() {
        thaw(&at);
    }
    while rustix::mount::unmount(&at, UnmountFlags::DETACH).is_ok() {}
    let removed = fs::remove_dir(&at).context("remove", &at);
    mounted.and(removed)?;
    Ok(())
}
