//! The steps of a restore, each of which a crash may cut off and the next start repeats.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::super::driver::{
    Cancel, Context as _, Driver as _, Error, Interrupted, Restoration,
};
use super::super::super::durable;
use super::super::super::intent;
use super::super::super::manifest::Manifest;
use super::capture::{Used, flush_files, make_passable};
use super::index::Index;
use super::programs::Step;
use super::{COMPONENTS, Clones, IMAGE, MANIFEST, Work};
use crate::clock::now;

/// A restore from the moment on when something is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    #[serde(flatten)]
    what: intent::Intent,
    /// The inode number of the clone that takes the place of the image: who has it tells how far
    /// the restore is.
    clone: u64,
}

impl Intent {
    /// Whether the restore cannot do without this checkpoint.
    pub fn needs(&self, id: &str) -> bool {
        self.what.id == id || self.what.auto_id == id
    }
}

impl Clones {
    /// Opens the checkpoints that are on the volume, and says whether a restore was cut off.
    pub(super) fn open_volume(&self) -> Result<Option<Interrupted>, Error> {
        let dir = self.dir();
        let scratch = self.scratch_dir();
        durable::remove_tree(&scratch)?;
        let store = &self.storage.checkpoint_dir;
        fs::create_dir_all(store).context("create", store)?;
        if !dir.exists() {
            make_passable(&dir)?;
        }
        self.remove_views()?;
        for entry in fs::read_dir(&dir).context("read", &dir)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(".removed-") {
                durable::remove_tree(&entry.path())?;
            }
        }
        let index = Index::read(&dir)?;
        let intent = self.read_intent()?;
        if intent.is_none() {
            self.clear()?;
        }
        let interrupted = intent.as_ref().map(|intent| {
            if intent.what.rolling_back {
                Interrupted::RollBack
            } else {
                Interrupted::Restore
            }
        });
        if let Some(durability) = &self.durability {
            durability.begin(&self.runtime, &self.volume, &index);
        }
        let mut state = self.state();
        state.index = index;
        state.work = intent.map(Work::Restore);
        state.is_open = true;
        Ok(interrupted)
    }

    /// Removes where a daemon that was killed has mounted checkpoints.
    fn remove_views(&self) -> Result<(), Error> {
        let views = self.volume.views();
        fs::create_dir_all(&views).context("create", &views)?;
        for entry in fs::read_dir(&views).context("read", &views)?.flatten() {
            super::views::unmount(&entry.path());
        }
        Ok(())
    }

    /// Clones the checkpoint for the place of the image, before anything is stopped.
    pub(super) fn clone_back(&self, id: &str, cancel: &Cancel) -> Result<Restoration, Error> {
        let id = self.find(id)?.id;
        let mut intent = Intent {
            what: intent::Intent::of(&id),
            clone: 0,
        };
        self.begin_work(|_| Work::Restore(intent.clone()))?;
        self.clear()?;
        make_passable(&self.replaced_dir())?;
        let saved = self.replaced_dir().join(COMPONENTS);
        fs::create_dir_all(&saved).context("create", &saved)?;
        let clone = self.replaced_dir().join(IMAGE);
        self.clone_file(&self.image_of(&id), &clone, cancel)?;
        intent.clone = inode(&clone)?;
        self.lay_out(&id)?;
        let restoration = self.restoration(&intent);
        self.state().work = Some(Work::Restore(intent));
        Ok(restoration)
    }

    /// Puts the clone into the place of the image.
    pub(super) fn put_in_place(&self) -> Result<Restoration, Error> {
        let intent = self.intent()?;
        let is_repeated = self.read_intent()?.is_some();
        intent.write(&self.intent_file())?;
        if is_repeated {
            self.lay_out(&intent.what.id)?;
        }
        if self.is_in_place(&intent)? {
            self.step(Step::Swap, &[])?;
        } else {
            // With it the old image is a checkpoint.
            let used = Used::of(&self.volume.tree())?;
            let manifest = Manifest {
                source_id: self.state().index.base(),
                comment: Some(format!("before the restore of {}", intent.what.id)),
                is_auto: true,
                entries: used.entries,
                bytes: used.bytes,
                ..Manifest::new(intent.what.auto_id.clone(), now())
            };
            durable::write_json(&self.replaced_dir().join(MANIFEST), &manifest)?;
            let clone = self.replaced_dir().join(IMAGE);
            self.step(Step::Swap, &[&clone])?;
        }
        Ok(self.restoration(&intent))
    }

    /// Makes the restore final: what it has replaced is an automatic checkpoint.
    pub(super) fn finish_restore(&self) -> Result<(), Error> {
        let intent = self.intent()?;
        // What is mounted can be used.
        durable::sync_filesystem(&self.volume.tree())?;
        let (replaced, auto) = (self.replaced_dir(), self.dir_of(&intent.what.auto_id));
        if !auto.exists() {
            let path = replaced.join(MANIFEST);
            let text = fs::read(&path).context("read", &path)?;
            let manifest = serde_json::from_slice(&text).map_err(|error| Error::Damaged {
                path,
                why: format!("damaged: {error}"),
            })?;
            flush_files(&replaced.join(COMPONENTS))?;
            self.seal(&replaced, manifest)?;
        }
        self.record(|index| index.restored(&intent.what.id))?;
        self.forget_intent()?;
        self.state().work = None;
        // From now on there is nothing to undo.
        if let Err(error) = self.clear() {
            tracing::warn!("{error}");
        }
        Ok(())
    }

    /// Puts the image back that the clone has taken the place of.
    pub(super) fn put_back(&self) -> Result<Restoration, Error> {
        let mut intent = self.intent()?;
        intent.what.rolling_back = true;
        intent.write(&self.intent_file())?;
        self.state().work = Some(Work::Restore(intent.clone()));
        let (replaced, auto) = (self.replaced_dir(), self.dir_of(&intent.what.auto_id));
        if auto.exists() {
            // It is none yet.
            durable::rename(&auto, &replaced)?;
            self.record(|index| index.remove(&intent.what.auto_id))?;
        }
        let clone = replaced.join(IMAGE);
        if self.is_in_place(&intent)? {
            self.step(Step::Swap, &[&clone])?;
        } else {
            self.step(Step::Swap, &[])?;
        }
        Ok(self.restoration(&intent))
    }

    /// Whether the clone has taken the place of the image.
    fn is_in_place(&self, intent: &Intent) -> Result<bool, Error> {
        Ok(inode(&self.volume.image_file())? == intent.clone)
    }

    /// Copies what components kept with a checkpoint: their commands may change it.
    fn lay_out(&self, id: &str) -> Result<(), Error> {
        let to = self.restored_dir();
        durable::remove_tree(&to)?;
        make_passable(&to)?;
        for entry in read_dir(&self.dir_of(id).join(COMPONENTS))? {
            let copy = to.join(entry.file_name());
            if read_dir(&entry.path())?.is_empty() {
                continue;
            }
            self.clone_file(&entry.path(), &copy, &Cancel::default())?;
        }
        Ok(())
    }

    fn restoration(&self, intent: &Intent) -> Restoration {
        let replaced = self.replaced_dir();
        let auto = self.dir_of(&intent.what.auto_id);
        let saved = if replaced.exists() { replaced } else { auto };
        Restoration {
            id: intent.what.id.clone(),
            auto_id: intent.what.auto_id.clone(),
            components_dir: self.restored_dir(),
            saved_dir: saved.join(COMPONENTS),
        }
    }

    fn replaced_dir(&self) -> PathBuf {
        self.dir().join(".replaced")
    }

    fn restored_dir(&self) -> PathBuf {
        self.dir().join(".restored")
    }

    fn intent_file(&self) -> PathBuf {
        self.dir().join("restore.json")
    }

    fn intent(&self) -> Result<Intent, Error> {
        match &self.state().work {
            Some(Work::Restore(intent)) => Ok(intent.clone()),
            _ => Err(Error::Unusable("no restore is under way".to_owned())),
        }
    }

    fn read_intent(&self) -> Result<Option<Intent>, Error> {
        intent::read(&self.intent_file())
    }

    pub(super) fn forget_intent(&self) -> Result<(), Error> {
        self.flush()?;
        durable::remove_file(&self.intent_file())?;
        self.flush()
    }
}

impl Intent {
    fn write(&self, path: &Path) -> Result<(), Error> {
        durable::write_json(path, self)
    }
}

fn inode(path: &Path) -> Result<u64, Error> {
    let found = fs::metadata(path).context("look at", path)?;
    Ok(found.ino())
}

/// What is in a directory, if it is there.
fn read_dir(dir: &Path) -> Result<Vec<fs::DirEntry>, Error> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        found => {
            let found: Result<Vec<_>, _> = found.context("read", dir)?.collect();
            found.context("read", dir)
        }
    }
}
