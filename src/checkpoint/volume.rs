//! A btrfs filesystem in an image, so that checkpoints are snapshots whatever filesystem the
//! image is on.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::mount::UnmountFlags;

use super::driver::{Context as _, Error};
use super::{durable, mounts};
use crate::config::Volume;
use crate::spawn::{Program, Spawner, Streams};
use crate::sys::btrfs;

/// The name of the subvolume that is the environment's directory.
const TREE: &std::ffi::CStr = c"fs";

/// Makes a filesystem where no mount is seen. Else mkfs.btrfs asks of each loop device that is
/// mounted whether it is the same file, and gives up if one is on a network filesystem that has
/// died.
const MKFS_ALONE: [&str; 5] = [
    "unshare",
    "--mount",
    "sh",
    "-c",
    r#"mount --bind /dev/null "/proc/$$/mounts" && exec mkfs.btrfs -q -f "$0""#,
];

/// Mounts `volume`; makes what is missing of it.
pub async fn mount(volume: &Volume, spawner: &Spawner) -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::Unusable(
            "storage.volume needs root, who alone can mount it; without it checkpoints work too"
                .to_owned(),
        ));
    }
    let (image, dir) = (volume.image.as_path(), volume.dir.as_path());
    fs::create_dir_all(dir).context("create", dir)?;
    if is_mounted(dir)? {
        tracing::info!("{} is mounted still", dir.display());
    } else {
        make_image(volume, spawner).await?;
        let words = ["mount", "-t", "btrfs", "-o", "loop,noatime,discard=async"];
        run(spawner, &words, &[image, dir], "util-linux").await?;
    }
    let grown = File::open(image).and_then(|file| file.metadata());
    if grown.context("look at", image)?.len() < volume.size {
        let file = File::options().write(true).open(image);
        file.and_then(|file| file.set_len(volume.size))
            .context("make larger", image)?;
        let words = ["losetup", "--set-capacity"];
        let device = loop_device(dir)?;
        run(spawner, &words, &[&device], "util-linux").await?;
        let words = ["btrfs", "filesystem", "resize", "max"];
        run(spawner, &words, &[dir], "btrfs-progs").await?;
        tracing::info!("{} has {} bytes now", image.display(), volume.size);
    }
    let made = File::open(dir).and_then(|fd| btrfs::create(fd.as_fd(), TREE));
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(error).context("create a subvolume in", dir)
        }
        _ => Ok(()),
    }
}

/// Unmounts it; if something is still in it, as soon as that is gone.
pub fn unmount(volume: &Volume) {
    let dir = volume.dir.as_path();
    let unmounted = rustix::mount::unmount(dir, UnmountFlags::empty());
    if let Err(error) = unmounted {
        tracing::warn!("{} is still in use: {error}", dir.display());
        let _ = rustix::mount::unmount(dir, UnmountFlags::DETACH);
    }
}

/// Makes the image, if there is none. A crash leaves one that has not got its name.
async fn make_image(volume: &Volume, spawner: &Spawner) -> Result<(), Error> {
    let image = volume.image.as_path();
    if image.exists() {
        return Ok(());
    }
    let unfinished = image.with_extension("unfinished");
    let file = File::create(&unfinished).context("create", &unfinished)?;
    file.set_len(volume.size).context("create", &unfinished)?;
    let words = ["mkfs.btrfs", "-q", "-f"];
    if let Err(error) = run(spawner, &words, &[&unfinished], "btrfs-progs").await {
        if !error.to_string().contains("mount status") {
            return Err(error);
        }
        run(spawner, &MKFS_ALONE, &[&unfinished], "util-linux").await?;
        tracing::info!("{error}; so it was asked where it sees no mounts");
    }
    file.sync_all().context("flush", &unfinished)?;
    durable::rename(&unfinished, image)
}

/// Whether something is mounted at `dir`.
pub fn is_mounted(dir: &Path) -> Result<bool, Error> {
    let looks = |path: &Path| {
        let flags = rustix::fs::AtFlags::empty();
        let mask = rustix::fs::StatxFlags::BASIC_STATS;
        rustix::fs::statx(rustix::fs::CWD, path, flags, mask)
    };
    let stat = looks(dir).context("look at", dir)?;
    let above = looks(dir.parent().unwrap_or(dir)).context("look at", dir)?;
    Ok((stat.stx_dev_major, stat.stx_dev_minor) != (above.stx_dev_major, above.stx_dev_minor))
}

/// The device that is mounted at `dir`.
fn loop_device(dir: &Path) -> Result<PathBuf, Error> {
    let found = mounts::at(dir)?.map(|mount| PathBuf::from(mount.device));
    let dir = dir.display();
    found.ok_or_else(|| Error::Unusable(format!("{dir}: its device is not known")))
}

/// Runs a program of the system, which Debian has in `package`, to its end.
async fn run(
    spawner: &Spawner,
    words: &[&str],
    paths: &[&Path],
    package: &str,
) -> Result<(), Error> {
    let mut command: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    command.extend(paths.iter().map(|path| path.display().to_string()));
    let said = command.join(" ");
    let program = Program::new(command, Streams::Output);
    let failed = |why: String| Error::Unusable(format!("storage.volume: {why}"));
    let child = spawner.spawn_soon(program).await.map_err(|error| {
        let hint = match error.source.kind() {
            io::ErrorKind::NotFound => format!("; the package {package} has it"),
            _ => String::new(),
        };
        failed(format!("{error}{hint}"))
    })?;
    match child.finish().await {
        (Some(exit), _) if exit.success() => Ok(()),
        (_, output) => Err(failed(format!("`{said}` failed: {}", output.trim()))),
    }
}
