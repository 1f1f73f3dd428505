//! A restore in place: makes the live tree into another by touching only what differs.
//!
//! Everything can be done again: cut off anywhere, a new plan from a new look at the tree
//! goes on. First directories and files, then further names of files, then removals, and
//! last what directories themselves look like.

mod entry;
mod file;
mod metadata;
mod remove;

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use rustix::fs::{self as sys, AtFlags};

use super::super::driver::{Cancel, Context as _, Error};
use super::super::meter::Meter;
use super::id::Id;
use super::live::{Directory, Live};
use super::lock;
use super::node::{self, Kind};
use super::objects::{Decoder, Objects};
use super::place::Place;
use super::plan::{self, Plan, Planner, Spot};
use super::pool::{Pool, Workers};

/// What is known of a file that was written: it need not be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its length.
    pub size: u64,
    /// Its content.
    pub content: Id,
    /// Its number, if it has several names.
    pub group: Option<u64>,
}

/// What a restore has done.
#[derive(Debug, Default)]
pub struct Applied {
    /// The files that were written, by inode number.
    pub written: HashMap<u64, Written>,
    /// What could not be restored, and why.
    pub notes: Vec<String>,
}

/// What a restore works with.
#[derive(Clone, Copy, Debug)]
pub struct Apply<'a> {
    /// Where content comes from.
    pub objects: &'a Objects,
    /// The tree as it is.
    pub live: &'a Live,
    /// Ends it early.
    pub cancel: &'a Cancel,
    /// Counts the files that were written, and their bytes.
    pub meter: &'a Meter,
}

/// A restore under way.
struct Work<'a> {
    apply: Apply<'a>,
    plan: &'a Plan,
    root: &'a Place,
    /// Where each visited directory is, once it is there.
    places: Vec<OnceLock<Place>>,
    decoders: Workers<Decoder>,
    /// How many lists of blocks of large files no thread has begun with.
    waiting: AtomicUsize,
    /// Names that are to become links to the anchor of their group.
    links: Mutex<Vec<(usize, CString, u64)>>,
    /// Entries that are to go.
    removals: Mutex<Vec<(usize, CString)>>,
    applied: Mutex<Applied>,
    failure: OnceLock<Error>,
}

impl Apply<'_> {
    /// Makes the tree at `root` into that whose root is the only entry of the node
    /// `target`. Before anything is done, `planned` is told in how many directories something
    /// is to be done.
    pub fn run(
        self,
        pool: &Pool,
        root: &Place,
        target: Id,
        planned: impl FnOnce(usize),
    ) -> Result<Applied, Error> {
        let mut decoder = Decoder::default();
        let bytes = self.objects.get(&mut decoder, &target)?.to_vec();
        let (entry, node) = root_of(&bytes, target)?;
        let plan = Planner::plan(self.objects, self.live, node)?;
        planned(plan.visits.len());
        let work = Work {
            apply: self,
            plan: &plan,
            root,
            places: plan.visits.iter().map(|_| OnceLock::new()).collect(),
            decoders: pool.workers(Decoder::default),
            waiting: AtomicUsize::new(0),
            links: Mutex::default(),
            removals: Mutex::default(),
            applied: Mutex::default(),
            failure: OnceLock::new(),
        };
        let done = work.all(pool, &entry);
        let failure = work.failure.into_inner();
        let applied = work
            .applied
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        match failure {
            Some(error) => Err(error),
            None => done.map(|()| applied),
        }
    }
}

/// The root that is the only entry of `node`, which is the object `id`, and its own node.
pub fn root_of(node: &[u8], id: Id) -> Result<(node::Entry<'_>, Id), Error> {
    let mut entries = plan::decode(node, &id)?;
    match (entries.pop(), entries.is_empty()) {
        (Some(entry), true) => match entry.kind {
            Kind::Directory { node } => Ok((entry, node)),
            _ => Err(Error::Unusable(format!("the root {id} is no directory"))),
        },
        _ => Err(Error::Unusable(format!("the node {id} is no root"))),
    }
}

impl Work<'_> {
    fn all(&self, pool: &Pool, root: &node::Entry) -> Result<(), Error> {
        if !self.plan.visits.is_empty() {
            let place = self.root.clone();
            pool.scope(|scope| self.visit(scope, 0, place));
            self.check()?;
            self.link_names()?;
            pool.scope(|scope| self.remove_all(scope));
            self.check()?;
            self.finish_directories(pool)?;
        }
        let fd = self.root.open().context("open", &self.root.full())?;
        // What was done in it has changed its times.
        let untouched = self.plan.visits.is_empty();
        let known = self.apply.live.root.as_ref().filter(|_| untouched);
        self.metadata(fd.as_fd(), c".", root, known, &self.root.full())
    }

    fn check(&self) -> Result<(), Error> {
        self.apply.cancel.check()?;
        match self.failure.get() {
            // The true one is returned in the end.
            Some(error) => Err(Error::Unusable(error.to_string())),
            None => Ok(()),
        }
    }

    fn fail(&self, error: Error) {
        let _ = self.failure.set(error);
    }

    fn live_directory(&self, index: usize) -> Option<&Arc<Directory>> {
        let number = self.plan.visits.get(index)?.live?;
        self.apply.live.directory(number)
    }

    fn visit<'s>(&'s self, scope: &rayon::Scope<'s>, index: usize, place: Place) {
        if self.failure.get().is_some() {
            return;
        }
        if let Err(error) = self.directory(scope, index, place) {
            self.fail(error);
        }
    }

    /// Makes the entries of a directory what they must be.
    fn directory<'s>(
        &'s self,
        scope: &rayon::Scope<'s>,
        index: usize,
        place: Place,
    ) -> Result<(), Error> {
        self.apply.cancel.check()?;
        let Some(visit) = self.plan.visits.get(index) else {
            return Ok(());
        };
        let fd = Arc::new(metadata::open_to_change(&place)?);
        let directory = self.live_directory(index).map(AsRef::as_ref);
        let target = plan::decode(&visit.node, &place.full().display())?;
        let mut name = Vec::new();
        for wanted in &target {
            let name = plan::c_name(wanted.name, &mut name)?;
            let known = plan::known(directory, wanted.name);
            let spot = entry::Spot {
                index,
                above: &place,
                fd: &fd,
                name,
            };
            self.entry(scope, &spot, wanted, known)?;
        }
        let named = directory.into_iter().flat_map(Directory::named);
        let gone = named.filter(|(name, _)| {
            target
                .binary_search_by(|entry| entry.name.cmp(name))
                .is_err()
        });
        let gone = gone.map(|(name, _)| (index, CString::new(name).unwrap_or_default()));
        lock(&self.removals).extend(gone);
        for child in visit.children.clone() {
            let name = self
                .plan
                .visits
                .get(child)
                .map_or(&[][..], |child| &child.name);
            let place = place.child(name).context("open", &place.full_of(name))?;
            scope.spawn(move |scope| self.visit(scope, child, place));
        }
        if let Some(slot) = self.places.get(index) {
            let _ = slot.set(place);
        }
        Ok(())
    }

    /// The directory that is visited as number `index`.
    fn place(&self, index: usize) -> Result<&Place, Error> {
        let place = self.places.get(index).and_then(OnceLock::get);
        place.ok_or_else(|| Error::Unusable("a directory was not visited".to_owned()))
    }

    /// Makes further names of files links to the first.
    fn link_names(&self) -> Result<(), Error> {
        let links = std::mem::take(&mut *lock(&self.links));
        for (index, name, group) in links {
            self.apply.cancel.check()?;
            let place = self.place(index)?;
            let path = || place.full_of(name.to_bytes());
            let (from, from_name) = match self.plan.anchors.get(&group) {
                Some(Spot::Visited(index, name)) => (self.place(*index)?.clone(), name),
                Some(Spot::Kept(number, name)) => (self.kept_place(*number)?, name),
                None => return Err(Error::Unusable("a file without a first name".to_owned())),
            };
            let mut buffer = Vec::new();
            let from_name = plan::c_name(from_name, &mut buffer)?;
            let from: OwnedFd = from.open().context("open", &from.full())?;
            let to = place.open().context("open", &place.full())?;
            match sys::unlinkat(&to, &*name, AtFlags::empty()) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error).context("remove", &path()),
            }
            sys::linkat(&from, from_name, &to, &*name, AtFlags::empty())
                .context("link", &path())?;
        }
        Ok(())
    }

    /// The place of a directory that stays as it is.
    fn kept_place(&self, number: u32) -> Result<Place, Error> {
        let names = self.apply.live.names_to(number);
        let names =
            names.ok_or_else(|| Error::Unusable("a directory without a name".to_owned()))?;
        let mut place = self.root.clone();
        for name in names.iter().rev() {
            place = place.child(name).context("open", &place.full_of(name))?;
        }
        Ok(place)
    }

    /// Gives the visited directories their looks; innermost first, so that they can still
    /// be reached.
    fn finish_directories(&self, pool: &Pool) -> Result<(), Error> {
        let mut levels = self.plan.levels();
        while let Some(level) = levels.pop() {
            pool.run(|| {
                let visits = level.into_par_iter();
                visits.try_for_each(|index| self.finish_in(index))
            })?;
        }
        Ok(())
    }

    /// Gives the visited directories in a visited one their looks.
    fn finish_in(&self, index: usize) -> Result<(), Error> {
        let Some(visit) = self.plan.visits.get(index) else {
            return Ok(());
        };
        let Some(children) = self.plan.visits.get(visit.children.clone()) else {
            return Ok(());
        };
        if children.is_empty() {
            return Ok(());
        }
        let place = self.place(index)?;
        let target = plan::decode(&visit.node, &place.full().display())?;
        let fd = place.open().context("open", &place.full())?;
        for child in children {
            let found = target.binary_search_by(|entry| entry.name.cmp(&child.name));
            let Some(wanted) = found.ok().and_then(|found| target.get(found)) else {
                continue;
            };
            let mut buffer = Vec::new();
            let name = plan::c_name(wanted.name, &mut buffer)?;
            let path = place.full_of(wanted.name);
            self.metadata(fd.as_fd(), name, wanted, None, &path)?;
        }
        Ok(())
    }
}
