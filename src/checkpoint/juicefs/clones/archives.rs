//! Checkpoints as archives: read into a store for this alone, which knows how.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use rustix::mount::UnmountFlags;
use tempfile::TempDir;

use super::super::super::driver::{Context as _, Error};
use super::super::super::durable;
use super::super::super::manifest::Manifest;
use super::super::super::store::{export_tree, take_in};
use super::capture::{Used, flush_files, make_passable};
use super::programs::Step;
use super::{COMPONENTS, Clones, IMAGE, Work};

impl Clones {
    pub(super) fn export_archive(
        &self,
        manifest: &Manifest,
        to: &mut dyn Write,
    ) -> Result<(), Error> {
        let view = self.view(&manifest.id)?;
        let components = self.dir_of(&manifest.id).join(COMPONENTS);
        let scratch = self.scratch()?;
        export_tree(manifest, [view.root(), &components], scratch.path(), to)
    }

    /// Makes a checkpoint of an archive. Nothing else begins meanwhile.
    pub(super) fn import_archive(
        &self,
        archive: File,
        comment: Option<String>,
    ) -> Result<Manifest, Error> {
        self.begin_work(|_| Work::Import)?;
        let imported = self.take_in(archive, comment);
        if imported.is_err()
            && let Err(error) = self.clear()
        {
            tracing::warn!("{error}");
        }
        self.state().work = None;
        imported
    }

    fn take_in(&self, archive: File, comment: Option<String>) -> Result<Manifest, Error> {
        self.clear()?;
        let (making, scratch) = (self.making_dir(), self.scratch()?);
        make_passable(&making)?;
        let root = self.volume.views().join("import");
        fs::create_dir_all(&root).context("create", &root)?;
        let taken = self.fill(archive, &root, scratch.path());
        // Nothing is to write to it from now on.
        let unmounted = rustix::mount::unmount(&root, UnmountFlags::empty());
        if unmounted.is_err() {
            let _ = rustix::mount::unmount(&root, UnmountFlags::DETACH);
        }
        let (manifest, used) = taken?;
        unmounted.context("unmount", &root)?;
        let manifest = Manifest {
            comment: comment.or(manifest.comment),
            imported: true,
            entries: used.entries,
            bytes: used.bytes,
            skipped: manifest.skipped,
            ..Manifest::new(
                format!("v{}", self.state().index.take_number()),
                manifest.create_time,
            )
        };
        self.seal(&making, manifest)
    }

    /// Makes a new image, mounts it at `root` and makes it what the archive has.
    fn fill(&self, archive: File, root: &Path, scratch: &Path) -> Result<(Manifest, Used), Error> {
        let making = self.making_dir();
        self.step(Step::Blank, &[&making.join(IMAGE), root])?;
        let taken = take_in(archive, root, scratch)?;
        let components = making.join(COMPONENTS);
        taken.lay_out(&components)?;
        flush_files(&components)?;
        durable::sync_filesystem(root)?;
        Ok((taken.manifest, Used::of(root)?))
    }

    /// A directory for one archive; gone when this is dropped.
    fn scratch(&self) -> Result<TempDir, Error> {
        let dir = self.scratch_dir();
        tempfile::tempdir_in(&dir).context("create a directory in", &dir)
    }
}
