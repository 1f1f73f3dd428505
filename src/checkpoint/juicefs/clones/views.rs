//! Checkpoints that are mounted, to be read.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::mount::UnmountFlags;

use super::super::super::driver::{Context as _, Error};
use super::super::super::durable;
use super::super::super::store::{is_id, lock};
use super::super::super::volume::is_mounted;
use super::Clones;
use super::programs::Step;

/// So many stay mounted for whoever asks again.
const KEPT: usize = 5;
/// So many of the newest are shown to everybody.
const NEWEST: usize = 5;
/// The name of the link to the one that the environment came from.
const ACTIVE: &str = "active";

/// A checkpoint that is mounted; unmounted when nobody needs it any more.
#[derive(Debug)]
pub struct View {
    root: PathBuf,
}

impl View {
    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether it is mounted still: the component that serves the image unmounts everything when
    /// it goes.
    fn is_there(&self) -> bool {
        is_mounted(&self.root).unwrap_or(false)
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let root = self.root.clone();
        // Whoever needed it last may not wait.
        let thread = std::thread::Builder::new().name("unmount".to_owned());
        if thread.spawn(move || unmount(&root)).is_err() {
            unmount(&self.root);
        }
    }
}

/// Unmounts what is mounted there, and removes the directory.
pub fn unmount(root: &Path) {
    if let Err(error) = rustix::mount::unmount(root, UnmountFlags::NOFOLLOW) {
        tracing::debug!("cannot unmount {} at once: {error}", root.display());
        let _ = rustix::mount::unmount(root, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    }
    let _ = fs::remove_dir(root);
}

/// Makes `link` lead to the checkpoint that the environment came from, at once: whoever looks
/// finds this one or the one before.
fn point(link: &Path, base: Option<&str>) -> Result<(), Error> {
    if fs::read_link(link).ok().as_deref() == base.map(Path::new) {
        return Ok(());
    }
    match base {
        Some(base) => durable::write_link(link, base),
        None => durable::remove_file(link),
    }
}

/// What is mounted.
#[derive(Debug, Default)]
pub struct Views {
    mounted: Mutex<Mounted>,
    /// Held while the newest are mounted.
    showing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Mounted {
    /// The checkpoints that were asked for last, the newest request at the end.
    asked: VecDeque<(String, Arc<View>)>,
    /// Where the newest are shown to everybody.
    at: Option<PathBuf>,
    /// These, by their ids.
    newest: Vec<(String, View)>,
    number: u64,
}

impl Views {
    fn mounted(&self) -> MutexGuard<'_, Mounted> {
        lock(&self.mounted)
    }

    /// Shows the newest at `at` from now on.
    pub fn show_at(&self, at: &Path) -> Result<(), Error> {
        fs::create_dir_all(at).context("create", at)?;
        // The link that a crash kept from its place.
        durable::remove_file(&at.join(ACTIVE).with_extension("tmp"))?;
        for entry in fs::read_dir(at).context("read", at)?.flatten() {
            // A daemon that was killed has left it; what else is there is not ours.
            if entry.file_name().to_str().is_some_and(is_id) {
                unmount(&entry.path());
            }
        }
        self.mounted().at = Some(at.to_owned());
        Ok(())
    }

    /// Unmounts a checkpoint that is to be removed, or whose image is to be mounted otherwise.
    pub fn forget(&self, id: &str) {
        let gone = {
            let mut mounted = self.mounted();
            let all = std::mem::take(&mut mounted.asked);
            let (gone, kept): (VecDeque<_>, _) = all.into_iter().partition(|(it, _)| it == id);
            mounted.asked = kept;
            mounted.newest.retain(|(shown, _)| shown != id);
            gone
        };
        for (_, view) in gone {
            unmount(view.root());
        }
    }

    /// Unmounts everything.
    pub fn close(&self) {
        let Mounted { asked, newest, .. } = std::mem::take(&mut *self.mounted());
        let asked = asked.iter().map(|(_, view)| view.root().to_owned());
        let newest = newest.iter().map(|(_, view)| view.root().to_owned());
        asked.chain(newest).for_each(|root| unmount(&root));
    }
}

impl Clones {
    /// The checkpoint, mounted.
    pub(super) fn view(&self, id: &str) -> Result<Arc<View>, Error> {
        self.check_open()?;
        let number = {
            let mut mounted = self.views.mounted();
            mounted.asked.retain(|(_, view)| view.is_there());
            if let Some(at) = mounted.asked.iter().position(|(asked, _)| asked == id)
                && let Some((id, view)) = mounted.asked.remove(at)
            {
                mounted.asked.push_back((id, Arc::clone(&view)));
                return Ok(view);
            }
            mounted.number += 1;
            mounted.number
        };
        // Two may mount it at the same time: each where it is alone.
        let root = self.volume.views().join(format!("{id}.{number}"));
        let view = Arc::new(self.show(&self.image_of(id), root)?);
        let mut mounted = self.views.mounted();
        mounted.asked.push_back((id.to_owned(), Arc::clone(&view)));
        while mounted.asked.len() > KEPT {
            mounted.asked.pop_front();
        }
        Ok(view)
    }

    fn show(&self, image: &Path, root: PathBuf) -> Result<View, Error> {
        fs::create_dir_all(&root).context("create", &root)?;
        let view = View { root };
        self.step(Step::Show, &[image, &view.root])?;
        Ok(view)
    }

    /// Shows the newest checkpoints to everybody, if that is wanted, and no others.
    pub(super) fn show_newest(&self) {
        let _showing = lock(&self.views.showing);
        let newest: Vec<_> = {
            let state = self.state();
            let newest = state.index.list(false).take(NEWEST);
            newest.map(|manifest| manifest.id).collect()
        };
        let (at, missing) = {
            let mut mounted = self.views.mounted();
            let Some(at) = mounted.at.clone() else { return };
            let is_wanted = |id: &String, view: &View| newest.contains(id) && view.is_there();
            mounted.newest.retain(|(id, view)| is_wanted(id, view));
            let shown: Vec<_> = mounted.newest.iter().map(|(id, _)| id.clone()).collect();
            let missing = newest.into_iter().filter(|id| !shown.contains(id));
            (at, missing.collect::<Vec<_>>())
        };
        for id in missing {
            match self.show(&self.image_of(&id), at.join(&id)) {
                Ok(view) => self.views.mounted().newest.push((id, view)),
                Err(error) => tracing::warn!("checkpoint {id} is not mounted: {error}"),
            }
        }
        let base = self.state().index.base();
        let base = base.filter(|base| at.join(base).exists());
        if let Err(error) = point(&at.join(ACTIVE), base.as_deref()) {
            tracing::warn!("{error}");
        }
    }
}
