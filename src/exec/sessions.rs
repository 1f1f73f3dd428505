//! The commands that run now, and those that ran lately. While the system stops or
//! restores none runs.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::session::Session;
use crate::reaper::Reaper;

/// How long an ended session is remembered, with its output and exit code.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How many of them.
const MOST_REMEMBERED: usize = 64;
/// How much memory their output may take, in bytes.
const MOST_MEMORY: usize = 8 * 1024 * 1024;

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
    last: u64,
    /// None while it is being started.
    live: BTreeMap<u64, Option<Live>>,
    ended: VecDeque<(Instant, Arc<Session>)>,
}

#[derive(Debug)]
struct Live {
    session: Arc<Session>,
    pid: Option<i32>,
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
    number: u64,
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
        registry.last += 1;
        let number = registry.last;
        registry.live.insert(number, None);
        Ok(Admission {
            sessions: self.clone(),
            number,
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
        let live = registry.live.values().flatten();
        let pids: Vec<i32> = live.filter_map(|live| live.pid).collect();
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

    /// Those that run now, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Session>> {
        let registry = self.lock();
        let live = registry.live.values().flatten();
        live.map(|live| Arc::clone(&live.session)).collect()
    }

    /// The session of that id, if it runs or ran lately.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Arc<Session>> {
        let mut registry = self.lock();
        registry.forget();
        let live = registry.live.values().flatten().map(|live| &live.session);
        let ended = registry.ended.iter().map(|(_, session)| session);
        live.chain(ended)
            .find(|session| session.facts.id == id)
            .cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        // Each change is whole before anything could panic.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    /// Forgets the ended sessions that are too old, too many or too heavy.
    fn forget(&mut self) {
        let mut memory: usize = self.ended.iter().map(|(_, session)| session.weight()).sum();
        while let Some((ended, session)) = self.ended.front() {
            let is_old = ended.elapsed() > REMEMBERED;
            if !is_old && self.ended.len() <= MOST_REMEMBERED && memory <= MOST_MEMORY {
                break;
            }
            memory -= session.weight().min(memory);
            self.ended.pop_front();
        }
    }
}

impl Admission {
    /// The session's id in the API.
    #[must_use]
    pub fn id(&self) -> String {
        self.number.to_string()
    }

    /// The session can be found from now on.
    pub fn began(&self, session: &Arc<Session>) {
        let live = Live {
            session: Arc::clone(session),
            pid: None,
        };
        self.sessions.lock().live.insert(self.number, Some(live));
    }

    /// The command runs as `pid`. If the sessions were closed meanwhile, it is told to go
    /// at once.
    pub fn started(&self, pid: i32) {
        let mut registry = self.sessions.lock();
        if let Some(Some(live)) = registry.live.get_mut(&self.number) {
            live.pid = Some(pid);
        }
        let closed = !registry.open;
        drop(registry);
        if closed {
            self.sessions.reaper.signal_group(pid, libc::SIGTERM);
        }
    }

    /// The command is gone; its session is remembered for a while.
    pub fn ended(self) {
        let mut registry = self.sessions.lock();
        if let Some(Some(live)) = registry.live.remove(&self.number) {
            registry.ended.push_back((Instant::now(), live.session));
            registry.forget();
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.sessions.lock().live.remove(&self.number);
    }
}
