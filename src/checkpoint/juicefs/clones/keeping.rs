//! Checkpoints come to be and go.

use std::fs::File;
use std::path::Path;

use super::super::super::driver::{Context as _, Error};
use super::super::super::durable;
use super::super::super::manifest::Manifest;
use super::super::super::store::{expired, lock};
use super::capture::{self, keep_private};
use super::index::Index;
use super::{Clones, MANIFEST, Work};

impl Clones {
    /// Makes all of this durable, on this machine, that is on the volume.
    pub(super) fn flush(&self) -> Result<(), Error> {
        if self.volume.blocks.is_none() {
            return durable::sync_filesystem(&self.volume.dir);
        }
        // Blocks are in the bucket when a file is flushed.
        self.flush_metadata()
    }

    /// The same of the metadata only. SQLite itself flushes its log now and then; all in it counts
    /// that is whole.
    pub(super) fn flush_metadata(&self) -> Result<(), Error> {
        let log = self.volume.metadata_log();
        match File::open(&log) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            log_file => {
                let flushed = log_file.and_then(|file| file.sync_all());
                flushed.context("flush", &log)
            }
        }
    }

    /// Notes what has happened to the checkpoints, which the volume itself tells too.
    pub(super) fn record(&self, change: impl Fn(&mut Index)) -> Result<(), Error> {
        let _recording = lock(&self.recording);
        let index = {
            let mut state = self.state();
            change(&mut state.index);
            state.index.clone()
        };
        if let Err(error) = index.write(&self.dir()) {
            tracing::warn!("{error}; it is written with the next change");
        }
        self.flush_metadata()
    }

    /// Makes a checkpoint exist whose clone is in `dir`.
    pub(super) fn seal(&self, dir: &Path, manifest: Manifest) -> Result<Manifest, Error> {
        let manifest = Manifest {
            sequence: self.state().index.next(),
            ..manifest
        };
        durable::write_json(&dir.join(MANIFEST), &manifest)?;
        keep_private(dir)?;
        // What it names must be there before it is.
        self.flush()?;
        durable::rename(dir, &self.dir_of(&manifest.id))?;
        self.record(|index| index.add(manifest.clone()))?;
        if let Some(durability) = &self.durability {
            let index = self.state().index.clone();
            durability.note(&self.volume, &index);
        }
        self.state().index.find(&manifest.id)
    }

    /// Removes the checkpoint that `id` names, unless it is needed: its name first.
    pub(super) fn remove(&self, id: &str) -> Result<(), Error> {
        let _removing = lock(&self.removing);
        let id = {
            let state = self.state();
            let id = state.index.find_removable(id)?.id;
            match &state.work {
                Some(Work::Restore(intent)) if intent.needs(&id) => {
                    return Err(Error::Busy("a restore of it"));
                }
                _ => id,
            }
        };
        self.views.forget(&id);
        let removed = self.dir().join(format!(".removed-{id}"));
        durable::rename(&self.dir_of(&id), &removed)?;
        self.record(|index| index.remove(&id))?;
        // Somebody may have looked at it until now.
        self.views.forget(&id);
        durable::remove_tree(&removed)
    }

    /// Removes automatic checkpoints whose time is over.
    pub(super) fn prune(&self) -> Result<(), Error> {
        let autos: Vec<_> = self.state().index.list(true).collect();
        let autos: Vec<_> = autos.into_iter().filter(|it| it.is_auto).collect();
        for id in expired(self.retention, &autos) {
            match self.remove(&id) {
                // One that is needed stays.
                Ok(()) | Err(Error::Active(_) | Error::Busy(_) | Error::Unknown(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Removes what an operation that has not come to its end left behind, but nothing that a
    /// restore needs which is not undone.
    pub(super) fn clear(&self) -> Result<(), Error> {
        self.views.forget(capture::MAKING);
        durable::remove_tree(&self.making_dir())?;
        if self.read_intent()?.is_some() {
            return Ok(());
        }
        durable::remove_tree(&self.volume.replaced())?;
        durable::remove_tree(&self.restored_dir())
    }
}
