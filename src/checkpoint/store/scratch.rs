//! A store for one archive, for drivers whose checkpoints are no trees of objects.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use super::{Store, Work};
use crate::checkpoint::driver::{Cancel, Driver as _, Error};
use crate::checkpoint::manifest::Manifest;
use crate::config::DirtyTracking;

/// What an archive had.
#[derive(Debug)]
pub struct TakenIn {
    /// What is known of it. Its trees are in the store.
    pub manifest: Manifest,
    store: Store,
}

impl Store {
    /// Of `tree`, in the empty directory `dir`.
    fn scratch(tree: &Path, dir: &Path) -> Result<Self, Error> {
        let store = Self {
            dirty_tracking: DirtyTracking::Off,
            is_scratch: true,
            ..Self::plain(tree.to_owned(), dir.to_owned())
        };
        store.open_store()?;
        Ok(store)
    }
}

/// Writes the checkpoint `about` as an archive: its tree is at `tree`, what components kept at
/// `components`, and nobody changes either. `scratch`, an empty directory, is used meanwhile.
pub fn export_tree(
    about: &Manifest,
    [tree, components]: [&Path; 2],
    scratch: &Path,
    to: &mut dyn Write,
) -> Result<(), Error> {
    let store = Store::scratch(tree, scratch)?;
    let cancel = Cancel::default();
    store.begin(None, false)?;
    if let Some(Work::Checkpoint(making)) = &mut store.state().work {
        making.take_components(components);
    }
    store.pre_copy(&cancel)?;
    store.capture(None, &cancel)?;
    let sealed = store.seal_checkpoint()?;
    let manifest = Manifest {
        root: sealed.root,
        components: sealed.components,
        skipped: sealed.skipped,
        ..about.clone()
    };
    super::archive::export(&store.opened()?.objects, &manifest, to)
}

/// Reads an archive into `scratch`, an empty directory. `tree` is an empty directory on the
/// filesystem that it is for.
pub fn take_in(archive: File, tree: &Path, scratch: &Path) -> Result<TakenIn, Error> {
    let store = Store::scratch(tree, scratch)?;
    let manifest = store.import(archive, None)?;
    Ok(TakenIn { manifest, store })
}

impl TakenIn {
    /// Makes `components` what components kept, and the empty tree that of the archive.
    pub fn lay_out(&self, components: &Path) -> Result<(), Error> {
        let Manifest { id, .. } = &self.manifest;
        self.store.lay_out(components, self.manifest.components)?;
        self.store.fetch(id, &Cancel::default())?;
        self.store.swap()?;
        self.store.verify()
    }
}
