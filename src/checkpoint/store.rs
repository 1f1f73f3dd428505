//! The driver that keeps checkpoints as trees of objects named by their hashes: what two
//! checkpoints have in common is stored once, and only what has changed is read.
//!
//! In the store's directory:
//!
//! ```text
//! format.json   the version of the format
//! lock          held by the one program that uses the store
//! log/          the records that say which checkpoints exist
//! packs/        the objects
//! bucket.json   who this store is in the bucket, if there is one
//! live          what is known of the live tree; can be lost
//! restore.json  the intent, while a restore is under way
//! work/         whatever is not finished; removed at each start
//! ```

mod apply;
mod archive;
pub mod attributes;
mod browse;
mod catalog;
mod checkpointing;
mod cipher;
mod collect;
mod diff;
mod directories;
mod extents;
mod freezing;
mod frozen;
mod id;
mod importing;
mod live;
mod log;
mod look;
mod mount;
mod node;
mod nodes;
mod objects;
mod opening;
mod pack;
mod place;
mod plan;
mod pool;
mod reach;
mod remote;
mod restoring;
mod retention;
mod scan;
mod scratch;
mod stamp;
mod state;
mod tracker;
mod verify;
mod walking;
mod watch;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::watch::Receiver;

pub use self::catalog::{Catalog, is_id};
pub use self::id::Id;
pub use self::log::Change;
pub use self::place::Place;
pub use self::remote::bucket::{Bucket, Made};
pub use self::remote::identity::Identity;
pub use self::remote::lease::Lease;
pub use self::retention::expired;
pub use self::scratch::{export_tree, take_in};

use self::apply::Written;
use self::opening::{Opened, RestoreOnBoot, survives};
use self::remote::Remote;
use self::state::{State, Work};
use super::driver::{
    Cancel, Collected, Context as _, Difference, Draft, Driver, Error, FileContent, Interrupted,
    Look, Restoration, Verified,
};
use super::intent::Intent;
use super::manifest::Manifest;
use super::meter::Meter;
use super::replication::Replication;
use crate::config::{self, DirtyTracking, Key, Retention, Storage, VerifyRestore};

/// The version of the store's format that this program writes.
pub const FORMAT: u32 = 2;
/// The version of a store that is encrypted, and the newest that this program reads.
pub const ENCRYPTED: u32 = 3;

/// Keeps checkpoints as trees of objects.
#[derive(Debug)]
pub struct Store {
    /// The environment's directory.
    tree: PathBuf,
    /// Whether to make it if it is missing.
    make_tree: bool,
    is_carried: bool,
    /// Where checkpoints are kept.
    dir: PathBuf,
    retention: Retention,
    restore_on_boot: RestoreOnBoot,
    /// Where the intent is kept too, if the tree survives the loss of the machine by itself.
    beside_tree: Option<PathBuf>,
    verify_restore: VerifyRestore,
    key: Option<Key>,
    dirty_tracking: DirtyTracking,
    remote: Option<Arc<Remote>>,
    opened: OnceLock<Opened>,
    state: Mutex<State>,
    meter: Meter,
    mounted: Mutex<Option<mount::Mount>>,
    /// Held while objects are removed, and by operations while they begin.
    collecting: Mutex<()>,
    /// Whether it is for one archive only: then nothing is made beside the tree.
    is_scratch: bool,
}

/// Takes a lock. What a thread that panicked has left is whole: nothing is changed in
/// steps under these.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// As `storage` says. Nothing is touched before [`Driver::open`].
    #[must_use]
    pub fn new(storage: &Storage) -> Self {
        let place = |dir: &PathBuf| {
            // What is not there yet leads nowhere; what is dead must not hold us up.
            if storage.is_carried {
                dir.clone()
            } else {
                canonical(dir)
            }
        };
        Self {
            is_carried: storage.is_carried,
            make_tree: storage.make_dir,
            retention: storage.retention,
            restore_on_boot: RestoreOnBoot::of(storage),
            beside_tree: survives(storage).then(|| storage.dir.with_file_name("restore.json")),
            verify_restore: storage.verify_restore,
            key: storage.encryption_key.clone(),
            dirty_tracking: storage.dirty_tracking,
            ..Self::plain(place(&storage.dir), place(&storage.checkpoint_dir))
        }
    }

    /// Of what is in `tree`, kept in `dir`, with nothing else said.
    fn plain(tree: PathBuf, dir: PathBuf) -> Self {
        Self {
            tree,
            is_carried: false,
            make_tree: false,
            dir,
            retention: Retention::default(),
            restore_on_boot: RestoreOnBoot::Never,
            beside_tree: None,
            verify_restore: VerifyRestore::default(),
            key: None,
            dirty_tracking: DirtyTracking::default(),
            remote: None,
            opened: OnceLock::new(),
            state: Mutex::default(),
            meter: Meter::default(),
            mounted: Mutex::default(),
            collecting: Mutex::default(),
            is_scratch: false,
        }
    }

    /// With a copy in `bucket`, which is reached by way of `runtime`.
    pub fn with_bucket(self, bucket: &config::Bucket, runtime: Handle) -> Result<Self, Error> {
        let remote = Some(Arc::new(Remote::new(bucket, runtime)?));
        Ok(Self { remote, ..self })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn opened(&self) -> Result<&Opened, Error> {
        let opened = self.opened.get();
        opened.ok_or_else(|| Error::Unusable("the checkpoint store is not open".to_owned()))
    }

    fn work_dir(&self) -> PathBuf {
        self.dir.join("work")
    }

    fn components_dir(&self) -> PathBuf {
        self.work_dir().join("components")
    }

    fn incoming_dir(&self) -> PathBuf {
        self.work_dir().join("incoming")
    }

    fn live_file(&self) -> PathBuf {
        self.dir.join("live")
    }

    fn root(&self) -> Result<Place, Error> {
        Place::root(&self.tree).context("open", &self.tree)
    }

    /// Adds a record, and takes in what it says.
    fn record(&self, mut change: Change) -> Result<(), Error> {
        let log = &self.opened()?.log;
        let sequence = self.state().catalog.next;
        if let Change::Checkpoint { manifest, .. } = &mut change {
            manifest.sequence = sequence;
        }
        if let (
            Some(remote),
            Change::Checkpoint { packs: added, .. } | Change::Collect { added, .. },
        ) = (&self.remote, &change)
        {
            remote.will_name(added);
        }
        log.append(sequence, &change)?;
        let is_checkpoint = matches!(change, Change::Checkpoint { .. });
        let mut state = self.state();
        state.catalog.apply(change);
        state.catalog.next = sequence + 1;
        if let Some(remote) = &self.remote {
            remote.name_packs(&state.catalog.packs);
            remote.wake(is_checkpoint);
        }
        Ok(())
    }
}

impl Driver for Store {
    fn name(&self) -> &'static str {
        "store"
    }

    fn open(&self) -> Result<Option<Interrupted>, Error> {
        self.open_store()
    }

    fn list(&self, include_auto: bool) -> Result<Vec<Manifest>, Error> {
        Ok(self.state().catalog.list(include_auto).collect())
    }

    fn find(&self, id: &str) -> Result<Manifest, Error> {
        let found = self.state().catalog.find(id);
        match found {
            Err(Error::Unknown(_))
                if !self.opened()?.lost_records.is_empty() && catalog::is_id(id) =>
            {
                Err(Error::Damaged {
                    path: self.dir.clone(),
                    why: format!(
                        "there is no checkpoint \"{id}\", but it may have been here: {}",
                        self.opened()?.lost_records.join("; ")
                    ),
                })
            }
            found => found,
        }
    }

    fn look(&self, id: &str, path: &str) -> Result<Look, Error> {
        let root = self.find(id)?.root;
        browse::look(&self.opened()?.objects, root, path)
    }

    fn read(&self, file: &FileContent, offset: u64) -> Result<Vec<u8>, Error> {
        browse::read(&self.opened()?.objects, file, offset)
    }

    fn diff(&self, old: &str, new: &str, most: usize) -> Result<(Vec<Difference>, bool), Error> {
        let (old, new) = (self.find(old)?.root, self.find(new)?.root);
        browse::differences(&self.opened()?.objects, old, new, most)
    }

    fn verify_store(&self, read_data: bool) -> Result<Verified, Error> {
        self.verify_all(read_data)
    }

    fn export(&self, id: &str, to: &mut dyn Write) -> Result<(), Error> {
        archive::export(&self.opened()?.objects, &self.find(id)?, to)
    }

    fn spool(&self) -> Result<File, Error> {
        tempfile::tempfile_in(&self.dir).context("create a file in", &self.dir)
    }

    fn import(&self, archive: File, comment: Option<String>) -> Result<Manifest, Error> {
        self.import_archive(archive, comment)
    }

    fn collect_garbage(&self) -> Result<Collected, Error> {
        self.collect_garbage_now()
    }

    fn delete(&self, id: &str) -> Result<(), Error> {
        let _collecting = self.hold_collections();
        let id = {
            let state = self.state();
            state.check_idle()?;
            state.catalog.find_removable(id)?.id
        };
        self.remove(&id)
    }

    fn begin(&self, comment: Option<String>, automatic: bool) -> Result<Draft, Error> {
        self.begin_checkpoint(comment, automatic)
    }

    fn pre_copy(&self, cancel: &Cancel) -> Result<(), Error> {
        self.capture_running(cancel)
    }

    fn capture(&self, held: Option<&[i32]>, cancel: &Cancel) -> Result<(), Error> {
        self.capture_held(held, cancel)
    }

    fn seal(&self) -> Result<Manifest, Error> {
        self.seal_checkpoint()
    }

    fn fetch(&self, id: &str, cancel: &Cancel) -> Result<Restoration, Error> {
        self.fetch_checkpoint(id, cancel)
    }

    fn swap(&self) -> Result<Restoration, Error> {
        self.restore_tree()
    }

    fn verify(&self) -> Result<(), Error> {
        self.commit_restore()
    }

    fn roll_back(&self) -> Result<Restoration, Error> {
        self.restore_replaced()
    }

    fn rolled_back(&self) -> Result<(), Error> {
        self.forget_intent()?;
        self.end_restore()
    }

    fn capture_source(&self) -> Option<&'static str> {
        let opened = self.opened.get()?;
        Some(opened.source.name())
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }

    fn replication(&self) -> Option<Receiver<Replication>> {
        self.remote.as_ref().map(|remote| remote.watch())
    }

    fn mount(self: Arc<Self>, at: &Path) -> Result<(), Error> {
        let mounted = mount::mount(&self, at)?;
        *lock(&self.mounted) = Some(mounted);
        Ok(())
    }

    fn close(&self) {
        drop(lock(&self.mounted).take());
        if let Some(remote) = &self.remote {
            remote.close(self.state().catalog.next);
        }
    }

    fn tidy(&self) -> Result<(), Error> {
        self.prune()
    }

    fn discard(&self) -> Result<(), Error> {
        if matches!(self.state().work, Some(Work::Import)) {
            // What is to be discarded could not begin; the rest is not ours.
            return Ok(());
        }
        let opened = self.opened()?;
        // What could not begin has kept no collection off, and what one has moved is not ours.
        let _collecting = self.hold_collections();
        opened.objects.abandon();
        if let Some(aside) = opened.source.aside() {
            aside.drop_taken();
        }
        // A restore that could not be undone is undone by the next start.
        self.state().work = Intent::read(&self.intent_file())?.map(Work::Restore);
        directories::empty(&self.work_dir())
    }
}

/// What a symbolic link leads to. What does not exist yet is no link.
fn canonical(path: &std::path::Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}
