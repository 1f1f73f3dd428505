//! A filesystem that is held still, for a moment.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::super::driver::{Context as _, Error};
use crate::sys::freeze;

/// So long at most, whatever happens meanwhile.
const LONGEST: Duration = Duration::from_secs(5);

/// A filesystem that is held; let go when this is dropped, or when it takes too long.
#[derive(Debug)]
pub struct Frozen {
    held: Arc<Held>,
}

#[derive(Debug)]
struct Held {
    root: File,
    /// Whether it has been let go.
    is_over: Mutex<bool>,
    ending: Condvar,
}

impl Held {
    fn is_over(&self) -> MutexGuard<'_, bool> {
        self.is_over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets it go; whether it was held until now.
    fn end(&self) -> bool {
        let mut is_over = self.is_over();
        if *is_over {
            return false;
        }
        *is_over = true;
        self.ending.notify_all();
        // Somebody else may have done so.
        let thawed = freeze::thaw(self.root.as_fd());
        if let Err(error) = &thawed {
            tracing::error!("cannot thaw the environment's filesystem: {error}");
        }
        thawed.is_ok()
    }
}

impl Frozen {
    /// Writes what waits to be written in the filesystem that is mounted at `root`, and holds it.
    pub fn freeze(root: &Path) -> Result<Self, Error> {
        let held = Arc::new(Held {
            root: File::open(root).context("open", root)?,
            is_over: Mutex::new(false),
            ending: Condvar::new(),
        });
        let frozen = freeze::freeze(held.root.as_fd());
        frozen.context("freeze the filesystem at", root)?;
        // From now on, it is let go.
        let frozen = Self {
            held: Arc::clone(&held),
        };
        let watchdog = move || {
            let is_over = held.is_over();
            let waited = held
                .ending
                .wait_timeout_while(is_over, LONGEST, |over| !*over);
            let is_over = *waited.unwrap_or_else(PoisonError::into_inner).0;
            if !is_over && held.end() {
                tracing::error!("the environment's filesystem was frozen for {LONGEST:?}: thawed");
            }
        };
        let builder = std::thread::Builder::new().name("thaw".to_owned());
        builder.spawn(watchdog).context("watch", root)?;
        Ok(frozen)
    }

    /// Lets it go; whether it was held until now.
    #[must_use]
    pub fn thaw(&self) -> bool {
        self.held.end()
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.held.end();
    }
}
