//! The driver that keeps checkpoints as clones of the image on the volume: JuiceFS copies what
//! it knows of a file, not what is in it, so a checkpoint takes as long for a large environment
//! as for a small one.
//!
//! On the volume:
//!
//! ```text
//! active/fs.ext4                    the image that the environment's directory is in
//! checkpoints/v3/fs.ext4            a clone of it
//! checkpoints/v3/manifest.json      what is known of the checkpoint: with it, it exists
//! checkpoints/v3/components/NAME/   what components kept
//! checkpoints/index.json            which came from which; can be lost
//! checkpoints/restore               the intent, while a restore is under way
//! checkpoints/.making/              a checkpoint that is not finished
//! checkpoints/.replaced/            the clone that a restore puts in the place of the image, and
//!                                   then what it has replaced
//! checkpoints/.restored/            what components kept with the checkpoint that is restored
//! ```

mod archives;
mod browse;
mod capture;
mod cloner;
mod diff;
mod directory;
mod durability;
mod frozen;
mod index;
mod keeping;
mod programs;
mod restoring;
mod verify;
mod views;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::runtime::Handle;
use tokio::sync::watch::Receiver;

pub use self::browse::Opened;
use self::capture::Making;
use self::durability::Durability;
use self::index::Index;
pub use self::restoring::Intent;
use self::views::Views;
use super::super::driver::{
    Cancel, Collected, Context as _, Difference, Draft, Driver, Error, FileContent, Interrupted,
    Look, Restoration, Verified,
};
use super::super::manifest::Manifest;
use super::super::meter::Meter;
use super::super::replication::Replication;
use super::super::store::lock;
use super::{FILE_OF_IMAGE as IMAGE, Volume};
use crate::config::{Retention, Storage};
use crate::spawn::Spawner;

/// What is known of it.
const MANIFEST: &str = "manifest.json";
/// What components kept with it.
const COMPONENTS: &str = "components";

/// Keeps checkpoints as clones.
#[derive(Debug)]
pub struct Clones {
    volume: Volume,
    /// Where a store would be.
    store: PathBuf,
    retention: Retention,
    spawner: Spawner,
    runtime: Handle,
    state: Mutex<State>,
    views: Views,
    meter: Meter,
    durability: Option<Durability>,
    /// Held while the index is written.
    recording: Mutex<()>,
    /// Held while a checkpoint is removed, and by a restore while it begins.
    removing: Mutex<()>,
}

/// What changes.
#[derive(Debug, Default)]
struct State {
    is_open: bool,
    index: Index,
    work: Option<Work>,
}

/// What is under way, and what one call of an operation leaves for the next.
#[derive(Debug)]
enum Work {
    Checkpoint(Making),
    Restore(Intent),
    Import,
}

impl State {
    /// Fails if something is under way.
    fn check_idle(&self, volume: &Volume) -> Result<(), Error> {
        match &self.work {
            None => Ok(()),
            Some(Work::Import) => Err(Error::Busy("an import")),
            Some(Work::Restore(intent)) if intent.is_rolling_back() => {
                Err(intent.is_left(&volume.replaced_image()))
            }
            Some(_) => Err(Error::Busy("a checkpoint or restore")),
        }
    }
}

impl Clones {
    /// On `volume`, whose environment's directory is in an image. Programs are run by `spawner`,
    /// by way of `runtime`.
    #[must_use]
    pub fn new(storage: &Storage, volume: &Volume, spawner: &Spawner, runtime: Handle) -> Self {
        let in_bucket = volume.blocks.is_some();
        Self {
            durability: in_bucket.then(|| Durability::new(volume)),
            volume: volume.clone(),
            store: storage.checkpoint_dir.clone(),
            retention: storage.retention,
            spawner: spawner.clone(),
            runtime,
            state: Mutex::default(),
            views: Views::default(),
            meter: Meter::default(),
            recording: Mutex::default(),
            removing: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.state().is_open {
            Ok(())
        } else {
            let why = "the checkpoints are not open: the volume that they are on is not there yet";
            Err(Error::Unusable(why.to_owned()))
        }
    }

    /// Begins `work`, unless something else is under way.
    fn begin_work(&self, work: impl FnOnce(&mut Index) -> Work) -> Result<(), Error> {
        self.check_open()?;
        self.state().check_idle(&self.volume)?;
        if let Some(intent) = self.read_intent()? {
            return Err(intent.is_left(&self.volume.replaced_image()));
        }
        let mut state = self.state();
        state.check_idle(&self.volume)?;
        state.work = Some(work(&mut state.index));
        Ok(())
    }

    fn dir(&self) -> PathBuf {
        self.volume.checkpoints()
    }

    fn making_dir(&self) -> PathBuf {
        self.dir_of(capture::MAKING)
    }

    fn dir_of(&self, id: &str) -> PathBuf {
        self.dir().join(id)
    }

    fn image_of(&self, id: &str) -> PathBuf {
        self.dir_of(id).join(IMAGE)
    }

    /// Where archives are put together: on this machine's disk.
    fn scratch_dir(&self) -> PathBuf {
        self.volume.dir.join("scratch")
    }
}

impl Driver for Clones {
    fn name(&self) -> &'static str {
        "juicefs"
    }

    fn open(&self) -> Result<Option<Interrupted>, Error> {
        self.open_volume()
    }

    fn list(&self, include_auto: bool) -> Result<Vec<Manifest>, Error> {
        Ok(self.state().index.list(include_auto).collect())
    }

    fn find(&self, id: &str) -> Result<Manifest, Error> {
        self.state().index.find(id)
    }

    fn look(&self, id: &str, path: &str) -> Result<Look, Error> {
        let view = self.view(&self.find(id)?.id)?;
        browse::look(&view, path)
    }

    fn read(&self, file: &FileContent, offset: u64) -> Result<Vec<u8>, Error> {
        browse::read(file, offset)
    }

    fn diff(&self, old: &str, new: &str, most: usize) -> Result<(Vec<Difference>, bool), Error> {
        let (old, new) = (self.find(old)?.id, self.find(new)?.id);
        let (old, new) = (self.view(&old)?, self.view(&new)?);
        diff::differences(old.root(), new.root(), most)
    }

    fn verify_store(&self, read_data: bool) -> Result<Verified, Error> {
        self.verify_all(read_data)
    }

    fn export(&self, id: &str, to: &mut dyn Write) -> Result<(), Error> {
        self.export_archive(&self.find(id)?, to)
    }

    fn spool(&self) -> Result<File, Error> {
        self.check_open()?;
        let dir = self.scratch_dir();
        tempfile::tempfile_in(&dir).context("create a file in", &dir)
    }

    fn import(&self, archive: File, comment: Option<String>) -> Result<Manifest, Error> {
        self.import_archive(archive, comment)
    }

    fn collect_garbage(&self) -> Result<Collected, Error> {
        // JuiceFS removes blocks that no file has; there is nothing else.
        self.check_open()?;
        Ok(Collected::default())
    }

    fn delete(&self, id: &str) -> Result<(), Error> {
        self.check_open()?;
        self.remove(id)?;
        self.show_newest();
        Ok(())
    }

    fn begin(&self, comment: Option<String>, automatic: bool) -> Result<Draft, Error> {
        self.begin_checkpoint(comment, automatic)
    }

    fn pre_copy(&self, cancel: &Cancel) -> Result<(), Error> {
        self.flush_running(cancel)
    }

    fn capture(&self, held: Option<&[i32]>, cancel: &Cancel) -> Result<(), Error> {
        self.take(held, cancel)
    }

    fn seal(&self) -> Result<Manifest, Error> {
        self.seal_checkpoint()
    }

    fn fetch(&self, id: &str, cancel: &Cancel) -> Result<Restoration, Error> {
        self.clone_back(id, cancel)
    }

    fn swap(&self) -> Result<Restoration, Error> {
        self.put_in_place()
    }

    fn verify(&self) -> Result<(), Error> {
        self.finish_restore()
    }

    fn roll_back(&self) -> Result<Restoration, Error> {
        self.put_back()
    }

    fn rolled_back(&self) -> Result<(), Error> {
        self.forget_intent()?;
        self.discard()
    }

    fn capture_source(&self) -> Option<&'static str> {
        self.state().is_open.then_some("clone")
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }

    fn replication(&self) -> Option<Receiver<Replication>> {
        self.durability.as_ref().map(Durability::watch)
    }

    fn mount(self: Arc<Self>, at: &Path) -> Result<(), Error> {
        self.views.show_at(at)?;
        self.show_newest();
        Ok(())
    }

    fn close(&self) {
        self.views.close();
    }

    fn tidy(&self) -> Result<(), Error> {
        if self.state().work.is_some() {
            return Ok(());
        }
        self.prune()?;
        self.show_newest();
        Ok(())
    }

    fn discard(&self) -> Result<(), Error> {
        if matches!(self.state().work, None | Some(Work::Import)) {
            // What is to be discarded could not begin; the rest is not ours.
            return Ok(());
        }
        let cleared = self.clear();
        // One that could not be undone is finished by the next start.
        if self.read_intent()?.is_none() {
            self.state().work = None;
        }
        cleared
    }
}
