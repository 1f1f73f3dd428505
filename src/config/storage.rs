//! The environment's directory, its checkpoints and where they are kept.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Key, Secret};
use crate::checkpoint::juicefs;

/// The environment's directory and its checkpoints.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "settings, each of its own")]
pub struct Storage {
    /// What checkpoints capture and restores replace.
    pub dir: PathBuf,
    /// Whether it is on what a component brings.
    pub is_carried: bool,
    /// Whether `dir` is the default, which is made if missing.
    pub make_dir: bool,
    /// The filesystem that it is in, if that is one of its own.
    pub volume: Option<Volume>,
    /// The JuiceFS volume that it is on, if it is on one.
    pub juicefs: Option<juicefs::Volume>,
    /// Whether a first start restores the checkpoint of the bucket that the environment was in last.
    pub restore_on_boot: bool,
    /// What captures and restores.
    pub driver: Driver,
    /// Where checkpoints are kept, and what tells who we are in the bucket.
    pub checkpoint_dir: PathBuf,
    /// Whether writers are held while the instant is taken.
    pub freeze: bool,
    /// The longest that they may be held.
    pub freeze_timeout: Duration,
    /// How often an automatic checkpoint is taken; none = never.
    pub auto: Option<Duration>,
    /// Which automatic checkpoints are kept.
    pub retention: Retention,
    /// How long a component's command may take.
    pub command_timeout: Duration,
    /// How a restored tree is compared with its checkpoint.
    pub verify_restore: VerifyRestore,
    /// What is stored is encrypted with it; none = it is not.
    pub encryption_key: Option<Key>,
    /// Whether what changes is kept in mind between checkpoints.
    pub dirty_tracking: DirtyTracking,
    /// Where the newest checkpoints are mounted.
    pub mount: Option<PathBuf>,
}

/// What captures and restores the environment's directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// The store: objects named by their hashes.
    #[default]
    Store,
    /// JuiceFS: clones of the image that the directory is in.
    Juicefs,
}

/// Whether what changes in the tree is kept in mind between checkpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DirtyTracking {
    /// If the tree is large.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// A filesystem in an image, which the environment's directory is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// The image.
    pub image: PathBuf,
    /// Where it is mounted.
    pub dir: PathBuf,
    /// How many bytes fit in.
    pub size: u64,
}

/// How a restored tree is compared with its checkpoint before anything runs in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VerifyRestore {
    /// All it looks like; the content of what was written is known.
    #[default]
    Metadata,
    /// Every byte of it is read.
    Full,
    /// Not at all.
    None,
}

/// Which automatic checkpoints are kept: those that one of these counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// So many of the newest.
    pub last: usize,
    /// The newest of each of so many hours that have one.
    pub hourly: usize,
    /// The same for days (UTC).
    pub daily: usize,
    /// The same for weeks (UTC, from Monday on).
    pub weekly: usize,
}

/// The bucket that checkpoints are replicated to.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// The access key.
    pub access_key: Secret,
    /// The secret key.
    pub secret_key: Secret,
    /// The URL of the service; none = that of AWS for the region.
    pub endpoint: Option<String>,
    /// Its name.
    pub name: String,
    /// The region.
    pub region: String,
    /// What the keys of all objects begin with, without a slash at its end.
    pub prefix: String,
    /// How others are kept from it.
    pub lease: Lease,
    /// How long after its last sign of life its user counts as gone.
    pub lease_ttl: Duration,
    /// How long a stop waits until everything is in it.
    pub replicate_timeout: Duration,
}

/// How a second program is kept from a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lease {
    /// Whoever lives keeps it; without conditional writes it is not used.
    Required,
    /// The same as far as the service can do it.
    BestEffort,
    /// Whoever comes takes it.
    Off,
}
