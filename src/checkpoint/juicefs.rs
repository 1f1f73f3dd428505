//! A JuiceFS volume that the environment's directory is on: its metadata in an SQLite database,
//! what files hold in a local directory or in the bucket, and a mount that a component serves.
//!
//! The component `juicefs` carries the storage. It is this program, which makes everything
//! ready and then becomes `juicefs mount`; another run of it tells whether the mount can be
//! used, again and again: a child can be killed if a mount does not answer.
//!
//! With blocks in the bucket, two more components come before it: `juicefs-metadata` claims the
//! volume and sees to it that the newest metadata are here, and `litestream` copies them to the
//! bucket for as long as anything can change them.

mod blocks;
mod clones;
mod image;
mod lag;
mod left;
mod litestream;
mod lock;
mod metadata;
mod mounting;
mod program;
mod starts;

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::driver;
pub use blocks::Blocks;
pub use clones::{Clones, Opened};
pub use image::{
    blank, check as check_image, is_mounted_and_writable, serve as serve_image, show, swap,
};
pub use lag::{MetadataReplication, watch};
pub use left::what_is_left;
pub use litestream::{has_settled, is_replicating, replicate};
pub use metadata::prepare;
pub use mounting::{is_usable, mount, tidy};
pub use starts::{are_written, release, show_life_of_daemon};

/// The component that serves the mount.
pub const COMPONENT: &str = "juicefs";
/// The one that claims a volume in the bucket and fetches its metadata.
pub const METADATA: &str = "juicefs-metadata";
/// The one that copies them there.
pub const LITESTREAM: &str = "litestream";
/// The one that mounts the filesystem in an image on the volume.
pub const IMAGE: &str = "juicefs-image";
/// The name of an image: of the one that is mounted, and of each clone.
const FILE_OF_IMAGE: &str = "fs.ext4";
/// The file of the metadata.
const DATABASE: &str = "metadata.db";
/// What SQLite has not yet put into it.
const LOG: &str = "metadata.db-wal";
/// What Litestream has beside it.
const STATE: &str = ".metadata.db-litestream";
/// The word on our command line that says what is to be done with a volume.
const VERB: &str = "juicefs";

/// Why a volume cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program is not there.
    #[error(
        "cannot run {program}: {source}; {hint}{}",
        .key.map_or_else(String::new, |key| format!(", or give its path as {key} in the configuration"))
    )]
    NoProgram {
        /// The program.
        program: String,
        /// Where its path is given, if anywhere.
        key: Option<&'static str>,
        /// What to install.
        hint: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// It is too old, or something else.
    #[error("{program} {found}; {needed} is needed")]
    Version {
        /// The program.
        program: String,
        /// What it says.
        found: String,
        /// What it must be.
        needed: &'static str,
    },
    /// It has failed.
    #[error("`{command}` failed: {said}")]
    Failed {
        /// What was run.
        command: String,
        /// What it said last.
        said: String,
    },
    /// There is no FUSE.
    #[error(
        "there is no /dev/fuse, without which JuiceFS cannot be mounted: load the kernel module \
         fuse, or run the container with --device /dev/fuse --cap-add SYS_ADMIN"
    )]
    NoFuse,
    /// Somebody else uses the volume.
    #[error("{} is in use by {by}; one volume is for one sprite-env", .dir.display())]
    InUse {
        /// The volume's directory.
        dir: PathBuf,
        /// Who uses it.
        by: String,
    },
    /// There are blocks without the metadata that say what they are of.
    #[error(
        "{} is gone or empty, but not what belongs to it: put it back (juicefs load makes it of a copy in meta/ \
         beside the blocks), or move {} away to begin with an empty volume", .metadata.display(),
        .dir.display()
    )]
    Lost {
        /// The database.
        metadata: PathBuf,
        /// Everything that belongs to the volume.
        dir: PathBuf,
    },
    /// There are blocks in the bucket without the metadata that say what they are of.
    #[error(
        "there are blocks in {blocks}, but their metadata are neither here nor in the bucket: \
         `juicefs load` makes them of a copy in its meta/; or give another s3.prefix to begin with an \
         empty volume"
    )]
    LostInBucket {
        /// Where the blocks are.
        blocks: String,
    },
    /// The volume is another's.
    #[error("{} has a volume whose blocks are in {has}, not in {wanted}: {hint}", .dir.display())]
    Elsewhere {
        /// Everything that belongs to the volume.
        dir: PathBuf,
        /// Where they are.
        has: String,
        /// Where they are to be.
        wanted: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// Another has taken the volume over.
    #[error(
        "{bucket} was taken over by another sprite-env, at {at}; its volume is no longer ours. A \
         new start here waits until that one has ended, and goes on from what it has left"
    )]
    TakenOver {
        /// Where the volume is.
        bucket: String,
        /// When.
        at: String,
    },
    /// What is copied to the bucket is not known.
    #[error("Litestream does not answer: {0}")]
    Silent(String),
    /// The mount is not there.
    #[error("nothing is mounted at {}", .0.display())]
    NotMounted(PathBuf),
    /// It has stopped because something could not be written.
    #[error("the filesystem at {} has stopped to write, because that failed", .0.display())]
    ReadOnly(PathBuf),
    /// What an overlayfs is to be mounted over is no directory.
    #[error("{} is no directory; overlay.lower_paths are those that an overlayfs is mounted over", .0.display())]
    NoLower(PathBuf),
    /// The kernel does not take so many.
    #[error(
        "the paths of the {0} directories in overlay.lower_paths are too long together; use shorter ones"
    )]
    LongOverlay(usize),
    /// The environment's directory is there in the other layout.
    #[error(
        "{} has {has}; set juicefs.layout to \"{wanted}\", or move it away to begin anew", .tree.display()
    )]
    Layout {
        /// The environment's directory.
        tree: PathBuf,
        /// What it has.
        has: &'static str,
        /// The layout that this is.
        wanted: &'static str,
    },
    /// There is no waiting for anything.
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
    /// Something else went wrong.
    #[error(transparent)]
    Other(#[from] driver::Error),
}

/// Does what waits for others, in a process that does nothing else.
fn wait_for<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(Error::Runtime)?.block_on(work)
}

/// An overlayfs whose changes are in the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// The directories below them, the uppermost first.
    pub lower: Vec<PathBuf>,
    /// Where it is mounted.
    pub target: PathBuf,
}

/// A volume, as the component is told of it on its command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// The program: its path, or a name that is looked for in `PATH`.
    pub program: String,
    /// Everything that belongs to it.
    pub dir: PathBuf,
    /// Its blocks have so many KiB at most; for a new volume.
    pub block_size: u64,
    /// How its blocks are compressed: `none`, `lz4` or `zstd`; for a new volume.
    pub compression: String,
    /// For how many days what was removed can be had back.
    pub trash_days: u64,
    /// How many bytes fit in; none = as many as the directory's filesystem has room for.
    pub size: Option<u64>,
    /// How large the image is that the environment's directory is in; none = it is in no image.
    pub image: Option<u64>,
    /// What is mounted over other directories, with its changes in the image.
    pub overlay: Option<Overlay>,
    /// Where blocks that were read or written are kept besides.
    pub cache: String,
    /// The options of the mount.
    pub options: Vec<String>,
    /// The bucket that has its blocks; none = a local directory has.
    pub blocks: Option<Blocks>,
}

impl Volume {
    /// How many components serve it.
    #[must_use]
    pub fn components(&self) -> usize {
        1 + 2 * usize::from(self.blocks.is_some()) + usize::from(self.image.is_some())
    }

    /// Where it is mounted.
    #[must_use]
    pub fn mount_point(&self) -> PathBuf {
        self.dir.join("mnt")
    }

    /// The same with paths as the kernel tells them, without links.
    fn canonical(&self) -> Self {
        let dir = std::fs::canonicalize(&self.dir).unwrap_or_else(|_| self.dir.clone());
        Self {
            dir,
            ..self.clone()
        }
    }

    /// The environment's directory on it.
    #[must_use]
    pub fn tree(&self) -> PathBuf {
        self.mount_point().join("active/fs")
    }

    /// The image that it is in, in that layout.
    fn image_file(&self) -> PathBuf {
        self.mount_point().join("active").join(FILE_OF_IMAGE)
    }

    /// The checkpoints that are clones.
    fn checkpoints(&self) -> PathBuf {
        self.mount_point().join("checkpoints")
    }

    /// What a restore has replaced, or is to put into the place of the image.
    fn replaced(&self) -> PathBuf {
        self.checkpoints().join(".replaced")
    }

    /// The image in it.
    fn replaced_image(&self) -> PathBuf {
        self.replaced().join(FILE_OF_IMAGE)
    }

    /// The intent of a restore that is under way.
    fn restore_intent(&self) -> PathBuf {
        self.checkpoints().join("restore")
    }

    /// Where these are mounted when they are looked at.
    fn views(&self) -> PathBuf {
        self.dir.join("views")
    }

    /// The database of its metadata.
    fn metadata(&self) -> PathBuf {
        self.dir.join(DATABASE)
    }

    /// What SQLite has not yet put into it.
    fn metadata_log(&self) -> PathBuf {
        self.dir.join(LOG)
    }

    /// What JuiceFS was told of it.
    fn told(&self) -> PathBuf {
        self.dir.join("told.json")
    }

    /// The lock of what serves the mount.
    fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// The lock of what mounts the image.
    fn image_lock(&self) -> PathBuf {
        self.dir.join("image.lock")
    }

    /// The lock of what puts another image into the place of that which is mounted.
    fn swap_lock(&self) -> PathBuf {
        self.dir.join("swap.lock")
    }

    /// Which device the image is on.
    fn device(&self) -> PathBuf {
        self.dir.join("image.device")
    }

    /// The lock of what copies the metadata to the bucket.
    fn litestream_lock(&self) -> PathBuf {
        self.dir.join("litestream.lock")
    }

    /// How JuiceFS calls that.
    fn metadata_url(&self) -> String {
        format!("sqlite3://{}", self.metadata().display())
    }

    /// Where what files hold is kept.
    fn objects(&self) -> PathBuf {
        self.dir.join("objects")
    }

    /// The command of the component, or another step with it.
    #[must_use]
    pub fn command(&self, step: &str) -> Vec<String> {
        // A record of texts and numbers always has a text.
        let volume = serde_json::to_string(self).unwrap_or_default();
        ["/proc/self/exe", VERB, step, &volume]
            .map(str::to_owned)
            .to_vec()
    }
}
