//! The steps of a restore, each of which a crash may cut off and the next start repeats.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::super::driver::{
    Cancel, Context as _, Driver as _, Error, Interrupted, Restoration,
};
use super::super::super::durable;
use super::super::super::intent;
use super::super::super::manifest::Manifest;
use super::super::super::store::lock;
use super::capture::{Used, flush_files, make_passable, make_private, open_passage};
use super::cloner::Cloner;
use super::index::Index;
use super::programs::Step;
use super::{COMPONENTS, Clones, MANIFEST, Work};
use crate::clock::now;

/// A restore from the moment on when something is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    #[serde(flatten)]
    what: intent::Intent,
    /// The inode number of the clone that takes the place of the image: who has it tells how far
    /// the restore is.
    pub clone: u64,
}

impl Intent {
    /// Whether the restore cannot do without this checkpoint.
    pub fn needs(&self, id: &str) -> bool {
        self.what.id == id || self.what.auto_id == id
    }

    /// Whether it is being undone.
    pub const fn is_rolling_back(&self) -> bool {
        self.what.rolling_back
    }

    /// That nothing else can begin before it is undone, which failed.
    pub fn is_left(&self, replaced: &Path) -> Error {
        Error::Unusable(format!(
            "the restore of {} failed and could not be undone; what it was to replace is in {}. Start \
             sprite-env again, which goes on with it",
            self.what.id,
            replaced.display()
        ))
    }

    /// Writes the record: into the target of a link, which is where the volume's metadata are, so
    /// that it can be read whatever has become of blocks.
    fn write(&self, path: &Path) -> Result<(), Error> {
        let text = serde_json::to_string(self).map_err(|error| Error::Damaged {
            path: path.to_owned(),
            why: error.to_string(),
        })?;
        durable::write_link(path, text)
    }

    /// Reads it; none if no restore is under way.
    pub fn read(path: &Path) -> Result<Option<Self>, Error> {
        match fs::read_link(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            target => {
                let target = target.context("read", path)?;
                intent::parse(path, target.as_os_str().as_bytes()).map(Some)
            }
        }
    }
}

/// Where the clone is that a restore puts into the place of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CloneIs {
    /// Beside it: nothing was changed yet.
    Beside,
    /// In its place, and the image is beside it.
    InPlace,
    /// In neither: somebody has put it away, because it could not be mounted.
    Gone,
}

impl Clones {
    /// Opens the checkpoints that are on the volume, and says whether a restore was cut off.
    pub(super) fn open_volume(&self) -> Result<Option<Interrupted>, Error> {
        let (dir, scratch) = (self.dir(), self.scratch_dir());
        if !dir.exists() {
            self.check_new()?;
            make_passable(&dir)?;
        }
        durable::remove_tree(&scratch)?;
        make_private(&scratch)?;
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

    /// Fails if a volume that has no clones has checkpoints of the store.
    fn check_new(&self) -> Result<(), Error> {
        let mut records = fs::read_dir(self.store.join("log")).into_iter().flatten();
        if records.next().is_none() {
            return Ok(());
        }
        Err(Error::Unusable(format!(
            "{} has checkpoints of the driver \"store\", and the volume has none: set \
             checkpoint.driver to \"store\", or move the directory away",
            self.store.display()
        )))
    }

    /// Removes where a daemon that was killed has mounted checkpoints.
    fn remove_views(&self) -> Result<(), Error> {
        let views = self.volume.views();
        make_private(&views)?;
        for entry in fs::read_dir(&views).context("read", &views)?.flatten() {
            super::views::unmount(&entry.path());
        }
        Ok(())
    }

    /// Clones the checkpoint for the place of the image, before anything is stopped.
    pub(super) fn clone_back(&self, id: &str, cancel: &Cancel) -> Result<Restoration, Error> {
        let removing = lock(&self.removing);
        let id = self.find(id)?.id;
        let mut intent = Intent {
            what: intent::Intent::of(&id),
            clone: 0,
        };
        self.begin_work(|_| Work::Restore(intent.clone()))?;
        drop(removing);
        self.clear()?;
        let (replaced, clone) = (self.volume.replaced(), self.volume.replaced_image());
        make_passable(&replaced)?;
        let saved = replaced.join(COMPONENTS);
        fs::create_dir_all(&saved).context("create", &saved)?;
        // What is written now need not be when it is unmounted, while everything is stopped. One
        // that cannot be written would be refused then: it is to become a checkpoint.
        self.flush_running(cancel)?;
        Cloner::on(&self.volume).clone_image(&self.image_of(&id), &clone, cancel)?;
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
        if is_repeated {
            self.lay_out(&intent.what.id)?;
        } else {
            intent.write(&self.volume.restore_intent())?;
        }
        match self.clone_is(&intent) {
            CloneIs::InPlace => self.step(Step::Swap, &[])?,
            CloneIs::Beside => {
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
                durable::write_json(&self.volume.replaced().join(MANIFEST), &manifest)?;
                self.step(Step::Swap, &[&self.volume.replaced_image()])?;
            }
            CloneIs::Gone => {
                return Err(Error::Damaged {
                    path: self.volume.image_file(),
                    why: format!("is not the clone of {}", intent.what.id),
                });
            }
        }
        Ok(self.restoration(&intent))
    }

    /// Makes the restore final: what it has replaced is an automatic checkpoint.
    pub(super) fn finish_restore(&self) -> Result<(), Error> {
        let intent = self.intent()?;
        // What is mounted can be used.
        durable::sync_filesystem(&self.volume.tree())?;
        let (replaced, auto) = (self.volume.replaced(), self.dir_of(&intent.what.auto_id));
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
        // From now on there is nothing to undo.
        if let Err(error) = self.clear() {
            tracing::warn!("{error}");
        }
        self.state().work = None;
        Ok(())
    }

    /// Puts the image back that the clone has taken the place of.
    pub(super) fn put_back(&self) -> Result<Restoration, Error> {
        let mut intent = self.intent()?;
        let (replaced, auto) = (self.volume.replaced(), self.dir_of(&intent.what.auto_id));
        let is_written = self.read_intent()?.is_some();
        if !is_written && self.clone_is(&intent) == CloneIs::Beside {
            // Nothing was changed yet.
            return Ok(self.restoration(&intent));
        }
        intent.what.rolling_back = true;
        intent.write(&self.volume.restore_intent())?;
        self.state().work = Some(Work::Restore(intent.clone()));
        if auto.exists() {
            // It is none yet.
            self.views.forget(&intent.what.auto_id);
            durable::rename(&auto, &replaced)?;
            self.record(|index| index.remove(&intent.what.auto_id))?;
        }
        // Components' own users come through it.
        open_passage(&replaced)?;
        match self.clone_is(&intent) {
            CloneIs::Beside => self.step(Step::Swap, &[])?,
            CloneIs::InPlace | CloneIs::Gone => {
                self.step(Step::Swap, &[&self.volume.replaced_image()])?;
            }
        }
        Ok(self.restoration(&intent))
    }

    fn clone_is(&self, intent: &Intent) -> CloneIs {
        let is_it = |path: &Path| inode(path).is_ok_and(|inode| inode == intent.clone);
        if is_it(&self.volume.image_file()) {
            CloneIs::InPlace
        } else if is_it(&self.volume.replaced_image()) {
            CloneIs::Beside
        } else {
            CloneIs::Gone
        }
    }

    /// Copies what components kept with a checkpoint: their commands may change it.
    fn lay_out(&self, id: &str) -> Result<(), Error> {
        let (to, from) = (self.restored_dir(), self.dir_of(id));
        durable::remove_tree(&to)?;
        make_passable(&to)?;
        // It may have none, but must be there.
        fs::metadata(&from).context("use", &from)?;
        for entry in read_dir(&from.join(COMPONENTS))? {
            let copy = to.join(entry.file_name());
            if read_dir(&entry.path())?.is_empty() {
                continue;
            }
            self.clone_directory(&entry.path(), &copy)?;
        }
        Ok(())
    }

    fn restoration(&self, intent: &Intent) -> Restoration {
        let replaced = self.volume.replaced();
        let auto = self.dir_of(&intent.what.auto_id);
        let saved = if replaced.exists() { replaced } else { auto };
        Restoration {
            id: intent.what.id.clone(),
            auto_id: intent.what.auto_id.clone(),
            components_dir: self.restored_dir(),
            saved_dir: saved.join(COMPONENTS),
        }
    }

    pub(super) fn restored_dir(&self) -> PathBuf {
        self.dir().join(".restored")
    }

    fn intent(&self) -> Result<Intent, Error> {
        match &self.state().work {
            Some(Work::Restore(intent)) => Ok(intent.clone()),
            _ => Err(Error::Unusable("no restore is under way".to_owned())),
        }
    }

    pub(super) fn read_intent(&self) -> Result<Option<Intent>, Error> {
        Intent::read(&self.volume.restore_intent())
    }

    pub(super) fn forget_intent(&self) -> Result<(), Error> {
        durable::remove_file(&self.volume.restore_intent())?;
        self.flush_metadata()
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
