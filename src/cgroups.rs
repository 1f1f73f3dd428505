//! Control groups (cgroup v2): what we run is in a group of ours, so that it can be held and
//! killed as a whole, whatever it does, and be given a part of the machine.
//!
//! ```text
//! <our own cgroup>/sprite-env-<our process id>/
//!     supervisor/              we ourselves; only where there are limits
//!     tree/                    everything that we run
//!         process/             the main process
//!         component-<name>/    one for each component
//!         others/              commands, checks, hooks
//!     storage/                 what carries the storage, which is not held
//!         component-<name>/
//! ```
//!
//! The files are those of the kernel's `Documentation/admin-guide/cgroup-v2.rst`. Where
//! there is no cgroup v2 that we may change, the process tree is walked instead.

mod find;
mod limits;
mod usage;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use tokio::io::Interest;

use crate::pid1::tree::given_up;
use crate::reaper::Reaper;

pub use find::{Error, set_up};
pub use limits::ResourceLimits;
pub use usage::Usage;

/// How long a wait for the kernel lasts before it is asked whether to go on.
const AGAIN: Duration = Duration::from_millis(10);

/// The directory of the groups that carry the storage.
const STORAGE: &str = "storage";

/// The lines of `cgroup.events` that say that something runs there, and that all of it is held.
const POPULATED: &str = "populated 1";
const FROZEN: &str = "frozen 1";

/// Which of our groups something runs in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cgroup {
    /// That of the main process.
    Process,
    /// That of the component with this name.
    Component(String),
    /// That of the component with this name, which carries the storage.
    Storage(String),
    /// That of everything else.
    #[default]
    Others,
}

/// Why what a group may use cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// There are no groups.
    #[error(
        "limits need cgroups, which are not in use: those are made at the start of sprite-env; \
         start it again"
    )]
    NoGroups,
    /// There was no such limit at our start.
    #[error(
        "the first limit on {0} needs a new start of sprite-env, which gives its cgroups the \
         controller then"
    )]
    Controller(&'static str),
    /// The kernel does not take it.
    #[error("the limits of {} cannot be set: {source}", .dir.display())]
    Refused {
        /// The group.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Cgroup {
    /// Names of components have no slash and no control character.
    fn name(&self) -> String {
        match self {
            Self::Process => "process".to_owned(),
            Self::Component(name) | Self::Storage(name) => format!("component-{name}"),
            Self::Others => "others".to_owned(),
        }
    }
}

/// Our groups. Clones are the same groups.
#[derive(Clone, Debug)]
pub struct Cgroups {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// What we have made.
    base: PathBuf,
    /// Tells others of us that it is in use.
    _lock: OwnedFd,
    /// What each group may use.
    limits: Mutex<Vec<(Cgroup, ResourceLimits)>>,
    /// The controllers that limits can be set with.
    controllers: BTreeSet<&'static str>,
    /// The controllers that our own cgroup has divided since we came.
    enabled: Vec<&'static str>,
}

impl Cgroups {
    /// The directory of all groups.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.shared.base
    }

    fn tree(&self) -> PathBuf {
        self.shared.base.join("tree")
    }

    fn storage(&self) -> PathBuf {
        self.shared.base.join(STORAGE)
    }

    fn dir_of(&self, cgroup: &Cgroup) -> PathBuf {
        let above = match cgroup {
            Cgroup::Storage(_) => self.storage(),
            _ => self.tree(),
        };
        above.join(cgroup.name())
    }

    /// Opens a group, which is made if it is not there.
    pub fn open(&self, cgroup: &Cgroup) -> io::Result<OwnedFd> {
        let dir = self.dir_of(cgroup);
        match fs::create_dir(&dir) {
            Ok(()) => {
                let limits = self.limits();
                let mut limits = limits.iter();
                if let Some((_, limits)) = limits.find(|(of, _)| of == cgroup)
                    && let Err(error) = limits.apply(&dir)
                {
                    // Without its limits nothing is to run in it, the next time neither.
                    let _ = fs::remove_dir(&dir);
                    return Err(error);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        open_dir(&dir)
    }

    /// Has each group use what `limits` say from now on, and those that they do not name as
    /// much as they like. Blocks.
    pub fn limit(&self, limits: Vec<(Cgroup, ResourceLimits)>) -> Result<(), LimitError> {
        self.can_limit(&limits)?;
        let before = std::mem::replace(&mut *self.limits(), limits);
        let applied = self.apply_limits();
        if applied.is_err() {
            *self.limits() = before;
            let _ = self.apply_limits();
        }
        applied
    }

    /// Whether [`Self::limit`] has the controllers that it needs.
    pub fn can_limit(&self, limits: &[(Cgroup, ResourceLimits)]) -> Result<(), LimitError> {
        let needed = limits.iter().flat_map(|(_, limits)| limits.controllers());
        let mut missing = needed.filter(|name| !self.shared.controllers.contains(name));
        missing
            .next()
            .map_or(Ok(()), |name| Err(LimitError::Controller(name)))
    }

    fn apply_limits(&self) -> Result<(), LimitError> {
        if self.shared.controllers.is_empty() {
            return Ok(());
        }
        for dir in [self.tree(), self.storage()]
            .iter()
            .flat_map(|dir| subdirectories(dir))
        {
            let limits = self.limits();
            let mut limits = limits.iter();
            let is_of = |cgroup: &Cgroup| dir.file_name() == Some(cgroup.name().as_ref());
            let found = limits.find(|(cgroup, _)| is_of(cgroup));
            let found = found.map(|(_, limits)| limits.clone()).unwrap_or_default();
            found.apply(&dir).map_err(|source| LimitError::Refused {
                dir: dir.clone(),
                source,
            })?;
        }
        Ok(())
    }

    fn limits(&self) -> MutexGuard<'_, Vec<(Cgroup, ResourceLimits)>> {
        // Each change is whole before anything could panic.
        self.shared
            .limits
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills everything in a group at once; none = in all that do not carry the storage.
    pub fn kill(&self, cgroup: Option<&Cgroup>) {
        let dir = cgroup.map_or_else(|| self.tree(), |cgroup| self.dir_of(cgroup));
        if let Err(error) = fs::write(dir.join("cgroup.kill"), "1")
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(dir = %dir.display(), %error, "cannot kill a cgroup");
        }
    }

    /// Tells what is left in a group to go, and ends when it is empty; after `patience` what
    /// is left is killed.
    pub async fn clear(&self, cgroup: &Cgroup, patience: Duration, reaper: &Reaper) {
        let dir = self.dir_of(cgroup);
        let is_populated = fs::File::open(dir.join("cgroup.events"));
        if !is_populated.is_ok_and(|events| shows(&events, POPULATED)) {
            return;
        }
        // Nothing is reaped meanwhile, so the numbers are still theirs.
        reaper.hold(|| {
            for pid in members(&dir) {
                tracing::debug!(pid, "left behind, and told to go");
                let _ = crate::sys::kill(pid, libc::SIGTERM);
                let _ = crate::sys::kill(pid, libc::SIGCONT);
            }
        });
        let emptied = tokio::time::timeout(patience, emptied(&dir)).await;
        if emptied.is_err() {
            tracing::warn!("{}: what was left behind is killed", cgroup.name());
            self.kill(Some(cgroup));
            let _ = tokio::time::timeout(patience, self::emptied(&dir)).await;
        }
    }

    /// Holds everything in all groups that do not carry the storage; gives up when `keep_on` says no. Blocks.
    pub fn freeze(&self, keep_on: &dyn Fn() -> bool) -> io::Result<()> {
        let dir = self.tree();
        fs::write(dir.join("cgroup.freeze"), "1")?;
        let events = fs::File::open(dir.join("cgroup.events"))?;
        while !shows(&events, FROZEN) {
            if !keep_on() {
                return Err(given_up());
            }
            let timeout = rustix::time::Timespec {
                tv_sec: 0,
                tv_nsec: AGAIN.subsec_nanos().into(),
            };
            poll(
                &mut [PollFd::new(&events.as_fd(), PollFlags::PRI)],
                Some(&timeout),
            )?;
        }
        Ok(())
    }

    /// Lets everything run again.
    pub fn thaw(&self) {
        if let Err(error) = fs::write(self.tree().join("cgroup.freeze"), "0") {
            tracing::error!(%error, "cannot let the cgroup run again");
        }
    }

    /// The process ids of everything in the groups that are held.
    #[must_use]
    pub fn members(&self) -> Vec<i32> {
        members(&self.tree())
    }

    /// The process ids of everything that carries the storage.
    #[must_use]
    pub fn storage_members(&self) -> Vec<i32> {
        members(&self.storage())
    }

    /// What a group uses. Blocks.
    #[must_use]
    pub fn usage(&self, cgroup: &Cgroup) -> Usage {
        Usage::of(&self.dir_of(cgroup))
    }

    /// Removes the groups; whatever still runs in one keeps it.
    pub fn remove(&self) {
        find::leave(&self.shared.base, &self.shared.enabled);
        remove(&self.shared.base);
    }
}

fn open_dir(dir: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(dir, flags, Mode::empty())?)
}

/// The process ids of everything in `dir` and below it.
fn members(dir: &Path) -> Vec<i32> {
    let own = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    // What is in another PID namespace than ours counts as 0 there.
    let own = own.lines().flat_map(str::parse).filter(|pid| *pid > 0);
    let below = subdirectories(dir).flat_map(|dir| members(&dir));
    own.chain(below.collect::<Vec<_>>()).collect()
}

fn subdirectories(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    dirs.map(|entry| entry.path())
}

/// Removes a group and those below it, from the innermost on.
fn remove(dir: &Path) {
    for below in subdirectories(dir) {
        remove(&below);
    }
    if let Err(error) = fs::remove_dir(dir) {
        tracing::debug!(dir = %dir.display(), %error, "a cgroup stays");
    }
}

/// Whether `cgroup.events` says so. To read it is also what makes the next change one that can
/// be waited for.
fn shows(events: impl AsFd, line: &str) -> bool {
    let mut text = [0; 256];
    let read = rustix::io::pread(events, &mut text, 0).unwrap_or(0);
    let text = String::from_utf8_lossy(text.get(..read).unwrap_or_default());
    text.lines().any(|shown| shown == line)
}

/// Ends when nothing is left in `dir`, or it is gone itself.
async fn emptied(dir: &Path) {
    let Ok(file) = fs::File::open(dir.join("cgroup.events")) else {
        return;
    };
    let Ok(events) = crate::sys::watch(file.into(), Interest::PRIORITY) else {
        return;
    };
    loop {
        if !shows(events.get_ref(), POPULATED) {
            return;
        }
        match events.ready(Interest::PRIORITY).await {
            Ok(mut changed) => changed.clear_ready(),
            Err(_) => return,
        }
    }
}
