//! The steps of a restore, each of which a crash may cut off and the next start repeats.

mod check;

use std::collections::HashSet;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::apply::Apply;
use super::frozen::CaptureSource;
use super::live::Live;
use super::log::Change;
use super::look::Look;
use super::node::Kind;
use super::place::Place;
use super::pool::Pool;
use super::reach::reach;
use super::scan::{Hints, Scanned};
use super::watch::Watch;
use super::{Id, Store, Work, diff, nodes};
use crate::checkpoint::driver::{Cancel, Context as _, Driver as _, Error, Restoration};
use crate::checkpoint::durable;
use crate::checkpoint::intent::Intent;
use crate::checkpoint::manifest::Manifest;
use crate::checkpoint::meter::Meter;
use crate::clock::now;
use crate::config::VerifyRestore;

/// How much room is kept for undoing a restore: for the intent, and for the directories and
/// the few blocks that are neither what they were nor what they were to be.
const RESERVE: u64 = 8 << 20;
/// In so many directories a restore may change something and be watched. With more, what the
/// kernel tells of each change costs more than to look at all of the tree, and may be lost.
const FEW: usize = 1000;

impl Store {
    /// Sees to it that all of the checkpoint is there, before anything is stopped.
    pub(super) fn fetch_checkpoint(&self, id: &str, cancel: &Cancel) -> Result<Restoration, Error> {
        self.check_importing()?;
        let collecting = self.hold_collections();
        let manifest = self.find(id)?;
        let intent = Intent::of(&manifest.id);
        self.state().work = Some(Work::Restore(intent.clone()));
        drop(collecting);
        let roots: Vec<Id> = manifest.roots().collect();
        self.bring_here(&roots, cancel)?;
        let saved = self.components_dir();
        fs::create_dir_all(&saved).context("create", &saved)?;
        self.lay_out(&self.incoming_dir(), manifest.components)?;
        Ok(self.restoration(&intent))
    }

    /// Sees to it that all that these roots need is there, on this machine.
    pub(super) fn bring_here(&self, roots: &[Id], cancel: &Cancel) -> Result<(), Error> {
        let objects = &self.opened()?.objects;
        let known = roots.iter().all(|root| self.state().whole.contains(root));
        if known && objects.all_local() {
            return Ok(());
        }
        let reached = reach(objects, &Pool::new()?, roots, cancel)?;
        let packs = objects.bring(reached.ids(), &self.meter)?;
        if packs > 0 {
            tracing::info!(packs, "fetched from the bucket");
        }
        self.state().whole.extend(roots);
        Ok(())
    }

    /// Keeps the live tree as an automatic checkpoint and restores the wanted one.
    pub(super) fn restore_tree(&self) -> Result<Restoration, Error> {
        let intent = self.intent()?;
        let target = self.find(&intent.id)?;
        let pool = Pool::new()?;
        let mut watch = None;
        // It would be told of everything that is restored.
        self.state().tracker = None;
        if Intent::read(&self.intent_file())?.is_some() {
            // Nobody has fetched it: a crash has cut that off, or this is the first start.
            let roots: Vec<Id> = target.roots().collect();
            self.bring_here(&roots, &Cancel::default())?;
            self.lay_out(&self.incoming_dir(), target.components)?;
            let saved = self.components_dir();
            fs::create_dir_all(&saved).context("create", &saved)?;
        }
        self.reserve()?;
        if self.find(&intent.auto_id).is_ok() {
            // A crash has cut it off: what is kept is kept, and the tree is neither one
            // nor the other.
            self.look_again(&pool)?;
        } else {
            let hints = Hints::default();
            // Its end takes a while, for which a scratch tree could not be unmounted.
            if !self.is_scratch && self.verify_restore == VerifyRestore::Metadata {
                watch = Watch::begin(&self.root()?);
            }
            let cancel = Cancel::default();
            let mut scanned = self.pass(&pool, self.known(), &Look::new(&hints, &cancel))?;
            let automatic = Manifest {
                comment: Some(format!("before the restore of {}", intent.id)),
                is_auto: true,
                imported: intent.is_first_start,
                ..self.unsealed(intent.auto_id.clone(), now())
            };
            let automatic =
                self.store_trees(automatic, &mut scanned, &self.components_dir(), &pool)?;
            let replaced = self.seal(automatic)?;
            self.set_live(scanned.live, replaced.root);
            self.keep_intent(&intent)?;
        }
        self.bring(&pool, target.root, watch)?;
        Ok(self.restoration(&intent))
    }

    /// Keeps room on the disk for undoing the restore, should it get full.
    fn reserve(&self) -> Result<(), Error> {
        let path = self.reserve_file();
        let file = fs::File::create(&path).context("create", &path)?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, RESERVE) {
            // This filesystem gives no promises.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            result => result.context("keep room for undoing the restore in", &path),
        }
    }

    fn reserve_file(&self) -> PathBuf {
        self.work_dir().join("reserve")
    }

    /// Makes the restore final.
    pub(super) fn commit_restore(&self) -> Result<(), Error> {
        let intent = self.intent()?;
        self.check_place()?;
        self.record(Change::Restore { id: intent.id })?;
        self.forget_intent()?;
        self.end_restore()
    }

    /// Ends a restore, or one that was undone: its intent is no more.
    pub(super) fn end_restore(&self) -> Result<(), Error> {
        self.discard()?;
        // Not before: what is written for it would be flushed with the record.
        if self.verify_restore != VerifyRestore::None {
            self.keep_live();
        }
        Ok(())
    }

    /// Fails if something has put another directory in the place of the restored one.
    fn check_place(&self) -> Result<(), Error> {
        let restored = self.state().live.root.as_ref().map(|root| root.stamp.inode);
        let there = fs::symlink_metadata(&self.tree).ok().map(|meta| meta.ino());
        if restored.is_some() && there == restored {
            return Ok(());
        }
        Err(Error::Damaged {
            path: self.tree.clone(),
            why: "is not the restored tree: something has moved it".to_owned(),
        })
    }

    /// Restores what was replaced.
    pub(super) fn restore_replaced(&self) -> Result<Restoration, Error> {
        let intent = Intent {
            rolling_back: true,
            ..self.intent()?
        };
        self.state().work = Some(Work::Restore(intent.clone()));
        durable::remove_file(&self.reserve_file())?;
        if self.find(&intent.auto_id).is_err() {
            // Nothing was changed yet.
            return Ok(self.restoration(&intent));
        }
        self.keep_intent(&intent)?;
        let replaced = self.find(&intent.auto_id)?;
        let pool = Pool::new()?;
        self.look_again(&pool)?;
        self.lay_out(&self.components_dir(), replaced.components)?;
        self.bring(&pool, replaced.root, None)?;
        Ok(self.restoration(&intent))
    }

    /// Reads the whole tree, whatever is known of it.
    fn look_again(&self, pool: &Pool) -> Result<(), Error> {
        let opened = self.opened()?;
        opened.objects.abandon();
        let nothing = Scanned::of(self.state().live.nothing());
        let (hints, cancel) = (Hints::default(), Cancel::default());
        let mut scanned = self.pass(pool, nothing, &Look::new(&hints, &cancel))?;
        nodes::store(&mut scanned, &opened.objects, pool)?;
        opened.objects.finish()?;
        let mut state = self.state();
        state.live = Arc::new(scanned.live);
        state.changed.clear();
        state.captured = None;
        Ok(())
    }

    /// Makes the live tree into that with this root, and sees to it that it is. With a
    /// `watch` that began before the tree was looked at, only what has changed since is
    /// looked at again.
    fn bring(&self, pool: &Pool, target: Id, mut watch: Option<Watch>) -> Result<(), Error> {
        let opened = self.opened()?;
        let objects = &opened.objects;
        let cancel = Cancel::default();
        let mut live = (*self.state().live).clone();
        self.measure_restore(target)?;
        let apply = Apply {
            objects,
            live: &live,
            cancel: &cancel,
            meter: &self.meter,
        };
        let begun = Instant::now();
        let directories = live.slots.len();
        let applied = apply.run(pool, &self.root()?, target, |changed| {
            let are_many = changed > FEW.max(directories / 4);
            if let Some(watch) = watch.take_if(|_| are_many) {
                watch.end();
            }
        })?;
        let changed = begun.elapsed();
        for note in &applied.notes {
            tracing::warn!("{note}");
        }
        live.set_groups(&applied.written);
        if self.verify_restore == VerifyRestore::None {
            durable::sync_filesystem(&self.tree)?;
            // What is known is of the tree before, and what differs shows: as if somebody
            // had changed it.
            self.state().live = Arc::new(live);
            return Ok(());
        }
        // What is looked at is the same before and after it is on the disk.
        let (flushed, checked) = durable::flush_meanwhile(
            || durable::sync_filesystem(&self.tree),
            || self.check(pool, live, target, applied, watch),
        );
        let (live, root) = flushed.and(checked)?;
        let checked = begun.elapsed();
        tracing::debug!(?changed, ?checked, "the tree is restored");
        self.set_live(live, root);
        // What is known now is known of this state.
        if let CaptureSource::Snapshot(aside) = &opened.source {
            aside.keep_tree(&self.tree);
        }
        Ok(())
    }

    /// Finds out how much a restore has to write, if anybody wants to know.
    fn measure_restore(&self, target: Id) -> Result<(), Error> {
        let captured = self.state().captured;
        let Some(captured) = captured.filter(|_| self.meter.is_wanted()) else {
            return Ok(());
        };
        let objects = &self.opened()?.objects;
        let (mut files, mut bytes) = (0, 0);
        let mut groups = HashSet::new();
        diff::diff(objects, captured, target, &mut |_, there, wanted| {
            if let Some(Kind::File {
                size,
                group,
                content,
            }) = wanted.map(|entry| entry.kind)
                && !there.is_some_and(
                    |entry| matches!(entry.kind, Kind::File { content: has, .. } if has == content),
                )
                && group.is_none_or(|group| groups.insert(group))
            {
                files += 1;
                bytes += size;
            }
            ControlFlow::Continue(())
        })?;
        self.meter.begin(Some(files), Some(bytes));
        Ok(())
    }

    /// Makes `dir` the tree with this root; empty without one.
    pub(super) fn lay_out(&self, dir: &Path, root: Option<Id>) -> Result<(), Error> {
        durable::remove_tree(dir)?;
        fs::create_dir_all(dir).context("create", dir)?;
        let Some(root) = root else {
            return Ok(());
        };
        let place = Place::root(dir).context("open", dir)?;
        let apply = Apply {
            objects: &self.opened()?.objects,
            live: &Live::default(),
            cancel: &Cancel::default(),
            meter: &Meter::default(),
        };
        apply.run(&Pool::new()?, &place, root, |_| ())?;
        Ok(())
    }

    pub(super) fn intent_file(&self) -> PathBuf {
        self.dir.join("restore.json")
    }

    /// Notes the intent before the tree is touched.
    pub(super) fn keep_intent(&self, intent: &Intent) -> Result<(), Error> {
        intent.write(&self.intent_file())?;
        let beside = self.beside_tree.as_ref();
        beside.map_or(Ok(()), |path| intent.write(path))
    }

    /// Forgets it once the tree is whole.
    pub(super) fn forget_intent(&self) -> Result<(), Error> {
        if let Some(path) = &self.beside_tree {
            // What makes it whole must be there before that.
            durable::sync_filesystem(&self.tree)?;
            durable::remove_file(path)?;
        }
        durable::remove_file(&self.intent_file())
    }

    fn intent(&self) -> Result<Intent, Error> {
        match &self.state().work {
            Some(Work::Restore(intent)) => Ok(intent.clone()),
            _ => Err(Error::Unusable("no restore is under way".to_owned())),
        }
    }

    fn restoration(&self, intent: &Intent) -> Restoration {
        Restoration {
            id: intent.id.clone(),
            auto_id: intent.auto_id.clone(),
            components_dir: self.incoming_dir(),
            saved_dir: self.components_dir(),
        }
    }
}
