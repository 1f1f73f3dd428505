//! The start: reads what there is, here and in the bucket, and mends what crashes left.

use std::fs::File;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::catalog::Catalog;
use super::cipher::Cipher;
use super::frozen::CaptureSource;
use super::live::Live;
use super::log::{Change, Log, Replayed};
use super::objects::{Objects, Source};
use super::{Cancel, FORMAT, Store, Work, directories, lock, remote, stamp};
use crate::checkpoint::driver::{Driver as _, Error, Interrupted};
use crate::checkpoint::intent::Intent;
use crate::config::Storage;

/// So many records are put together into one.
const RECORDS: usize = 1_000;

/// Whether a first start on an empty disk restores the checkpoint of the bucket that the
/// environment was in last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreOnBoot {
    Never,
    /// The tree survives the loss of the machine by itself, and is newer if it is there.
    IfEmpty,
    Always,
}

impl RestoreOnBoot {
    pub fn of(storage: &Storage) -> Self {
        match survives(storage) {
            _ if !storage.restore_on_boot => Self::Never,
            true => Self::IfEmpty,
            false => Self::Always,
        }
    }
}

/// Whether the tree is there without this machine.
pub fn survives(storage: &Storage) -> bool {
    let volume = storage.juicefs.as_ref();
    volume.is_some_and(|volume| volume.blocks.is_some())
}

/// What there is once the store is open.
#[derive(Debug)]
pub struct Opened {
    pub objects: Objects,
    pub log: Log,
    pub granularity: Duration,
    pub source: CaptureSource,
    /// The records of the log that could not be read, for people. As long as there is one, nothing
    /// is removed: they may need it.
    pub lost_records: Vec<String>,
    /// The same of packs, until nothing needs them any more.
    pub lost_packs: Mutex<Vec<String>>,
    /// Holds the lock.
    pub _lock: File,
}

impl Opened {
    /// What could not be read, for people.
    pub fn damaged(&self) -> Vec<String> {
        let packs = lock(&self.lost_packs);
        packs.iter().chain(&self.lost_records).cloned().collect()
    }
}

impl Store {
    pub(super) fn open_store(&self) -> Result<Option<Interrupted>, Error> {
        let cipher = Cipher::new(self.key.as_ref())?;
        let (tree, dir) = (&self.tree, &self.dir);
        let (lock, format) = directories::prepare(tree, self.make_tree, dir, &cipher)?;
        if self.is_carried && tree.is_symlink() {
            return Err(Error::Unusable(format!(
                "storage.dir, {}, is a link on what carries the storage; give the directory that \
                 it leads to",
                tree.display()
            )));
        }
        let log = Log::new(self.dir.join("log"), self.work_dir(), cipher.clone());
        let joined = match &self.remote {
            Some(remote) => remote.open(&self.dir, &log)?,
            None => false,
        };
        let Replayed {
            mut catalog,
            records,
            lost,
        } = log.read()?;
        // A record that is lost may name any of them, and older formats did not name them.
        let is_named = lost.is_empty() && format >= FORMAT;
        let source = self.remote.clone().map(|remote| remote as Arc<dyn Source>);
        let (objects, bad) = Objects::open(
            &self.dir.join("packs"),
            &self.work_dir(),
            is_named.then_some(&catalog.packs),
            source,
            cipher.clone(),
        )?;
        if !is_named {
            catalog.migrate(objects.pack_names());
        }
        for damage in bad.iter().chain(&lost) {
            tracing::error!("{damage}");
        }
        let is_whole = bad.is_empty() && lost.is_empty();
        let _ = self.opened.set(Opened {
            objects,
            log,
            granularity: stamp::granularity(
                &self.dir,
                directories::same_device(&self.tree, &self.dir),
                &self.tree,
            ),
            source: if self.is_scratch {
                CaptureSource::Copy
            } else {
                CaptureSource::best(&self.tree)
            },
            lost_records: lost.iter().map(ToString::to_string).collect(),
            lost_packs: Mutex::new(bad.iter().map(ToString::to_string).collect()),
            _lock: lock,
        });
        self.begin_with(catalog)?;
        if joined {
            self.restore_latest()?;
        }
        if is_whole && (format < FORMAT || records >= RECORDS) {
            self.shorten_log()?;
            directories::mark(&self.dir, &cipher)?;
        }
        if is_whole {
            self.remove_strangers()?;
        }
        if let Some(remote) = &self.remote {
            remote::start(remote);
        }
        Ok(match &self.state().work {
            Some(Work::Restore(intent)) if intent.rolling_back => Some(Interrupted::RollBack),
            Some(Work::Restore(_)) => Some(Interrupted::Restore),
            _ => None,
        })
    }

    /// Takes what the log says as the truth.
    fn begin_with(&self, catalog: Catalog) -> Result<(), Error> {
        let intent = Intent::read(&self.intent_file())?;
        if let Some(remote) = &self.remote {
            remote.name_packs(&catalog.packs);
        }
        let mut state = self.state();
        // After a restore that was cut off, files may have new bytes and old times.
        if intent.is_none()
            && let Some((live, root)) = Live::recall(&self.live_file())
            && catalog.roots().contains(&root)
        {
            state.live = Arc::new(live);
            state.captured = Some(root);
        }
        state.catalog = catalog;
        state.work = intent.map(Work::Restore);
        Ok(())
    }

    /// On an empty disk: sees to it that the newest checkpoint of the bucket is restored
    /// before anything runs.
    fn restore_latest(&self) -> Result<(), Error> {
        let is_wanted = match self.restore_on_boot {
            RestoreOnBoot::Never => false,
            RestoreOnBoot::IfEmpty => !directories::is_used(&self.tree)?,
            RestoreOnBoot::Always => true,
        };
        // A machine that was lost in the middle of a restore has left a tree that is neither.
        let begun = self.beside_tree.as_ref().map(|path| Intent::read(path));
        let begun = begun.transpose()?.flatten();
        let latest = match &begun {
            Some(begun) if begun.rolling_back => self.find(&begun.auto_id).ok(),
            Some(begun) => self.find(&begun.id).ok(),
            None => None,
        };
        let latest = latest.or_else(|| self.state().catalog.latest());
        if let Some(latest) = latest.filter(|_| is_wanted || begun.is_some()) {
            tracing::info!(
                "there are no checkpoints on this machine; {} of the bucket, of {}, is restored",
                latest.id,
                latest.create_time
            );
            let roots: Vec<_> = latest.roots().collect();
            // All of it, before it is promised.
            self.bring_here(&roots, &Cancel::default())?;
            let intent = Intent {
                is_first_start: true,
                ..Intent::of(&latest.id)
            };
            self.keep_intent(&intent)?;
            self.state().work = Some(Work::Restore(intent));
        }
        self.remote
            .as_ref()
            .map_or(Ok(()), |remote| remote.set_joined())
    }

    /// Puts the records together into one. Those before it go; with a bucket, once it has
    /// the new one.
    fn shorten_log(&self) -> Result<(), Error> {
        let catalog = Box::new(self.state().catalog.clone());
        let sequence = catalog.next;
        self.record(Change::Summary { catalog })?;
        if self.remote.is_none() {
            self.opened()?.log.remove_before(sequence)?;
        }
        Ok(())
    }

    /// Removes packs that no record names.
    fn remove_strangers(&self) -> Result<(), Error> {
        let objects = &self.opened()?.objects;
        let strangers = objects.strangers()?;
        match &self.remote {
            Some(remote) => remote.leave(strangers),
            None => objects.remove_files(&strangers)?,
        }
        Ok(())
    }
}
