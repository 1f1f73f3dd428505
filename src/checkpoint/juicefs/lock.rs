//! One volume is for one sprite-env. The lock is held by the mount's own processes, so that it
//! is there for as long as anything of theirs is, also when we were killed.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use serde::{Deserialize, Serialize};

use super::super::driver::Context as _;
use super::Error;
use crate::pid1::tree;
use crate::sys;

/// How long what a killed sprite-env has left behind may take to go: it unmounts.
const GRACE: Duration = Duration::from_secs(45);
/// How long it may take to be killed.
const KILL: Duration = Duration::from_secs(5);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// A process at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Process {
    pid: i32,
    started: u64,
}

/// Who has the lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    /// The leader of the process group that holds it.
    leader: Process,
    /// The sprite-env that has started it.
    daemon: Process,
    /// The PID namespace that these are in.
    namespace: Option<PathBuf>,
    /// Whether it has done what others wait for.
    #[serde(default)]
    ready: bool,
}

impl Process {
    fn of(pid: i32) -> Self {
        let started = tree::read(pid).map_or(0, |entry| entry.started);
        Self { pid, started }
    }

    fn lives(self) -> bool {
        let found = tree::read(self.pid);
        found.is_some_and(|entry| !entry.is_dead() && entry.started == self.started)
    }
}

impl Holder {
    /// We ourselves, as a child of sprite-env.
    fn ourselves() -> Self {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
        Self {
            leader: Process::of(own),
            daemon: Process::of(parent),
            namespace: std::fs::read_link("/proc/self/ns/pid").ok(),
            ready: false,
        }
    }
}

/// Takes the lock at `path`, in the volume's directory, which what we become then holds. What a
/// sprite-env that is no more has left behind is told to go first.
pub fn take(path: &Path) -> Result<OwnedFd, Error> {
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .context("open", path)?;
    if !try_lock(&file).context("lock", path)? {
        let mut text = String::new();
        file.read_to_string(&mut text).context("read", path)?;
        // One that was killed before it said who it is cannot hold it for long.
        let holder: Option<Holder> = serde_json::from_str(&text).ok();
        end(&file, holder.as_ref(), path)?;
    }
    let text = serde_json::to_string(&Holder::ourselves()).unwrap_or_default();
    file.rewind().context("write", path)?;
    file.set_len(0).context("write", path)?;
    file.write_all(text.as_bytes()).context("write", path)?;
    fcntl_setfd(&file, FdFlags::empty()).context("keep open", path)?;
    Ok(file.into())
}

/// Says that whoever waits for us may go on. `held` is the lock at `path`, which we have taken.
pub fn tell_ready(held: &OwnedFd, path: &Path) -> Result<(), Error> {
    let ready = Holder {
        ready: true,
        ..Holder::ourselves()
    };
    // As long as what is there: nobody reads half of it.
    let text = serde_json::to_string(&ready).unwrap_or_default() + " ";
    let written = rustix::io::pwrite(held, text.as_bytes(), 0);
    written.map(drop).context("write", path)?;
    Ok(())
}

/// The lock at `path`, if nobody has it.
pub fn take_if_free(path: &Path) -> Result<Option<File>, Error> {
    let file = File::open(path).context("open", path)?;
    let is_free = try_lock(&file).context("lock", path)?;
    Ok(is_free.then_some(file))
}

/// Whether the lock at `path` is held by what the sprite-env has started that we are a child of.
pub fn is_ours(path: &Path) -> bool {
    our_holder(path).is_some()
}

/// Whether what holds the lock at `path` is ours, and has said that it is ready.
pub fn is_ready(path: &Path) -> bool {
    our_holder(path).is_some_and(|holder| holder.ready)
}

/// Kills what holds the lock at `path`, if our sprite-env has started it.
pub fn kill_holder(path: &Path) {
    if let Some(holder) = our_holder(path) {
        let _ = sys::kill(-holder.leader.pid, libc::SIGKILL);
    }
}

fn our_holder(path: &Path) -> Option<Holder> {
    let ours = Holder::ourselves();
    let holder: Holder = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let is_ours = holder.daemon == ours.daemon && holder.namespace == ours.namespace;
    (is_ours && holder.leader.lives()).then_some(holder)
}

fn try_lock(file: &File) -> Result<bool, Errno> {
    match flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Ends what has the lock, if nobody needs it any more.
fn end(file: &File, holder: Option<&Holder>, path: &Path) -> Result<(), Error> {
    let in_use = |by: String| Error::InUse {
        dir: path.parent().unwrap_or(path).to_owned(),
        by,
    };
    let ours = Holder::ourselves();
    if let Some(holder) = holder {
        let daemon = holder.daemon;
        if holder.namespace != ours.namespace {
            return Err(in_use("another, in another PID namespace".to_owned()));
        }
        if daemon != ours.daemon && daemon.lives() {
            return Err(in_use(format!("another, process {}", daemon.pid)));
        }
        tracing::info!(
            "what an earlier start has left is told to go: process group {}",
            holder.leader.pid
        );
    }
    let signal = |signal| {
        if let Some(holder) = holder {
            // What has its number now may be another, unless it is the same or all its kind.
            let is_other = tree::read(holder.leader.pid)
                .is_some_and(|entry| entry.started != holder.leader.started);
            if !is_other {
                let _ = sys::kill(-holder.leader.pid, signal);
            }
        }
    };
    for (number, patience) in [(libc::SIGTERM, GRACE), (libc::SIGKILL, KILL)] {
        signal(number);
        let begun = Instant::now();
        while begun.elapsed() < patience {
            if try_lock(file).context("lock", path)? {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
    }
    Err(in_use("something that does not go".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A process that has the lock at `path`, started by `daemon`.
    fn holder(path: &Path, daemon: Process) -> Child {
        let _lock = take(path).unwrap();
        let mut child = Command::new("sleep");
        child.arg("1000").process_group(0).stdin(Stdio::null());
        let child = child.spawn().unwrap();
        let leader = Process::of(child.id().try_into().unwrap());
        let namespace = Holder::ourselves().namespace;
        let holder = Holder {
            leader,
            daemon,
            namespace,
            ready: false,
        };
        let text = serde_json::to_string(&holder).unwrap();
        std::fs::write(path, text).unwrap();
        child
    }

    #[test]
    fn what_a_sprite_env_that_is_no_more_has_left_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let gone = Process {
            pid: i32::MAX,
            started: 1,
        };
        let mut left = holder(&path, gone);
        drop(take(&path).unwrap());
        assert!(!left.wait().unwrap().success());
        // And nothing has it any more.
        drop(take(&path).unwrap());
    }

    #[test]
    fn it_is_ready_once_it_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = take(&path).unwrap();
        assert!(is_ours(&path) && !is_ready(&path));
        tell_ready(&held, &path).unwrap();
        assert!(is_ours(&path) && is_ready(&path));
        drop(held);
        let _held = take(&path).unwrap();
        assert!(!is_ready(&path), "another has it now");
    }

    #[test]
    fn what_is_in_another_pid_namespace_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let gone = Process {
            pid: i32::MAX,
            started: 1,
        };
        let mut holder = holder(&path, gone);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("pid:[", "pid:[9")).unwrap();
        let error = take(&path).unwrap_err().to_string();
        assert!(error.contains("in another PID namespace"), "{error}");
        assert!(take_if_free(&path).unwrap().is_none());
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert!(take_if_free(&path).unwrap().is_some());
    }

    #[test]
    fn what_a_living_one_has_started_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
        let daemon = Process::of(other.id().try_into().unwrap());
        let mut holder = holder(&path, daemon);
        let error = take(&path).unwrap_err().to_string();
        let by = format!("is in use by another, process {}", daemon.pid);
        assert!(error.contains(&by), "{error}");
        assert!(holder.try_wait().unwrap().is_none());
        for child in [&mut holder, &mut other] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        drop(take(&path).unwrap());
    }
}
