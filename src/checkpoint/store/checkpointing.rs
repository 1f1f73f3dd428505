//! The steps of a checkpoint.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::frozen::CaptureSource;
use super::live::Live;
use super::log::Change;
use super::look::Look;
use super::nodes::{self, Summary};
use super::objects::Encoder;
use super::place::Place;
use super::pool::Pool;
use super::scan::{self, Hints, LargeFiles, Scan, Scanned};
use super::walking::told;
use super::watch::Watch;
use super::{Id, Store, Work, lock};
use crate::checkpoint::driver::{Cancel, Context as _, Draft, Error};
use crate::checkpoint::manifest::{Manifest, automatic_id};
use crate::checkpoint::{durable, mapped, open_files};
use crate::clock::now;

/// A pass that took longer is followed by another before everything is held: what
/// changed meanwhile is then read while everything still runs.
const LONG_PASS: Duration = Duration::from_millis(300);
/// So many passes are enough: somebody writes faster than we read.
const PASSES: usize = 4;

/// A checkpoint in the making.
#[derive(Debug)]
pub struct Making {
    draft: Draft,
    comment: Option<String>,
    /// Whether it is made only if something has changed.
    automatic: bool,
    /// What the last walk has found.
    scanned: Option<Scanned>,
    /// Told of what has changed since that walk began.
    watch: Option<Watch>,
    /// When the instant was.
    time: String,
    /// Files whose stamps tell nothing, as there were when the instant was.
    pub distrusted: HashSet<u64>,
    /// Whether it is a snapshot that is still to be read.
    pub is_snapshot: bool,
    /// The directories in which something has changed from the last walk to the snapshot; none
    /// if that is not known.
    pub changed: Option<HashSet<u64>>,
    /// The files that were open for writing then: not all changes to them are told.
    pub open: HashSet<u64>,
}

impl Making {
    /// Takes what is in this directory for what components kept.
    pub fn take_components(&mut self, dir: &Path) {
        dir.clone_into(&mut self.draft.components_dir);
    }
}

impl Store {
    pub(super) fn begin_checkpoint(
        &self,
        comment: Option<String>,
        automatic: bool,
    ) -> Result<Draft, Error> {
        self.check_owner()?;
        self.check_importing()?;
        let _collecting = self.hold_collections();
        let components_dir = self.components_dir();
        fs::create_dir_all(&components_dir).context("create", &components_dir)?;
        let mut state = self.state();
        let draft = Draft {
            id: if automatic {
                automatic_id()
            } else {
                format!("v{}", state.catalog.take_number())
            },
            components_dir,
        };
        state.work = Some(Work::Checkpoint(Box::new(Making {
            draft: draft.clone(),
            comment,
            automatic,
            scanned: None,
            watch: None,
            time: String::new(),
            distrusted: HashSet::new(),
            is_snapshot: false,
            changed: None,
            open: HashSet::new(),
        })));
        Ok(draft)
    }

    /// Fails if somebody has taken the bucket over.
    pub(super) fn check_owner(&self) -> Result<(), Error> {
        let fenced = self.remote.as_ref().and_then(|remote| remote.fenced());
        fenced.map_or(Ok(()), |why| Err(Error::Fenced(why)))
    }

    /// Fails if an import is under way: nobody waits for one, which may take minutes.
    pub(super) fn check_importing(&self) -> Result<(), Error> {
        match self.state().work {
            Some(Work::Import) => Err(Error::Busy("an import")),
            _ => Ok(()),
        }
    }

    /// Reads what has changed while everything runs.
    pub(super) fn capture_running(&self, cancel: &Cancel) -> Result<(), Error> {
        // From here on a store to a page that is mapped shared makes it dirty anew, and
        // that shows in the file's times.
        let synced = scan::now();
        durable::sync_filesystem(&self.tree)?;
        let opened = self.opened()?;
        let large = match &opened.source {
            CaptureSource::Snapshot(_) => LargeFiles::Leave,
            CaptureSource::Clones(aside) => LargeFiles::Clone(aside),
            CaptureSource::Copy => LargeFiles::Read,
        };
        let pool = Pool::new()?;
        let root = self.root()?;
        let mut scanned = self.known();
        let mut watch = self.tracked();
        for _ in 0..PASSES {
            let begun = Instant::now();
            let hints = Hints {
                open: self.open_files(watch.as_ref(), None)?,
                ..Hints::after(&scanned)
            };
            let look = Look {
                large,
                meter: &self.meter,
                ..Look::new(&hints, cancel)
            };
            scanned = if let Some(changed) = told(watch.as_mut()) {
                // What was mapped may have been written to since.
                let doubtful = scanned.live.doubtful(&pool);
                self.pass_over(&pool, scanned, &changed, doubtful, &look)?
            } else {
                // There was none, or more has changed than the kernel keeps.
                if let Some(lost) = std::mem::replace(&mut watch, Watch::begin(&root)) {
                    lost.end();
                }
                self.pass(&pool, scanned, &look)?
            };
            if begun.elapsed() < LONG_PASS {
                break;
            }
        }
        scanned.live.synced = synced;
        if let Some(Work::Checkpoint(making)) = &mut self.state().work {
            making.scanned = Some(scanned);
            making.watch = watch;
        }
        Ok(())
    }

    /// The files that one of `processes` (none = any but this one) has open for writing; none
    /// without a watch, since everything is looked at then.
    fn open_files(
        &self,
        watch: Option<&Watch>,
        processes: Option<&[i32]>,
    ) -> Result<HashSet<u64>, Error> {
        if watch.is_none() {
            return Ok(HashSet::new());
        }
        let looks = fs::metadata(&self.tree).context("look at", &self.tree)?;
        Ok(open_files::inodes(processes, looks.dev()))
    }

    /// Reads what has changed since, while nothing else runs.
    pub(super) fn capture_held(&self, held: Option<&[i32]>, cancel: &Cancel) -> Result<(), Error> {
        let (scanned, mut watch) = match &mut self.state().work {
            Some(Work::Checkpoint(making)) => (making.scanned.take(), making.watch.take()),
            _ => (None, None),
        };
        let time = now();
        let hints = Hints {
            distrusted: mapped::inodes(held),
            open: self.open_files(watch.as_ref(), held)?,
            ..scanned.as_ref().map(Hints::after).unwrap_or_default()
        };
        let opened = self.opened()?;
        let (mut changed, mut is_snapshot) = (None, false);
        let scanned = if let CaptureSource::Snapshot(aside) = &opened.source {
            // The kernel tells of each change before whoever makes it goes on.
            changed = told(watch.as_mut());
            let taken = aside.snapshot(&self.tree);
            taken.context("take a snapshot of", &self.tree)?;
            is_snapshot = true;
            scanned
        } else {
            let large = match &opened.source {
                CaptureSource::Clones(aside) => LargeFiles::Clone(aside),
                _ => LargeFiles::Read,
            };
            let look = Look {
                large,
                ..Look::new(&hints, cancel)
            };
            opened.objects.hold();
            let pool = Pool::new()?;
            Some(match scanned {
                Some(scanned) => self.catch_up(&pool, scanned, watch.as_mut(), &look)?,
                None => self.pass(&pool, self.known(), &look)?,
            })
        };
        if let Some(Work::Checkpoint(making)) = &mut self.state().work {
            making.scanned = scanned;
            // Ending it takes the kernel a while: not now.
            making.watch = watch;
            making.time = time;
            making.distrusted = hints.distrusted;
            making.is_snapshot = is_snapshot;
            making.changed = changed;
            making.open = hints.open;
        }
        Ok(())
    }

    pub(super) fn seal_checkpoint(&self) -> Result<Manifest, Error> {
        // Nothing that it needs may be removed before its record names it.
        let _collecting = lock(&self.collecting);
        let Some(Work::Checkpoint(mut making)) = self.state().work.take() else {
            return Err(Error::Unusable("no checkpoint is under way".to_owned()));
        };
        let objects = &self.opened()?.objects;
        objects.release(&mut Encoder::default())?;
        let scanned = making.scanned.take().unwrap_or_else(|| self.known());
        let mut scanned = self.read_frozen(scanned, &making)?;
        let manifest = Manifest {
            comment: making.comment.take(),
            is_auto: making.automatic,
            ..self.unsealed(making.draft.id.clone(), making.time.clone())
        };
        let manifest = self.store_trees(
            manifest,
            &mut scanned,
            &making.draft.components_dir,
            &Pool::new()?,
        )?;
        let latest = manifest.is_auto.then(|| self.state().catalog.latest());
        let same = latest
            .flatten()
            .filter(|latest| latest.roots().eq(manifest.roots()));
        let sealed = if let Some(same) = same {
            objects.abandon();
            same
        } else {
            self.seal(manifest)?
        };
        self.keep_frozen(&scanned, &making);
        self.track(making.watch.take());
        self.set_live(scanned.live, sealed.root);
        self.keep_live();
        super::directories::empty(&self.work_dir())?;
        Ok(sealed)
    }

    /// Stores the nodes of the tree and of what components kept, and enters them into
    /// `manifest`.
    pub(super) fn store_trees(
        &self,
        mut manifest: Manifest,
        scanned: &mut Scanned,
        components: &Path,
        pool: &Pool,
    ) -> Result<Manifest, Error> {
        manifest.root = nodes::store(scanned, &self.opened()?.objects, pool)?;
        let Summary {
            entries,
            bytes,
            skipped,
        } = nodes::summary(&scanned.live, pool);
        (manifest.entries, manifest.bytes, manifest.skipped) = (entries, bytes, skipped);
        manifest.components = self.store_components(components, pool)?;
        Ok(manifest)
    }

    /// Makes a checkpoint exist whose trees are stored: all objects on stable storage, then
    /// the record.
    pub(super) fn seal(&self, manifest: Manifest) -> Result<Manifest, Error> {
        self.opened()?.objects.finish()?;
        let id = manifest.id.clone();
        let packs = self.unnamed_packs()?;
        self.record(Change::Checkpoint {
            manifest: Box::new(manifest),
            packs,
        })?;
        self.state().catalog.find(&id)
    }

    /// Stores what components wanted kept; none if there is nothing.
    fn store_components(&self, dir: &Path, pool: &Pool) -> Result<Option<Id>, Error> {
        let mut kept = fs::read_dir(dir).context("read", dir)?;
        if kept.next().is_none() {
            return Ok(None);
        }
        let place = Place::root(dir).context("open", dir)?;
        let objects = &self.opened()?.objects;
        let mut scanned = Scan {
            objects,
            previous: &Live::default(),
            granularity: Duration::ZERO,
            look: Look::new(&Hints::default(), &Cancel::default()),
        }
        .run(pool, &place)?;
        nodes::store(&mut scanned, objects, pool).map(Some)
    }

    /// A checkpoint of the live tree before it is sealed: nothing is known of its content.
    pub(super) fn unsealed(&self, id: String, create_time: String) -> Manifest {
        Manifest {
            source_id: self.state().catalog.base().map(ToOwned::to_owned),
            ..Manifest::new(id, create_time)
        }
    }
}
