//! From a volume's settings to a mount that can be used.

use std::convert::Infallible;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use serde::{Deserialize, Serialize};

use super::super::driver::Context as _;
use super::super::durable;
use super::super::volume::is_mounted;
use super::{Blocks, Error, Volume, image, lock, program, starts, wait_for};

/// Only its owner may change what is in the volume's root.
const OWN_ALONE: u32 = 0o755;

/// How long it may take to find out whether somebody has taken a volume over.
const ANSWER: Duration = Duration::from_secs(5);

/// What a format writes first among the blocks.
const MARK: &str = "juicefs_uuid";
/// What JuiceFS calls a volume whose blocks are on this machine.
const NAME: &str = "volume";

/// What the volume was told last of what can be changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Adjustable {
    trash_days: u64,
    size: Option<u64>,
    /// The bucket, which may have moved.
    #[serde(default)]
    bucket: Option<String>,
}

/// Makes a new volume if there is none, and becomes the program that serves its mount. Returns
/// only if that cannot be done.
pub fn mount(volume: &Volume) -> Result<Infallible, Error> {
    make_directories(volume)?;
    program::check(volume)?;
    image::make_way(volume)?;
    // It lives on in what we become.
    let _lock = lock::take(&volume.lock())?;
    detach(volume);
    if !Path::new("/dev/fuse").exists() {
        return Err(Error::NoFuse);
    }
    let mut cache = volume.cache.clone();
    match (&volume.blocks, starts::cache(volume)?) {
        // It was made ready when it was claimed.
        (Some(blocks), Some(start)) if volume.metadata().exists() => {
            not_taken_over(volume, blocks)?;
            let dirs = cache.split(':').map(|dir| match dir {
                "memory" => dir.to_owned(),
                dir => cache_dir(dir, start).display().to_string(),
            });
            cache = dirs.collect::<Vec<_>>().join(":");
        }
        (Some(_), _) => return Err(lost(volume)),
        (None, Some(_)) => {
            return Err(Error::Elsewhere {
                dir: volume.dir.clone(),
                has: "a bucket".to_owned(),
                wanted: volume.objects().display().to_string(),
                hint: "configure that bucket, and no juicefs.blocks, or move the directory away",
            });
        }
        (None, None) => make_ready(volume)?,
    }
    let mut command = Command::new(&volume.program);
    command
        .arg("mount")
        .arg(format!("--cache-dir={cache}"))
        .args(&volume.options)
        .arg(volume.metadata_url())
        .arg(volume.mount_point());
    Err(program::juicefs(volume).missing(command.exec()))
}

/// A cache that is used since this start: what was cached of other metadata may be other blocks of
/// the same names.
fn cache_dir(dir: &str, start: u64) -> PathBuf {
    Path::new(dir).join(start.to_string())
}

/// The directories of the caches that are used.
pub fn cache_dirs(volume: &Volume) -> Result<Vec<PathBuf>, Error> {
    let start = starts::cache(volume)?;
    let dirs = volume.cache.split(':').filter(|dir| *dir != "memory");
    let dir = |dir| start.map_or_else(|| PathBuf::from(dir), |start| cache_dir(dir, start));
    Ok(dirs.map(dir).collect())
}

/// Makes the directories of the volume.
pub fn make_directories(volume: &Volume) -> Result<(), Error> {
    for dir in [&volume.dir, &volume.mount_point()] {
        let made = fs::create_dir_all(dir);
        // A mount that is dead is there, and is seen to later.
        if made.is_err() && is_dead_mount(dir) {
            continue;
        }
        made.context("create", dir)?;
    }
    Ok(())
}

/// Fails if the volume in the bucket is another's now.
fn not_taken_over(volume: &Volume, blocks: &Blocks) -> Result<(), Error> {
    wait_for(async {
        let check = starts::check(volume, blocks);
        // A bucket that does not answer says nothing.
        tokio::time::timeout(ANSWER, check).await.unwrap_or(Ok(()))
    })
}

/// Makes the volume, or tells it what has changed.
pub fn make_ready(volume: &Volume) -> Result<(), Error> {
    let wanted = Adjustable {
        trash_days: volume.trash_days,
        size: volume.size,
        bucket: volume.blocks.as_ref().map(Blocks::url),
    };
    let told_file = volume.told();
    let told = fs::read(&told_file).ok();
    let told: Option<Adjustable> = told.and_then(|text| serde_json::from_slice(&text).ok());
    let is_there = volume.metadata().exists();
    if told.as_ref() == Some(&wanted) && is_there {
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
        let bucket = wanted.bucket.as_deref();
        let bucket = bucket.map_or(vec![], |bucket| vec!["--bucket", bucket]);
        program::run(volume, &[&arguments[..], &limits, &bucket].concat())?;
    } else {
        match &volume.blocks {
            None => format(volume, told.is_some(), &limits)?,
            Some(blocks) => format_in_bucket(volume, blocks, &limits)?,
        }
    }
    // The names of all files are in it, whatever their modes say.
    let own_alone = fs::Permissions::from_mode(0o600);
    let metadata = volume.metadata();
    fs::set_permissions(&metadata, own_alone).context("change the mode of", &metadata)?;
    Ok(durable::write_json(&told_file, &wanted)?)
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
    volume.objects().join(NAME).join(MARK)
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
    let storage = ["--storage", "file", "--bucket", &bucket];
    format_as(volume, NAME, &[&storage, limits].concat())
}

/// Makes a volume in the bucket, unless there are blocks of one.
fn format_in_bucket(volume: &Volume, blocks: &Blocks, limits: &[&str]) -> Result<(), Error> {
    let bucket = blocks.url();
    let storage = ["--storage", "s3", "--bucket", &bucket];
    match format_as(volume, &blocks.volume_name(), &[&storage, limits].concat()) {
        Err(Error::Failed { said, .. }) if said.contains("is not empty") => {
            if !wait_for(forget_mark(blocks))? {
                return Err(Error::LostInBucket {
                    blocks: blocks.shown(),
                });
            }
            format_as(volume, &blocks.volume_name(), &[&storage, limits].concat())
        }
        formatted => formatted,
    }
}

/// Removes what a format that was cut off has left in the bucket; false = there is more.
async fn forget_mark(blocks: &Blocks) -> Result<bool, Error> {
    let bucket = blocks.blocks()?;
    let is_more = |key: &str| !key.ends_with(MARK);
    if bucket.has_any("", is_more).await? || bucket.get(MARK).await?.is_none() {
        return Ok(false);
    }
    bucket.delete(MARK).await?;
    Ok(true)
}

fn format_as(volume: &Volume, name: &str, options: &[&str]) -> Result<(), Error> {
    let (block_size, url) = (format!("{}K", volume.block_size), volume.metadata_url());
    let blocks = [
        "--block-size",
        &block_size,
        "--compress",
        &volume.compression,
    ];
    let arguments = [&["format"], options, &blocks, &[&url, name]].concat();
    if let Err(error) = program::run(volume, &arguments) {
        // Half a volume is none.
        durable::remove_file(&volume.metadata_log())?;
        durable::remove_file(&volume.metadata())?;
        return Err(error);
    }
    tracing::info!("a new volume: {}", volume.dir.display());
    Ok(())
}

/// Fails unless the mount is there and can be written to. One that an earlier start has left is
/// none; one that is not for us, in the other layout or taken over, is ended.
pub fn is_usable(volume: &Volume) -> Result<(), Error> {
    let at = volume.mount_point();
    if !lock::is_ours(&volume.lock()) || !is_mounted(&at)? {
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
    let image = volume.image_file();
    if volume.image.is_none() && image.exists() {
        // However often it is asked, that stays so: JuiceFS goes with its mount, and what is to
        // be done when it fails is done.
        rustix::mount::unmount(&at, UnmountFlags::DETACH).context("unmount", &at)?;
        return Err(Error::Layout {
            tree: image,
            has: "the environment's directory",
            wanted: "image",
        });
    }
    let blocks = volume.blocks.as_ref();
    let ours = blocks.map_or(Ok(()), |blocks| not_taken_over(volume, blocks));
    if let Err(Error::TakenOver { .. }) = ours {
        // What it writes and removes from now on is another's.
        lock::kill_holder(&volume.lock());
    }
    ours
}

/// Takes a mount away that nobody serves any more, if the volume is nobody else's.
pub fn tidy(volume: &Volume) {
    if let Err(error) = image::make_way(volume) {
        tracing::warn!("{error}");
    }
    if let Ok(Some(_lock)) = lock::take_if_free(&volume.lock()) {
        detach(volume);
    }
}

/// Takes a mount away that nobody serves any more. For whoever has the lock.
pub fn detach(volume: &Volume) {
    let at = volume.mount_point();
    while is_dead_mount(&at) {
        if let Err(error) = rustix::mount::unmount(&at, UnmountFlags::DETACH) {
            tracing::info!("cannot unmount {}, which is dead: {error}", at.display());
            return;
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    full.contains(&error.kind())
}

/// Whether nobody serves what is mounted there any more. Not by what it looks like, which the
/// kernel remembers.
fn is_dead_mount(at: &Path) -> bool {
    let dead = [Errno::NOTCONN, Errno::CONNABORTED];
    rustix::fs::statfs(at).is_err_and(|error| dead.contains(&error))
}
