//! From a volume's settings to a mount that can be used.

use std::convert::Infallible;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use serde::{Deserialize, Serialize};

use super::super::driver::Context as _;
use super::super::durable;
use super::super::volume::is_mounted;
use super::{Error, Volume, lock, program};

/// Only its owner may change what is in the volume's root.
const OWN_ALONE: u32 = 0o755;

/// What JuiceFS calls the volume.
const NAME: &str = "volume";

/// What the volume was told last of what can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Adjustable {
    trash_days: u64,
    size: Option<u64>,
}

/// Makes a new volume if there is none, and becomes the program that serves its mount. Returns
/// only if that cannot be done.
pub fn mount(volume: &Volume) -> Result<Infallible, Error> {
    for dir in [&volume.dir, &volume.mount_point()] {
        // A mount that is dead is there, and is seen to below.
        let made =
            fs::create_dir_all(dir).or_else(|error| is_dead(&error).then_some(()).ok_or(error));
        made.context("create", dir)?;
    }
    program::check(volume)?;
    // It lives on in what we become.
    let _lock = lock::take(&volume.dir)?;
    detach(volume);
    if !Path::new("/dev/fuse").exists() {
        return Err(Error::NoFuse);
    }
    make_ready(volume)?;
    let mut command = Command::new(&volume.program);
    command
        .arg("mount")
        .args(&volume.options)
        .arg(volume.metadata_url())
        .arg(volume.mount_point());
    Err(program::missing(volume, command.exec()))
}

/// Makes the volume, or tells it what has changed.
fn make_ready(volume: &Volume) -> Result<(), Error> {
    let wanted = Adjustable {
        trash_days: volume.trash_days,
        size: volume.size,
    };
    let told_file = volume.dir.join("told.json");
    let told = fs::read(&told_file).ok();
    let told: Option<Adjustable> = told.and_then(|text| serde_json::from_slice(&text).ok());
    let is_there = volume.metadata().exists();
    if told == Some(wanted) && is_there {
        return Ok(());
    }
    let trash = wanted.trash_days.to_string();
    // In GiB: no less than was asked for. 0 = there is no limit.
    let size = wanted.size.map_or(0, |size| size.div_ceil(1 << 30));
    let size = size.to_string();
    let limits = ["--trash-days", trash.as_str(), "--capacity", size.as_str()];
    if told.is_some() && is_there || is_formatted(volume)? {
        let url = volume.metadata_url();
        let arguments = ["config", url.as_str(), "--yes"];
        program::run(volume, &[&arguments[..], &limits].concat())?;
    } else {
        format(volume, told.is_some(), &limits)?;
    }
    durable::write_json(&told_file, &wanted)?;
    Ok(())
}

/// Whether there is a volume. Half of one, which was cut off before anything was in it, is
/// removed.
fn is_formatted(volume: &Volume) -> Result<bool, Error> {
    let metadata = volume.metadata();
    if !metadata.exists() {
        return Ok(false);
    }
    match program::run(volume, &["status", &volume.metadata_url()]) {
        Ok(_) => Ok(true),
        // A log that is gone can make a database look so; then there are blocks.
        Err(Error::Failed { said, .. }) if said.contains("not formatted") => {
            if has_blocks(volume) {
                return Err(lost(volume));
            }
            // In this order: without a database, a log would be one that is to be kept.
            durable::remove_file(&volume.metadata_log())?;
            durable::remove_file(&metadata)?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// What a format writes first among the blocks.
fn mark(volume: &Volume) -> PathBuf {
    volume.objects().join(NAME).join("juicefs_uuid")
}

/// Whether there is anything of a volume but what a format writes first.
fn has_blocks(volume: &Volume) -> bool {
    let found = fs::read_dir(volume.objects().join(NAME));
    found.map_or(0, Iterator::count) > usize::from(mark(volume).exists())
}

fn lost(volume: &Volume) -> Error {
    Error::Lost {
        metadata: volume.metadata(),
        dir: volume.dir.clone(),
    }
}

/// Makes a volume, unless there `was` one.
fn format(volume: &Volume, was: bool, limits: &[&str]) -> Result<(), Error> {
    let objects = volume.objects();
    let log = volume.metadata_log();
    if was || has_blocks(volume) || log.exists() {
        return Err(lost(volume));
    }
    // One that was cut off may have left it.
    durable::remove_file(&mark(volume))?;
    let mut private = DirBuilder::new();
    private.recursive(true).mode(0o700);
    private.create(&objects).context("create", &objects)?;
    // It takes what does not end in a slash for the beginning of a name.
    let bucket = format!("{}/", objects.display());
    let (block_size, url) = (format!("{}K", volume.block_size), volume.metadata_url());
    let storage = ["--storage", "file", "--bucket", &bucket];
    let blocks = [
        "--block-size",
        &block_size,
        "--compress",
        &volume.compression,
    ];
    let arguments = [&["format"], &storage[..], &blocks, limits, &[&url, NAME]].concat();
    if let Err(error) = program::run(volume, &arguments) {
        // Half a volume is none.
        durable::remove_file(&log)?;
        durable::remove_file(&volume.metadata())?;
        return Err(error);
    }
    eprintln!("a new volume: {}", volume.dir.display());
    Ok(())
}

/// Fails unless the mount is there and can be written to. One that an earlier start has left is
/// none.
pub fn is_usable(volume: &Volume) -> Result<(), Error> {
    let at = volume.mount_point();
    if !lock::is_ours(&volume.dir) || !is_mounted(&at)? {
        return Err(Error::NotMounted(at));
    }
    // An environment is a whole system, with programs that run as others; JuiceFS has no option
    // for that where it mounts by itself.
    let flags = rustix::fs::statvfs(&at).context("look at", &at)?.f_flag;
    if flags.intersects(StatVfsMountFlags::NOSUID | StatVfsMountFlags::NODEV) {
        let remounted = rustix::mount::mount_remount(&at, MountFlags::BIND, "");
        remounted.context("allow set-uid programs on", &at)?;
    }
    // Others are not to change what is beside the environment's directory, nor the probe.
    let mode = fs::metadata(&at)
        .context("look at", &at)?
        .permissions()
        .mode();
    if mode & 0o777 != OWN_ALONE {
        let own_alone = fs::Permissions::from_mode(OWN_ALONE);
        fs::set_permissions(&at, own_alone).context("change the mode of", &at)?;
    }
    let probe = at.join(".sprite-env-probe");
    durable::remove_file(&probe)?;
    let written = File::create_new(&probe).and_then(|mut file| {
        file.write_all(b"probe")?;
        file.sync_all()
    });
    match written {
        // It answers. Somebody must be able to make room.
        Err(error) if is_full(&error) => {}
        written => written.context("write to", &probe)?,
    }
    durable::remove_file(&probe)?;
    Ok(())
}

/// Takes a mount away that nobody serves any more, if the volume is nobody else's.
pub fn tidy(volume: &Volume) {
    if let Ok(Some(_lock)) = lock::take_if_free(&volume.dir) {
        detach(volume);
    }
}

/// Takes a mount away that nobody serves any more. For whoever has the lock.
fn detach(volume: &Volume) {
    let at = volume.mount_point();
    // Not by what it looks like, which the kernel remembers.
    while rustix::fs::statfs(&at).is_err_and(|error| is_dead(&error.into())) {
        if let Err(error) = rustix::mount::unmount(&at, UnmountFlags::DETACH) {
            eprintln!("cannot unmount {}, which is dead: {error}", at.display());
            return;
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    full.contains(&error.kind())
}

/// Whether an error says that nobody serves a mount any more.
fn is_dead(error: &io::Error) -> bool {
    let dead = [Errno::NOTCONN, Errno::CONNABORTED].map(|error| Some(error.raw_os_error()));
    dead.contains(&error.raw_os_error())
}
