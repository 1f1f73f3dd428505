//! What captures and restores the environment's directory.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use tokio::sync::Notify;
use tokio::sync::watch::Receiver;

use super::juicefs::Opened;
use super::manifest::Manifest;
use super::meter::Meter;
use super::replication::Replication;
use super::store::Id;

/// Why a piece of work on checkpoints failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such checkpoint.
    #[error("there is no checkpoint \"{0}\"")]
    Unknown(String),
    /// The checkpoint has nothing at this path.
    #[error("the checkpoint has nothing at \"{0}\"")]
    NoEntry(String),
    /// The checkpoint is in use.
    #[error("cannot delete the active checkpoint {0}")]
    Active(String),
    /// Something else is under way.
    #[error("{0} is under way; try again when it has ended")]
    Busy(&'static str),
    /// The work was told to end.
    #[error("given up: {0}")]
    Cancelled(&'static str),
    /// The operating system would not do something.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What it would not do.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something in the store is not what it must be.
    #[error("{}: {why}", path.display())]
    Damaged {
        /// What.
        path: PathBuf,
        /// In which way.
        why: String,
    },
    /// The bucket's service would not do something.
    #[error("cannot {what} {key}: {why}")]
    Bucket {
        /// What it would not do.
        what: &'static str,
        /// With which object.
        key: String,
        /// Why not.
        why: String,
    },
    /// Another program has taken over the bucket.
    #[error("{0}")]
    Fenced(String),
    /// The directories cannot be used as configured.
    #[error("{0}")]
    Unusable(String),
    /// An archive cannot be imported.
    #[error("cannot import the archive: {0}")]
    Archive(String),
    /// A component's command failed.
    #[error("{0}")]
    Hook(String),
}

/// Adds to an I/O error what was tried, on what.
pub trait Context<T> {
    /// `what` completes "cannot … PATH".
    fn context(self, what: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, what: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io {
            what,
            path: path.to_owned(),
            source: source.into(),
        })
    }
}

/// A way to tell work under way to end soon.
#[derive(Debug, Default)]
pub struct Cancel {
    told: AtomicBool,
    telling: Notify,
}

impl Cancel {
    /// Tells it.
    pub fn cancel(&self) {
        self.told.store(true, Ordering::SeqCst);
        self.telling.notify_waiters();
    }

    /// Whether it was told.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.told.load(Ordering::SeqCst)
    }

    /// Waits until it was told.
    pub async fn cancelled(&self) {
        // Registered before the look, so that what is told in between is not missed.
        let telling = self.telling.notified();
        tokio::pin!(telling);
        telling.as_mut().enable();
        if !self.is_cancelled() {
            telling.await;
        }
    }

    /// An error once it was told.
    pub fn check(&self) -> Result<(), Error> {
        if self.is_cancelled() {
            Err(Error::Cancelled(
                "the time for it ran out, or the system stops",
            ))
        } else {
            Ok(())
        }
    }
}

/// A checkpoint in the making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Its id.
    pub id: String,
    /// Where components put what they want kept: a directory for each, by name.
    pub components_dir: PathBuf,
}

/// A restore in the making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restoration {
    /// The checkpoint that is restored.
    pub id: String,
    /// The automatic checkpoint that keeps what is replaced.
    pub auto_id: String,
    /// What components kept with `id`: a directory for each, by name.
    pub components_dir: PathBuf,
    /// Where components put what they want kept with `auto_id`.
    pub saved_dir: PathBuf,
}

/// A restore that a crash of the daemon cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupted {
    /// It can be finished.
    Restore,
    /// It was being undone.
    RollBack,
}

/// An entry of a checkpoint's tree, as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// Its name; empty for the root.
    pub name: String,
    /// `file`, `directory` or `symlink`; `other` for pipes and devices.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its length in bytes.
    pub size: u64,
    /// Its permissions in octal.
    pub mode: String,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// When it was last written to: RFC 3339.
    pub mod_time: String,
    /// Where a symbolic link leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// A file's content in a checkpoint.
#[derive(Clone, Debug)]
pub struct FileContent {
    /// Its length in bytes.
    pub size: u64,
    /// Where it is.
    pub content: Content,
}

/// Where the content of a file is.
#[derive(Clone, Debug)]
pub enum Content {
    /// In the store: its id.
    Stored(Id),
    /// In a checkpoint that is mounted.
    Opened(Arc<Opened>),
}

/// What is at a path in a checkpoint.
#[derive(Clone, Debug)]
pub enum Look {
    /// A directory and what is in it, sorted by name.
    Directory(Listed, Vec<Listed>),
    /// A regular file.
    File(Listed, FileContent),
    /// Something else.
    Other(Listed),
}

/// How something differs between two checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Only the second has it.
    Added,
    /// Only the first has it.
    Removed,
    /// Its content is another.
    Modified,
    /// Only its owner, mode, times or extended attributes are others.
    Metadata,
}

/// Something that differs between two checkpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its path from the root of the tree; `.` for the root.
    pub path: String,
    /// How it differs.
    pub change: Change,
    /// What it is: as in [`Listed`].
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// How long the file was in the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_size: Option<u64>,
    /// How long it is in the second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// What a look at everything that is kept has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Whether nothing is wrong.
    pub whole: bool,
    /// How many checkpoints there are, automatic ones included.
    pub checkpoints: usize,
    /// How many objects they need.
    pub objects: usize,
    /// How many bytes these take, compressed.
    pub bytes: u64,
    /// What is damaged, whoever needs it.
    pub damaged: Vec<String>,
    /// The checkpoints that cannot be restored as they were.
    pub affected: Vec<Affected>,
}

/// What a collection has freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// How many packs were needed no longer.
    pub packs: usize,
    /// How many bytes less the store has.
    pub bytes: u64,
}

/// A checkpoint that cannot be restored as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Affected {
    /// Its id.
    pub id: String,
    /// What is wrong, and where.
    pub problem: String,
}

/// What captures and restores the environment's directory. All calls may block.
///
/// One operation at a time: the chart sees to it. A driver keeps what it needs from
/// one call to the next.
pub trait Driver: Send + Sync + std::fmt::Debug {
    /// What it is called in `/status`.
    fn name(&self) -> &'static str;
    /// Makes ready for use, removes what crashes left behind, and says whether a
    /// restore was cut off. Called once, before anything else.
    fn open(&self) -> Result<Option<Interrupted>, Error>;

    /// All checkpoints, newest first; automatic ones only if asked for.
    fn list(&self, include_auto: bool) -> Result<Vec<Manifest>, Error>;
    /// The checkpoint that `id` names: `v3`, `3`, `checkpoints/v3`, `auto-…`, or
    /// `Current` for the newest.
    fn find(&self, id: &str) -> Result<Manifest, Error>;
    /// What is at `path` in a checkpoint. Symbolic links are not followed.
    fn look(&self, id: &str, path: &str) -> Result<Look, Error>;
    /// The bytes of a file from `offset` on, as many as are at hand; empty at its end.
    fn read(&self, file: &FileContent, offset: u64) -> Result<Vec<u8>, Error>;
    /// What differs between two checkpoints, at most `most` things, and whether there are
    /// more.
    fn diff(&self, old: &str, new: &str, most: usize) -> Result<(Vec<Difference>, bool), Error>;
    /// Looks whether everything is there that the checkpoints need; with `read_data`,
    /// also whether the bytes of files are what they must be.
    fn verify_store(&self, read_data: bool) -> Result<Verified, Error>;
    /// Writes a checkpoint as an archive.
    fn export(&self, id: &str, to: &mut dyn Write) -> Result<(), Error>;
    /// A file without a name, for an archive that is to be imported.
    fn spool(&self) -> Result<File, Error>;
    /// Makes a checkpoint of an archive. It is none that the environment was ever in, until
    /// it is restored.
    fn import(&self, archive: File, comment: Option<String>) -> Result<Manifest, Error>;
    /// Frees the space of what no checkpoint needs.
    fn collect_garbage(&self) -> Result<Collected, Error>;
    /// Removes a checkpoint.
    fn delete(&self, id: &str) -> Result<(), Error>;

    /// Begins a checkpoint.
    fn begin(&self, comment: Option<String>, automatic: bool) -> Result<Draft, Error>;
    /// Copies what can be copied while everything runs.
    fn pre_copy(&self, cancel: &Cancel) -> Result<(), Error>;
    /// Takes the instant; nothing writes meanwhile. `held` are the processes that are
    /// held for it; none if nothing is.
    fn capture(&self, held: Option<&[i32]>, cancel: &Cancel) -> Result<(), Error>;
    /// Completes the checkpoint on stable storage. From then on it exists. If it is an
    /// automatic one and nothing has changed, that which has all of it already.
    fn seal(&self) -> Result<Manifest, Error>;

    /// Sees to it that the checkpoint `id` is there, whole.
    fn fetch(&self, id: &str, cancel: &Cancel) -> Result<Restoration, Error>;
    /// Keeps the live tree as an automatic checkpoint and makes it into that of the
    /// checkpoint, and checks it. Can be repeated.
    fn swap(&self) -> Result<Restoration, Error>;
    /// Makes the restore final.
    fn verify(&self) -> Result<(), Error>;
    /// Makes the live tree into what it was before. Can be repeated.
    fn roll_back(&self) -> Result<Restoration, Error>;
    /// Makes the roll-back final.
    fn rolled_back(&self) -> Result<(), Error>;

    /// How the instant is taken: `precopy`, `reflink`, `btrfs`, `clone`; none before it is open.
    fn capture_source(&self) -> Option<&'static str>;
    /// Counts the work of the step that is under way.
    fn meter(&self) -> &Meter;
    /// How far the copy elsewhere is; none if there is none.
    fn replication(&self) -> Option<Receiver<Replication>>;
    /// Shows the newest checkpoints as a filesystem at `at`, until [`Driver::close`].
    fn mount(self: Arc<Self>, at: &Path) -> Result<(), Error>;
    /// Called last, before the program ends.
    fn close(&self);

    /// Removes what is no longer wanted. Called after an operation, and does nothing if
    /// another has begun.
    fn tidy(&self) -> Result<(), Error>;
    /// Removes what an operation that was given up has left behind.
    fn discard(&self) -> Result<(), Error>;
}
