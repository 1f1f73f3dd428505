//! What is known of the live tree, and walks of it: all of it, or where something has changed.

use std::collections::HashSet;
use std::sync::Arc;

use super::live::Live;
use super::look::Look;
use super::pool::Pool;
use super::scan::{Limit, Scan, Scanned};
use super::tracker::Tracker;
use super::watch::Watch;
use super::{Id, Store};
use crate::checkpoint::driver::Error;
use crate::config::DirtyTracking;

/// From so many entries on, what changes is kept in mind from one checkpoint to the next: it
/// makes each change a little dearer, and the walk of a tree that is not so large is cheap.
const MANY: u64 = 300_000;
/// After so many checkpoints that have walked a part only, one walks everything.
const AUDIT: u32 = 16;

impl Store {
    /// A watch over what has changed since the last checkpoint, if there is one and it is not
    /// time to look at everything.
    pub(super) fn tracked(&self) -> Option<Watch> {
        let mut state = self.state();
        let watch = state.tracker.take().and_then(Tracker::into_watch);
        let watch = watch.filter(|_| state.partial < AUDIT);
        state.partial = watch.as_ref().map_or(0, |_| state.partial + 1);
        watch
    }

    /// Goes on with a watch until the next checkpoint, if that is wanted.
    pub(super) fn track(&self, watch: Option<Watch>) {
        let mut state = self.state();
        let is_wanted = match self.dirty_tracking {
            DirtyTracking::On => true,
            DirtyTracking::Off => false,
            DirtyTracking::Auto => {
                let latest = state.catalog.latest();
                latest.is_some_and(|latest| latest.entries >= MANY)
            }
        };
        if is_wanted {
            state.tracker = watch.and_then(Tracker::start);
        } else if let Some(watch) = watch {
            watch.end();
        }
    }

    /// What is known of the live tree before it is looked at.
    pub(super) fn known(&self) -> Scanned {
        let state = self.state();
        Scanned {
            changed: state.changed.clone(),
            ..Scanned::of((*state.live).clone())
        }
    }

    /// Takes what is known of the live tree, captured as `root`, as the truth.
    pub(super) fn set_live(&self, live: Live, root: Id) {
        let mut state = self.state();
        state.live = Arc::new(live);
        state.changed.clear();
        state.captured = Some(root);
        state.whole.insert(root);
    }

    /// Keeps what is known of the live tree for the next start.
    pub(super) fn keep_live(&self) {
        let path = self.live_file();
        let mut state = self.state();
        let (live, captured) = (Arc::clone(&state.live), state.captured);
        if let Some(root) = captured.filter(|_| captured != state.kept) {
            state.kept = captured;
            state.keeper.keep(path, live, root);
        }
    }

    /// Looks at what has changed since `watch` began, or at everything without it.
    pub(super) fn catch_up(
        &self,
        pool: &Pool,
        known: Scanned,
        watch: Option<&mut Watch>,
        look: &Look,
    ) -> Result<Scanned, Error> {
        match told(watch) {
            Some(changed) => self.pass_over(pool, known, &changed, HashSet::new(), look),
            None => self.pass(pool, known, look),
        }
    }

    /// Looks at the directories with these inodes, and at the files `again`, which may have
    /// changed without a trace.
    pub(super) fn pass_over(
        &self,
        pool: &Pool,
        mut known: Scanned,
        changed: &HashSet<u64>,
        mut again: HashSet<u64>,
        look: &Look,
    ) -> Result<Scanned, Error> {
        again.extend(look.hints.distrusted.union(&look.hints.open));
        again.extend(known.deferred.iter().map(|file| file.inode));
        let mut limit = Limit::to(pool, &known.live, changed, &again);
        let mut done = Limit::default();
        let mut as_of = None;
        // Those that were left for later are found again.
        known.deferred.clear();
        // All names of a file that has changed look different.
        while limit.without(&done) {
            let deferred = std::mem::take(&mut known.deferred);
            let look = Look {
                limit: Some(&limit),
                ..*look
            };
            known = self.pass(pool, known, &look)?;
            // The first one looks at all that was told: what changes from then on shows.
            known.live.as_of = *as_of.get_or_insert(known.live.as_of);
            // Those that it has looked at once more were found again.
            let again: HashSet<u64> = known.deferred.iter().map(|file| file.inode).collect();
            let others = deferred
                .into_iter()
                .filter(|file| !again.contains(&file.inode));
            known.deferred.extend(others);
            done.join(limit);
            let relinked = std::mem::take(&mut known.relinked);
            limit = Limit::to(pool, &known.live, &HashSet::new(), &relinked);
        }
        Ok(known)
    }

    /// Walks the tree once more, or a part of it.
    pub(super) fn pass(&self, pool: &Pool, known: Scanned, look: &Look) -> Result<Scanned, Error> {
        let opened = self.opened()?;
        // A walk of a part goes on where that of all has ended.
        if look.meter.is_wanted() && look.limit.is_none() {
            // As many as last time, as far as anybody knows.
            let latest = self.state().catalog.latest();
            look.meter.begin(latest.map(|latest| latest.entries), None);
        }
        let root = match look.root {
            Some(root) => root.clone(),
            None => self.root()?,
        };
        let mut scanned = Scan {
            objects: &opened.objects,
            previous: &known.live,
            granularity: opened.granularity,
            look: *look,
        }
        .run(pool, &root)?;
        scanned.changed.extend(known.changed);
        Ok(scanned)
    }
}

/// The directories in which something has changed since it was asked last; none if that is
/// not known.
pub fn told(watch: Option<&mut Watch>) -> Option<HashSet<u64>> {
    let watch = watch?;
    let changed = watch.changed();
    watch.clear();
    changed
}
