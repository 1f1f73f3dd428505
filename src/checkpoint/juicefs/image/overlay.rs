//! An overlayfs over directories that are only read, with the image's filesystem above them: what
//! the environment changes of them is in the image, and in its checkpoints.
//!
//! The image has two directories then: `upper` with the changes, as overlayfs keeps them, and
//! `work`, which is its own.

use std::ffi::CString;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use rustix::mount::MountFlags;

use super::super::super::driver::Context as _;
use super::super::super::{durable, mounts};
use super::super::{Error, Overlay, Volume};

/// The kernel takes so many bytes of options, and cuts the rest off.
const LONGEST: usize = 4096;

/// Mounts it, if there is to be one and it is not there.
pub fn mount(volume: &Volume) -> Result<(), Error> {
    let Some(overlay) = &volume.overlay else {
        return Ok(());
    };
    let target = &overlay.target;
    fs::create_dir_all(target).context("create", target)?;
    if self::target(volume).is_some() {
        return Ok(());
    }
    for lower in &overlay.lower {
        let found = fs::metadata(lower).context("use as a lower directory", lower)?;
        if !found.is_dir() {
            return Err(Error::NoLower(lower.clone()));
        }
    }
    let tree = volume.tree();
    let (upper, work) = (tree.join("upper"), tree.join("work"));
    make_upper(&upper, overlay)?;
    if !work.exists() {
        let made = DirBuilder::new().mode(0o700).create(&work);
        made.context("create", &work)?;
    }
    let options = options(overlay, &upper, &work);
    if options.len() >= LONGEST {
        return Err(Error::LongOverlay(overlay.lower.len()));
    }
    let options = CString::new(options).unwrap_or_default();
    let flags = MountFlags::NOATIME;
    let mounted = rustix::mount::mount("overlay", target, "overlay", flags, options.as_c_str());
    Ok(mounted.context("mount an overlayfs at", target)?)
}

/// Where the changes are. What can be seen of the root is what the uppermost directory has.
fn make_upper(upper: &Path, overlay: &Overlay) -> Result<(), Error> {
    if upper.exists() {
        return Ok(());
    }
    let unfinished = upper.with_extension("unfinished");
    durable::remove_tree(&unfinished)?;
    fs::create_dir(&unfinished).context("create", &unfinished)?;
    if let Some(lower) = overlay.lower.first() {
        let found = fs::metadata(lower).context("look at", lower)?;
        let given = chown(&unfinished, Some(found.uid()), Some(found.gid()));
        given.context("give away", &unfinished)?;
        let permissions = fs::Permissions::from_mode(found.mode() & 0o7777);
        let changed = fs::set_permissions(&unfinished, permissions);
        changed.context("change the mode of", &unfinished)?;
    }
    Ok(durable::rename(&unfinished, upper)?)
}

/// Directories of the lower ones can be renamed (`redirect_dir`).
fn options(overlay: &Overlay, upper: &Path, work: &Path) -> String {
    let lower = overlay.lower.iter().map(|lower| escaped(lower));
    let lower = lower.collect::<Vec<_>>().join(":");
    let (upper, work) = (escaped(upper), escaped(work));
    format!("lowerdir={lower},upperdir={upper},workdir={work},redirect_dir=on")
}

fn escaped(path: &Path) -> String {
    let path = path.display().to_string();
    let special = |c: char| {
        if "\\:,".contains(c) {
            vec!['\\', c]
        } else {
            vec![c]
        }
    };
    path.chars().flat_map(special).collect()
}

/// Where it is mounted, if it is: what else is mounted there is not ours.
pub fn target(volume: &Volume) -> Option<&Path> {
    let target = volume.overlay.as_ref()?.target.as_path();
    let upper = format!("upperdir={},", escaped(&volume.tree().join("upper")));
    let mount = mounts::at(target).ok().flatten()?;
    (mount.kind == "overlay" && mount.options.contains(&upper)).then_some(target)
}
