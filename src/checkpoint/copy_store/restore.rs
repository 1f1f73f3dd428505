//! The steps of a restore, each of which a crash may cut off and the next start repeats.

use std::collections::HashSet;
use std::fs;

use jiff::Timestamp;

use super::{CopyStore, Work, directories, inode};
use crate::checkpoint::driver::{Cancel, Context as _, Driver as _, Error, Restoration};
use crate::checkpoint::intent::Intent;
use crate::checkpoint::manifest::{FORMAT, Manifest};
use crate::checkpoint::{durable, tree_copy};
use crate::clock::now;

impl CopyStore {
    pub(super) fn stage_restore(&self, id: &str, cancel: &Cancel) -> Result<Restoration, Error> {
        self.discard()?;
        let manifest = self.find(id)?;
        let from = self.store.join(&manifest.id);
        let work = self.work_dir();
        fs::create_dir(&work).context("create", &work)?;
        let saved = work.join("components");
        fs::create_dir(&saved).context("create", &saved)?;
        let tree = self.waiting_tree();
        let none = HashSet::new();
        let report = tree_copy::copy(&from.join("tree"), &tree, None, &none, cancel)?;
        let counted = (Some(report.entries), Some(report.bytes));
        if !manifest.is_auto && counted != (manifest.entries, manifest.bytes) {
            return Err(Error::Damaged {
                path: from.join("tree"),
                why: format!(
                    "has {} entries and {} bytes, but its manifest says {} and {}; it was not restored",
                    report.entries,
                    report.bytes,
                    manifest.entries.unwrap_or_default(),
                    manifest.bytes.unwrap_or_default()
                ),
            });
        }
        let incoming = work.join("incoming");
        tree_copy::copy(&from.join("components"), &incoming, None, &none, cancel)?;
        durable::sync_filesystem(&self.store)?;
        let intent = Intent {
            id: manifest.id,
            auto_id: format!("auto-{}", Timestamp::now().strftime("%Y%m%dT%H%M%S.%6fZ")),
            staged_inode: inode(&tree).unwrap_or_default(),
            replaced_inode: inode(&self.live).unwrap_or_default(),
            rolling_back: false,
        };
        let restoration = self.restoration(&intent);
        *self.work() = Some(Work::Restore(intent));
        Ok(restoration)
    }

    pub(super) fn swap_trees(&self) -> Result<Restoration, Error> {
        let intent = self.intent()?;
        // What components saved must be there before anything is changed.
        durable::sync_filesystem(&self.store)?;
        intent.write(&self.intent_file())?;
        self.make_live(intent.staged_inode)?;
        Ok(self.restoration(&intent))
    }

    pub(super) fn commit_restore(&self) -> Result<(), Error> {
        let intent = self.intent()?;
        if !self.is_swapped(&intent) {
            return Err(Error::Damaged {
                path: self.live.clone(),
                why: "is not the restored tree".to_owned(),
            });
        }
        let work = self.work_dir();
        let mut state = self.state()?;
        // A crash may have cut off an earlier try: what it has written stands.
        if Manifest::read(&work)?.is_none() {
            let manifest = Manifest {
                format: FORMAT,
                id: intent.auto_id.clone(),
                create_time: now(),
                history: self.history(state.base.as_deref()),
                source_id: state.base.take(),
                comment: Some(format!("before the restore of {}", intent.id)),
                is_auto: true,
                entries: None,
                bytes: None,
                skipped: Vec::new(),
            };
            manifest.write(&work)?;
        }
        state.base = Some(intent.id.clone());
        state.restored = Some(intent.id.clone());
        self.set_state(&state)?;
        durable::sync_filesystem(&self.store)?;
        let kept = self.store.join(&intent.auto_id);
        durable::rename(&work, &kept)?;
        durable::remove_file(&self.intent_file())?;
        *self.work() = None;
        // Only now: until here a crash would have it needed again.
        if let Err(error) = durable::remove_tree(&kept.join("incoming")) {
            tracing::warn!("{error}");
        }
        if let Err(error) = self.prune() {
            tracing::warn!("cannot remove old automatic checkpoints: {error}");
        }
        Ok(())
    }

    pub(super) fn swap_trees_back(&self) -> Result<Restoration, Error> {
        let intent = Intent {
            rolling_back: true,
            ..self.intent()?
        };
        intent.write(&self.intent_file())?;
        self.make_live(intent.replaced_inode)?;
        let restoration = self.restoration(&intent);
        *self.work() = Some(Work::Restore(intent));
        Ok(restoration)
    }

    /// Puts the tree with this root in place, wherever a crash has left it. What is
    /// neither the old tree nor the new one is left alone, and nothing is removed.
    fn make_live(&self, root: u64) -> Result<(), Error> {
        let waiting = self.waiting_tree();
        if inode(&self.live) == Some(root) {
            return directories::finish_exchange(&waiting);
        }
        if inode(&waiting) != Some(root) {
            return Err(Error::Damaged {
                path: self.live.clone(),
                why: format!(
                    "is neither the tree that was there nor the restored one, which should be at \
                     {}: something has moved them; nothing was removed",
                    waiting.display()
                ),
            });
        }
        directories::exchange(&self.live, &waiting)
    }

    /// Whether the tree of `intent` is live.
    fn is_swapped(&self, intent: &Intent) -> bool {
        inode(&self.live) == Some(intent.staged_inode)
    }

    fn intent(&self) -> Result<Intent, Error> {
        match &*self.work() {
            Some(Work::Restore(intent)) => Ok(intent.clone()),
            _ => Err(Error::Unusable("no restore is under way".to_owned())),
        }
    }

    fn restoration(&self, intent: &Intent) -> Restoration {
        Restoration {
            id: intent.id.clone(),
            auto_id: intent.auto_id.clone(),
            components_dir: self.work_dir().join("incoming"),
            saved_dir: self.work_dir().join("components"),
        }
    }
}
