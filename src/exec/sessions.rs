//! The commands that run now. While the system stops or restores there are none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::reaper::Reaper;

/// All sessions. Clones are the same registry.
#[derive(Clone, Debug)]
pub struct Sessions {
    shared: Arc<Mutex<Registry>>,
    reaper: Reaper,
    most: usize,
}

#[derive(Debug, Default)]
struct Registry {
    open: bool,
    next: u64,
    /// The process id of each; none while it is being started.
    live: HashMap<u64, Option<i32>>,
}

/// Why a session was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// The system stops or restores.
    #[error("no commands are run while the system starts, restores or stops")]
    Closed,
    /// There are as many as there may be.
    #[error("{0} commands are running, which is the limit (limits.exec_sessions)")]
    Full(usize),
}

/// A place among the sessions, until dropped.
#[derive(Debug)]
pub struct Admission {
    sessions: Sessions,
    id: u64,
}

impl Sessions {
    /// None yet, and none admitted until [`Sessions::open`].
    #[must_use]
    pub fn new(reaper: Reaper, most: usize) -> Self {
        Self {
            shared: Arc::default(),
            reaper,
            most,
        }
    }

    /// Takes a place for a session that is about to be started.
    pub fn admit(&self) -> Result<Admission, NotAdmitted> {
        let mut registry = self.lock();
        if !registry.open {
            return Err(NotAdmitted::Closed);
        }
        if registry.live.len() >= self.most {
            return Err(NotAdmitted::Full(self.most));
        }
        registry.next += 1;
        let id = registry.next;
        registry.live.insert(id, None);
        Ok(Admission {
            sessions: self.clone(),
            id,
        })
    }

    /// Admits sessions from now on.
    pub fn open(&self) {
        self.lock().open = true;
    }

    /// Admits none from now on, and tells those that run to go.
    pub fn close(&self) {
        let mut registry = self.lock();
        registry.open = false;
        let pids: Vec<i32> = registry.live.values().copied().flatten().collect();
        drop(registry);
        for pid in pids {
            self.reaper.signal_group(pid, libc::SIGTERM);
        }
    }

    /// How many run now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().live.len()
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission {
    /// The session runs as `pid`. If the sessions were closed meanwhile, it is told
    /// to go at once.
    pub fn started(&self, pid: i32) {
        let mut registry = self.sessions.lock();
        registry.live.insert(self.id, Some(pid));
        let closed = !registry.open;
        drop(registry);
        if closed {
            self.sessions.reaper.signal_group(pid, libc::SIGTERM);
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.sessions.lock().live.remove(&self.id);
    }
}
