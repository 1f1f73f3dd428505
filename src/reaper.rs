//! The one owner of all children: starts them, waits for them, signals them.
//!
//! # Theory of operation
//!
//! A status can be taken from the kernel only once, so only one place takes it:
//! [`Reaper::reap`], called at each SIGCHLD, waits for *any* child until none is left
//! that has ended, and routes each status to whoever started the child. What nobody
//! started is an orphan of our tree that the kernel gave to us.
//!
//! Starting and reaping hold the same lock. Without it a child could end, and its
//! status be taken, before it is known to be ours; and whoever starts it, and itself waits
//! for a child whose `exec` failed, would find it gone.
//! Signalling holds it too: a pid stays ours until it is reaped, so a signal under the
//! lock cannot reach a stranger that got the same number.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use machines::exit::Exit;
use rustix::process::{WaitOptions, WaitStatus};
use tokio::sync::{RwLock, oneshot, watch};

use crate::sys;

/// A child that was started.
#[derive(Debug)]
pub struct Child {
    /// Its process id.
    pub pid: i32,
    /// How it ended, once it has.
    pub exit: oneshot::Receiver<Exit>,
    /// Our end of its standard input, if it is a pipe.
    pub stdin: Option<ChildStdin>,
    /// Our end of its standard output, if it is a pipe.
    pub stdout: Option<ChildStdout>,
    /// Our end of its standard error, if it is a pipe.
    pub stderr: Option<ChildStderr>,
}

/// A child that was started just now.
#[derive(Debug)]
pub struct Started {
    /// Its process id.
    pub pid: i32,
    /// Whether it carries the storage.
    pub carries_storage: bool,
    /// Our end of its standard input, if it is a pipe.
    pub stdin: Option<ChildStdin>,
    /// Our end of its standard output, if it is a pipe.
    pub stdout: Option<ChildStdout>,
    /// Our end of its standard error, if it is a pipe.
    pub stderr: Option<ChildStderr>,
}

/// The owner of all children. Clones are the same reaper.
#[derive(Clone, Debug)]
pub struct Reaper {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Taken to read while a child is started, to write while everything is held.
    gate: Arc<RwLock<()>>,
    waiters: Mutex<HashMap<i32, Waiter>>,
    /// How many were reaped so far, and whether any child was left then.
    reaped: watch::Sender<Tally>,
}

/// Who waits for a child.
#[derive(Debug)]
struct Waiter {
    sender: oneshot::Sender<Exit>,
    carries_storage: bool,
}

/// What reaping has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many children were reaped since the start.
    pub reaped: u64,
    /// How many of them were orphans: nobody here had started them.
    pub orphans: u64,
    /// Whether there was no child left, alive or dead, when last looked.
    pub childless: bool,
}

impl Default for Reaper {
    fn default() -> Self {
        Self {
            shared: Arc::new(Shared {
                gate: Arc::default(),
                waiters: Mutex::default(),
                reaped: watch::Sender::new(Tally::default()),
            }),
        }
    }
}

impl Reaper {
    /// Starts whatever `start` starts, under the lock.
    pub fn start(&self, start: impl FnOnce() -> io::Result<Started>) -> io::Result<Child> {
        let mut waiters = self.lock();
        let child = start()?;
        let pid = child.pid;
        let (sender, exit) = oneshot::channel();
        let carries_storage = child.carries_storage;
        waiters.insert(
            pid,
            Waiter {
                sender,
                carries_storage,
            },
        );
        self.shared
            .reaped
            .send_modify(|tally| tally.childless = false);
        Ok(Child {
            pid,
            exit,
            stdin: child.stdin,
            stdout: child.stdout,
            stderr: child.stderr,
        })
    }

    /// Takes every status that is there and routes it.
    pub fn reap(&self) {
        let mut waiters = self.lock();
        let mut tally = *self.shared.reaped.borrow();
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let pid = pid.as_raw_nonzero().get();
                    let Some(exit) = exit(status) else { continue };
                    tally.reaped += 1;
                    if let Some(waiter) = waiters.remove(&pid) {
                        // Whoever started it may have lost interest.
                        let _ = waiter.sender.send(exit);
                    } else {
                        tally.orphans += 1;
                        tracing::debug!(pid, %exit, "reaped an orphan");
                    }
                }
                Ok(None) => {
                    tally.childless = false;
                    break;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::CHILD) => {
                    tally.childless = true;
                    break;
                }
                Err(error) => {
                    tracing::error!(%error, "cannot wait for children");
                    break;
                }
            }
        }
        self.shared.reaped.send_replace(tally);
    }

    /// The children that carry the storage.
    #[must_use]
    pub fn storage(&self) -> BTreeSet<i32> {
        let waiters = self.lock();
        let storage = waiters.iter().filter(|(_, waiter)| waiter.carries_storage);
        storage.map(|(pid, _)| *pid).collect()
    }

    /// What reaping has come to, and a way to wait for more.
    #[must_use]
    pub fn tally(&self) -> watch::Receiver<Tally> {
        self.shared.reaped.subscribe()
    }

    /// Sends `signal` to the process group that `pid` leads, and to `pid` wherever it
    /// is, if it was not reaped yet.
    pub fn signal_group(&self, pid: i32, signal: i32) {
        let waiters = self.lock();
        if !waiters.contains_key(&pid) {
            return;
        }
        let group = sys::kill(-pid, signal);
        // The leader may have gone to another group.
        let leader = rustix::process::Pid::from_raw(pid);
        if rustix::process::getpgid(leader).is_ok_and(|now| Some(now) != leader) {
            let _ = sys::kill(pid, signal);
        } else if let Err(error) = group {
            tracing::debug!(pid, signal, %error, "a signal reached nobody");
        }
    }

    /// Sends `signal` to `pid` alone, with `value` if there is one, if it was not reaped yet.
    pub fn signal_alone(&self, pid: i32, signal: i32, value: Option<usize>) {
        let waiters = self.lock();
        if !waiters.contains_key(&pid) {
            return;
        }
        let sent = match value {
            Some(value) => sys::queue(pid, signal, value),
            None => sys::kill(pid, signal),
        };
        if let Err(error) = sent {
            tracing::debug!(pid, signal, %error, "a signal reached nobody");
        }
    }

    /// Kills the process group that `pid` leads when the guard goes out of scope,
    /// unless it was disarmed.
    #[must_use]
    pub fn guard(&self, pid: i32) -> GroupGuard {
        GroupGuard {
            reaper: self.clone(),
            pid,
            armed: true,
        }
    }

    /// The gate between starting children and holding everything for a checkpoint. A
    /// child that is stopped between `fork` and `exec` would keep the lock of whoever
    /// starts it, and with it the daemon, for ever.
    #[must_use]
    pub fn gate(&self) -> Arc<RwLock<()>> {
        Arc::clone(&self.shared.gate)
    }

    /// Runs `act` while nothing is reaped.
    pub fn hold<T>(&self, act: impl FnOnce() -> T) -> T {
        let _waiters = self.lock();
        act()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i32, Waiter>> {
        // A panic elsewhere leaves the map whole: each change to it is one call.
        self.shared
            .waiters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Kills a process group when it goes out of scope while its leader was not reaped.
#[derive(Debug)]
pub struct GroupGuard {
    reaper: Reaper,
    pid: i32,
    armed: bool,
}

impl GroupGuard {
    /// The leader is gone: its number may soon be somebody else's.
    pub fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for GroupGuard {
    fn drop(&mut self) {
        if self.armed {
            self.reaper.signal_group(self.pid, libc::SIGKILL);
        }
    }
}

fn exit(status: WaitStatus) -> Option<Exit> {
    let byte = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
    status
        .exit_status()
        .map(|code| Exit::Code(byte(code)))
        .or_else(|| status.terminating_signal().map(|n| Exit::Signal(byte(n))))
}
