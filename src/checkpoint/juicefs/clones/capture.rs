//! The steps of a checkpoint.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::super::super::driver::{Cancel, Change, Context as _, Draft, Error};
use super::super::super::durable;
use super::super::super::manifest::{Manifest, automatic_id};
use super::cloner::Cloner;
use super::frozen::Frozen;
use super::{COMPONENTS, Clones, IMAGE, Work, diff};
use crate::clock::now;

/// What takes longer to write is followed by another pass before everything is held.
const LONG_PASS: Duration = Duration::from_millis(100);
/// So many passes are enough: somebody writes faster than the volume does.
const PASSES: usize = 4;
/// So many inodes of ext4 are never anybody's.
const RESERVED: u64 = 10;
/// The name of what is not a checkpoint yet, in the place of its id.
pub const MAKING: &str = ".making";

/// A checkpoint in the making.
#[derive(Clone, Debug)]
pub struct Making {
    draft: Draft,
    comment: Option<String>,
    /// Whether it is made only if something has changed.
    automatic: bool,
    /// When the instant was.
    time: String,
    /// How many entries and bytes there were.
    used: Used,
}

/// How much a filesystem has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub entries: u64,
    pub bytes: u64,
}

impl Used {
    /// That of the filesystem that is mounted at `root`.
    pub fn of(root: &Path) -> Result<Self, Error> {
        let found = rustix::fs::statvfs(root).context("look at", root)?;
        let inodes = found.f_files.saturating_sub(found.f_ffree);
        let blocks = found.f_blocks.saturating_sub(found.f_bfree);
        Ok(Self {
            entries: inodes.saturating_sub(RESERVED),
            bytes: blocks * found.f_frsize,
        })
    }
}

/// Makes a directory that components with users of their own can come through, but not see.
pub fn make_passable(dir: &Path) -> Result<(), Error> {
    fs::create_dir(dir).context("create", dir)?;
    open_passage(dir)
}

/// Lets them through one that was kept from others.
pub fn open_passage(dir: &Path) -> Result<(), Error> {
    let permissions = fs::Permissions::from_mode(0o711);
    fs::set_permissions(dir, permissions).context("let components into", dir)
}

/// Makes a directory that nobody else can look into, if it is not there.
pub fn make_private(dir: &Path) -> Result<(), Error> {
    fs::create_dir_all(dir).context("create", dir)?;
    keep_private(dir)
}

/// Keeps others out of a directory: what was removed from the environment may be in it.
pub fn keep_private(dir: &Path) -> Result<(), Error> {
    let permissions = fs::Permissions::from_mode(0o700);
    fs::set_permissions(dir, permissions).context("keep others out of", dir)
}

impl Clones {
    pub(super) fn begin_checkpoint(
        &self,
        comment: Option<String>,
        automatic: bool,
    ) -> Result<Draft, Error> {
        let components_dir = self.making_dir().join(COMPONENTS);
        let mut draft = Draft {
            id: automatic_id(),
            components_dir: components_dir.clone(),
        };
        self.begin_work(|index| {
            if !automatic {
                draft.id = format!("v{}", index.take_number());
            }
            Work::Checkpoint(Making {
                draft: draft.clone(),
                comment,
                automatic,
                time: String::new(),
                used: Used::default(),
            })
        })?;
        self.clear()?;
        make_passable(&self.making_dir())?;
        fs::create_dir_all(&components_dir).context("create", &components_dir)?;
        Ok(draft)
    }

    /// Writes what waits to be written, while everything runs: what is in the image to the volume,
    /// and at the same time what the volume has put on this machine's disk, which would else hold
    /// up those who write to the volume when everything waits for them.
    pub(super) fn flush_running(&self, cancel: &Cancel) -> Result<(), Error> {
        for _ in 0..PASSES {
            cancel.check()?;
            if self.flush_once()? < LONG_PASS {
                break;
            }
        }
        Ok(())
    }

    /// One pass; how long the image took. That the disk below cannot be flushed is an error too: the
    /// kernel tells it once, and whoever flushes later would not hear of it.
    fn flush_once(&self) -> Result<Duration, Error> {
        let tree = self.volume.tree();
        let begun = Instant::now();
        let (disk, image) = durable::flush_meanwhile(
            || self.flush(),
            || durable::sync_filesystem(&tree).map(|()| begun.elapsed()),
        );
        tracing::debug!(?image, all = ?begun.elapsed(), "flushed");
        disk.and(image)
    }

    /// Takes the instant: holds the filesystem and clones its image.
    pub(super) fn take(&self, held: Option<&[i32]>, cancel: &Cancel) -> Result<(), Error> {
        let tree = self.volume.tree();
        let juicefs = Cloner::on(&self.volume);
        let time = now();
        let begun = Instant::now();
        let frozen = Frozen::freeze(&tree)?;
        let flushed = begun.elapsed();
        let (from, to) = (self.volume.image_file(), self.making_dir().join(IMAGE));
        let cloned = juicefs.clone_image(&from, &to, cancel);
        let used = Used::of(&tree);
        if !frozen.thaw() {
            return Err(Error::Unusable(
                "the clone took so long that what was held for it was let go".to_owned(),
            ));
        }
        cloned?;
        let cloned = begun.elapsed().saturating_sub(flushed);
        tracing::debug!(held = held.map(<[i32]>::len), ?flushed, ?cloned, "taken");
        let used = used?;
        if let Some(Work::Checkpoint(making)) = &mut self.state().work {
            making.time = time;
            making.used = used;
        }
        Ok(())
    }

    pub(super) fn seal_checkpoint(&self) -> Result<Manifest, Error> {
        let making = match &self.state().work {
            Some(Work::Checkpoint(making)) => making.clone(),
            _ => return Err(Error::Unusable("no checkpoint is under way".to_owned())),
        };
        let latest = self.state().index.latest().filter(|_| making.automatic);
        let same = latest.filter(|latest| {
            self.is_same(latest).unwrap_or_else(|error| {
                tracing::warn!("{} cannot be compared with: {error}", latest.id);
                false
            })
        });
        let sealed = match same {
            Some(same) => {
                self.clear()?;
                same
            }
            None => self.seal_made(making)?,
        };
        // Until now nothing else may begin.
        self.state().work = None;
        Ok(sealed)
    }

    fn seal_made(&self, making: Making) -> Result<Manifest, Error> {
        let dir = self.making_dir();
        flush_files(&dir.join(COMPONENTS))?;
        let manifest = Manifest {
            source_id: self.state().index.base(),
            comment: making.comment,
            is_auto: making.automatic,
            entries: making.used.entries,
            bytes: making.used.bytes,
            ..Manifest::new(making.draft.id, making.time)
        };
        self.seal(&dir, manifest)
    }

    /// Whether what was taken is what a checkpoint has already.
    fn is_same(&self, checkpoint: &Manifest) -> Result<bool, Error> {
        let dir = self.making_dir();
        let (before, taken) = (self.view(&checkpoint.id)?, self.view(MAKING)?);
        // What overlayfs has for itself changes with each mount.
        let root = |root: &Path| match &self.volume.overlay {
            Some(_) => root.join("upper"),
            None => root.to_owned(),
        };
        let roots = (root(before.root()), root(taken.root()));
        let (found, _) = diff::differences(&roots.0, &roots.1, 1)?;
        if !found.is_empty() {
            return Ok(false);
        }
        let kept = self.dir_of(&checkpoint.id).join(COMPONENTS);
        let (found, _) = diff::differences(&kept, &dir.join(COMPONENTS), usize::MAX)?;
        // Their directories are made anew each time.
        Ok(found.iter().all(|it| it.change == Change::Metadata))
    }
}

/// Makes what components have written durable: JuiceFS does not when it is asked for a whole
/// filesystem.
pub fn flush_files(dir: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(dir).context("read", dir)? {
        let entry = entry.context("read", dir)?;
        let (path, kind) = (entry.path(), entry.file_type());
        let kind = kind.context("look at", &path)?;
        if kind.is_dir() {
            flush_files(&path)?;
        } else if kind.is_file() {
            let flushed = fs::File::open(&path).and_then(|file| file.sync_all());
            flushed.context("flush", &path)?;
        }
    }
    durable::sync_directory(dir)
}
