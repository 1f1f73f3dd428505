//! A JuiceFS volume that the environment's directory is on: its metadata in an SQLite database,
//! what files hold in a local directory, and a mount that a component serves.
//!
//! The component `juicefs` carries the storage. It is this program, which makes everything
//! ready and then becomes `juicefs mount`; another run of it tells whether the mount can be
//! used, again and again: a child can be killed if a mount does not answer.

mod lock;
mod mounting;
mod program;

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::driver;
pub use mounting::{is_usable, mount, tidy};

/// The name of the component.
pub const COMPONENT: &str = "juicefs";
/// The word on our command line that says what is to be done with a volume.
const VERB: &str = "juicefs";

/// Why a volume cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program is not there.
    #[error(
        "cannot run {program}: {source}; {hint}, or give its path as {key} in the configuration"
    )]
    NoProgram {
        /// The program.
        program: String,
        /// Where its path is given.
        key: &'static str,
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
        "{} is gone or empty, but not what belongs to it: put it back (juicefs load makes it of a backup in \
         objects/volume/meta), or move {} away to begin with an empty volume", .metadata.display(),
        .dir.display()
    )]
    Lost {
        /// The database.
        metadata: PathBuf,
        /// Everything that belongs to the volume.
        dir: PathBuf,
    },
    /// The mount is not there.
    #[error("no JuiceFS is mounted at {}", .0.display())]
    NotMounted(PathBuf),
    /// Something else went wrong.
    #[error(transparent)]
    Other(#[from] driver::Error),
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
    /// The options of the mount.
    pub options: Vec<String>,
}

impl Volume {
    /// Where it is mounted.
    #[must_use]
    pub fn mount_point(&self) -> PathBuf {
        self.dir.join("mnt")
    }

    /// The environment's directory on it.
    #[must_use]
    pub fn tree(&self) -> PathBuf {
        self.mount_point().join("active/fs")
    }

    /// The database of its metadata.
    fn metadata(&self) -> PathBuf {
        self.dir.join("metadata.db")
    }

    /// What SQLite has not yet put into it.
    fn metadata_log(&self) -> PathBuf {
        self.dir.join("metadata.db-wal")
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
