//! The driver that keeps each checkpoint as a plain full copy of the directory.
//!
//! In the store's directory: `v0/`, `v1/`, `auto-…/` (each with `manifest.json`, `tree/`
//! and `components/NAME/`), `state.json` (the last number, the current base),
//! `restore.json` (the intent, while a restore is under way) and `work/` (whatever is
//! not finished). A checkpoint exists once it has its name, and gets it by a rename
//! after everything in it is on stable storage.

mod directories;
mod restore;
mod state;

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use self::state::State;
use super::driver::{Cancel, Context as _, Draft, Driver, Error, Interrupted, Restoration};
use super::durable;
use super::intent::Intent;
use super::manifest::{FORMAT, Manifest};
use super::tree_copy::{self, Report};
use crate::clock::now;
use crate::config::Storage;

/// Keeps checkpoints as copies.
#[derive(Debug)]
pub struct CopyStore {
    /// The environment's directory.
    live: PathBuf,
    /// Whether to make it if it is missing.
    make_live: bool,
    /// Where checkpoints are kept.
    store: PathBuf,
    keep_auto: usize,
    work: Mutex<Option<Work>>,
}

/// What one call of an operation leaves for the next.
#[derive(Debug)]
enum Work {
    Checkpoint {
        draft: Draft,
        comment: Option<String>,
        report: Option<Report>,
    },
    Restore(Intent),
}

impl CopyStore {
    /// As `storage` says. Nothing is touched before [`Driver::open`].
    #[must_use]
    pub fn new(storage: &Storage) -> Self {
        Self {
            live: canonical(&storage.dir),
            make_live: storage.make_dir,
            store: canonical(&storage.checkpoint_dir),
            keep_auto: storage.keep_auto,
            work: Mutex::default(),
        }
    }

    fn work(&self) -> MutexGuard<'_, Option<Work>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work_dir(&self) -> PathBuf {
        self.store.join("work")
    }

    /// Where the tree that is not live waits: the new one before the swap, the old after.
    fn waiting_tree(&self) -> PathBuf {
        self.work_dir().join("tree")
    }

    fn intent_file(&self) -> PathBuf {
        self.store.join("restore.json")
    }

    fn state(&self) -> Result<State, Error> {
        State::read(&self.store.join("state.json"))
    }

    fn set_state(&self, state: &State) -> Result<(), Error> {
        state.write(&self.store.join("state.json"))
    }

    fn manifest_of(&self, dir: &str) -> Result<Option<Manifest>, Error> {
        Manifest::read(&self.store.join(dir))
    }

    /// Removes automatic checkpoints beyond the number to keep.
    fn prune(&self) -> Result<(), Error> {
        let autos = self.list(true)?.into_iter().filter(|m| m.is_auto);
        for manifest in autos.skip(self.keep_auto) {
            self.remove(&manifest.id)?;
        }
        Ok(())
    }

    fn remove(&self, id: &str) -> Result<(), Error> {
        // Under another name first: half of a checkpoint must not look like one.
        let trash = self.store.join(format!("trash-{id}"));
        durable::rename(&self.store.join(id), &trash)?;
        durable::remove_tree(&trash)
    }

    /// The directories in the store, with their names.
    fn directories(&self) -> Result<Vec<String>, Error> {
        let entries = fs::read_dir(&self.store).context("read", &self.store)?;
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.context("read", &self.store)?.file_name();
            names.extend(name.into_string());
        }
        Ok(names)
    }
}

impl Driver for CopyStore {
    fn name(&self) -> &'static str {
        "copy"
    }

    fn open(&self) -> Result<Option<Interrupted>, Error> {
        let found = if self.store.is_dir() {
            Intent::read(&self.intent_file())?
        } else {
            None
        };
        if let Some(intent) = found {
            if self.manifest_of(&intent.auto_id)?.is_none() {
                let interrupted = if intent.rolling_back {
                    Interrupted::RollBack
                } else {
                    Interrupted::Restore
                };
                *self.work() = Some(Work::Restore(intent));
                return Ok(Some(interrupted));
            }
            // The automatic checkpoint has its name: the restore was as good as done.
            durable::remove_file(&self.intent_file())?;
        }
        directories::check(&self.live, self.make_live, &self.store)?;
        for name in self.directories()? {
            if name == "work" || name.starts_with("trash-") {
                // Garbage is no reason not to start.
                if let Err(error) = durable::remove_tree(&self.store.join(name)) {
                    tracing::warn!("{error}");
                }
            }
        }
        Ok(None)
    }

    fn list(&self, include_auto: bool) -> Result<Vec<Manifest>, Error> {
        let mut found = Vec::new();
        for name in self.directories()? {
            if !is_id(&name) {
                continue;
            }
            match self.manifest_of(&name) {
                Ok(Some(manifest)) if include_auto || !manifest.is_auto => found.push(manifest),
                Ok(_) => {}
                // One damaged checkpoint must not hide the others.
                Err(error) => tracing::warn!("{error}"),
            }
        }
        found.sort_by_cached_key(|m| std::cmp::Reverse((m.create_time.clone(), number(&m.id))));
        Ok(found)
    }

    fn find(&self, id: &str) -> Result<Manifest, Error> {
        let unknown = || Error::Unknown(id.to_owned());
        if matches!(id, "Current" | "active") {
            return self.list(false)?.into_iter().next().ok_or_else(unknown);
        }
        let name = id.strip_prefix("checkpoints/").unwrap_or(id);
        let name = if name.bytes().all(|b| b.is_ascii_digit()) {
            format!("v{name}")
        } else {
            name.to_owned()
        };
        if !is_id(&name) {
            return Err(unknown());
        }
        self.manifest_of(&name)?.ok_or_else(unknown)
    }

    fn delete(&self, id: &str) -> Result<(), Error> {
        let active = matches!(id, "Current" | "active");
        let manifest = self.find(id)?;
        if active || self.state()?.restored.as_deref() == Some(&manifest.id) {
            return Err(Error::Active(manifest.id));
        }
        self.remove(&manifest.id)
    }

    fn begin(&self, comment: Option<String>) -> Result<Draft, Error> {
        self.discard()?;
        let mut state = self.state()?;
        let used = self
            .directories()?
            .iter()
            .filter_map(|name| number(name))
            .max();
        let next = state.last.max(used).map_or(0, |last| last + 1);
        // The number is spent even if this checkpoint comes to nothing.
        state.last = Some(next);
        self.set_state(&state)?;
        let components_dir = self.work_dir().join("components");
        fs::create_dir_all(&components_dir).context("create", &components_dir)?;
        let draft = Draft {
            id: format!("v{next}"),
            components_dir,
        };
        *self.work() = Some(Work::Checkpoint {
            draft: draft.clone(),
            comment,
            report: None,
        });
        Ok(draft)
    }

    fn pre_copy(&self, cancel: &Cancel) -> Result<(), Error> {
        // From here on a store to a page that is mapped shared makes it dirty anew,
        // and that shows in the file's times.
        durable::sync_filesystem(&self.live)?;
        let target = self.waiting_tree();
        let copied = tree_copy::copy(&self.live, &target, None, &HashSet::new(), cancel)?;
        if let Some(Work::Checkpoint { report, .. }) = &mut *self.work() {
            *report = Some(copied);
        }
        Ok(())
    }

    fn capture(&self, held: Option<&[i32]>, cancel: &Cancel) -> Result<(), Error> {
        let previous = match &mut *self.work() {
            Some(Work::Checkpoint { report, .. }) => report.take(),
            _ => None,
        };
        let index = previous.as_ref().map(|report| &report.index);
        let mapped = tree_copy::mapped_inodes(held);
        let copied = tree_copy::copy(&self.live, &self.waiting_tree(), index, &mapped, cancel)?;
        if let Some(Work::Checkpoint { report, .. }) = &mut *self.work() {
            *report = Some(copied);
        }
        Ok(())
    }

    fn seal(&self) -> Result<Manifest, Error> {
        let Some(Work::Checkpoint {
            draft,
            comment,
            report,
        }) = self.work().take()
        else {
            return Err(Error::Unusable("no checkpoint is under way".to_owned()));
        };
        let mut state = self.state()?;
        let report = report.unwrap_or_default();
        let manifest = Manifest {
            format: FORMAT,
            id: draft.id.clone(),
            create_time: now(),
            history: self.history(state.base.as_deref()),
            source_id: state.base.take(),
            comment,
            is_auto: false,
            entries: Some(report.entries),
            bytes: Some(report.bytes),
            skipped: report.skipped,
        };
        manifest.write(&self.work_dir())?;
        durable::sync_filesystem(&self.store)?;
        durable::rename(&self.work_dir(), &self.store.join(&draft.id))?;
        state.base = Some(draft.id);
        state.restored = None;
        self.set_state(&state)?;
        Ok(manifest)
    }

    fn fetch(&self, id: &str, cancel: &Cancel) -> Result<Restoration, Error> {
        self.stage_restore(id, cancel)
    }

    fn swap(&self) -> Result<Restoration, Error> {
        self.swap_trees()
    }

    fn verify(&self) -> Result<(), Error> {
        self.commit_restore()
    }

    fn roll_back(&self) -> Result<Restoration, Error> {
        self.swap_trees_back()
    }

    fn rolled_back(&self) -> Result<(), Error> {
        durable::remove_file(&self.intent_file())?;
        self.discard()
    }

    fn discard(&self) -> Result<(), Error> {
        *self.work() = None;
        durable::remove_tree(&self.work_dir())
    }
}

impl CopyStore {
    /// The checkpoints that a tree based on `base` descends from, oldest first.
    fn history(&self, base: Option<&str>) -> Vec<String> {
        let Some(base) = base else {
            return Vec::new();
        };
        let mut history = match self.manifest_of(base) {
            Ok(Some(manifest)) => manifest.history,
            _ => Vec::new(),
        };
        history.push(base.to_owned());
        history
    }
}

/// What a symbolic link leads to: the directory is replaced, not the link to it. What
/// does not exist yet is no link.
fn canonical(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn inode(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|meta| meta.ino())
}

/// The number of a checkpoint that somebody made.
fn number(id: &str) -> Option<u64> {
    id.strip_prefix('v')?.parse().ok()
}

/// Whether `name` can be a checkpoint's directory. Nothing else may become a path.
fn is_id(name: &str) -> bool {
    let auto = |rest: &str| {
        let valid = |b: u8| b.is_ascii_digit() || matches!(b, b'T' | b'Z' | b'.');
        !rest.is_empty() && rest.bytes().all(valid)
    };
    name.strip_prefix("auto-").is_some_and(auto)
        || number(name).is_some_and(|number| name == format!("v{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_become_paths() {
        for good in ["v0", "v17", "auto-20260102T030405.678901Z"] {
            assert!(is_id(good), "{good}");
        }
        for bad in [
            "",
            "v",
            "v01",
            "v-1",
            "..",
            "auto-",
            "auto-../v1",
            "v1/..",
            "work",
            "V1",
        ] {
            assert!(!is_id(bad), "{bad}");
        }
    }
}
