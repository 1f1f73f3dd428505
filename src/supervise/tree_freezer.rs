//! Holds the process tree while a checkpoint takes its instant.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedRwLockWriteGuard, RwLock};

use crate::checkpoint::Freezer;
use crate::pid1::tree;
use crate::reaper::Reaper;

/// How long the freezer waits for children that are being started before it asks again
/// whether to go on.
const GATE: Duration = Duration::from_millis(50);

/// Holds the process tree below us for a checkpoint; nothing is started meanwhile.
#[derive(Debug)]
pub struct TreeFreezer {
    frozen: Mutex<tree::Frozen>,
    gate: Arc<RwLock<()>>,
    closed: Mutex<Option<OwnedRwLockWriteGuard<()>>>,
}

impl TreeFreezer {
    /// Holds what is below us, children of `reaper`.
    #[must_use]
    pub fn new(reaper: &Reaper) -> Self {
        Self {
            frozen: Mutex::default(),
            gate: reaper.gate(),
            closed: Mutex::default(),
        }
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
        Err(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            "given up",
        ))
    }
}

impl Freezer for TreeFreezer {
    fn freeze(&self, keep_on: &dyn Fn() -> bool) -> std::io::Result<()> {
        self.close_gate(keep_on)?;
        let mut frozen = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        tree::freeze(&mut frozen, keep_on)
    }

    fn held(&self) -> Vec<i32> {
        let frozen = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        frozen.pids()
    }

    fn thaw(&self) {
        let mut frozen = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        tree::thaw(&mut frozen);
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
