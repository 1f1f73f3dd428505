//! Holds the process tree while a checkpoint takes its instant.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedRwLockWriteGuard, RwLock};

use crate::cgroups::Cgroups;
use crate::checkpoint::Freezer;
use crate::pid1::tree;
use crate::reaper::Reaper;

/// How long the freezer waits for children that are being started before it asks again
/// whether to go on.
const GATE: Duration = Duration::from_millis(50);

/// Holds the process tree below us for a checkpoint; nothing is started meanwhile. What is in
/// our cgroups notices nothing; what is not, or has left them, is stopped.
#[derive(Debug)]
pub struct TreeFreezer {
    cgroups: Option<Cgroups>,
    reaper: Reaper,
    frozen: Mutex<tree::Frozen>,
    gate: Arc<RwLock<()>>,
    closed: Mutex<Option<OwnedRwLockWriteGuard<()>>>,
}

impl TreeFreezer {
    /// Holds what is below us, children of `reaper`, and what is in `cgroups`.
    #[must_use]
    pub fn new(reaper: &Reaper, cgroups: Option<Cgroups>) -> Self {
        Self {
            cgroups,
            reaper: reaper.clone(),
            frozen: Mutex::default(),
            gate: reaper.gate(),
            closed: Mutex::default(),
        }
    }

    /// What is not to be stopped: what is held by its cgroup, and what carries the storage,
    /// without which the checkpoint could not be taken.
    fn left_alone(&self, found: &[tree::Entry]) -> HashSet<i32> {
        let storage = tree::storage(found, &self.reaper, self.cgroups.as_ref());
        self.in_cgroups().into_iter().chain(storage).collect()
    }

    fn in_cgroups(&self) -> Vec<i32> {
        let cgroups = self.cgroups.as_ref();
        cgroups.map(Cgroups::members).unwrap_or_default()
    }

    /// Waits until no child is being started, and lets none be started from then on.
    fn close_gate(&self, keep_on: &dyn Fn() -> bool) -> std::io::Result<()> {
        let runtime = tokio::runtime::Handle::current();
        while keep_on() {
            let closing = Arc::clone(&self.gate).write_owned();
            let closing = runtime.block_on(tokio::time::timeout(GATE, closing));
            if let Ok(guard) = closing {
                *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard);
                return Ok(());
            }
        }
        Err(tree::given_up())
    }
}

impl Freezer for TreeFreezer {
    fn freeze(&self, keep_on: &dyn Fn() -> bool) -> std::io::Result<()> {
        // Held all the while: when it is given up, the thaw waits until we have noticed.
        let mut frozen = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        self.close_gate(keep_on)?;
        if let Some(cgroups) = &self.cgroups {
            cgroups.freeze(keep_on)?;
        }
        tree::freeze(&mut frozen, keep_on, |found| self.left_alone(found))
    }

    fn held(&self) -> Vec<i32> {
        let frozen = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut held = frozen.pids();
        held.extend(self.in_cgroups());
        held
    }

    fn thaw(&self) {
        let mut frozen = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        tree::thaw(&mut frozen);
        if let Some(cgroups) = &self.cgroups {
            cgroups.thaw();
        }
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
