//! Signals: all are blocked, queued by the kernel and read here one by one.
//!
//! SIGCHLD reaps. SIGTERM and SIGINT begin the orderly stop. SIGTSTP, SIGTTIN and
//! SIGTTOU stop the main process's group and then us, so that job control works.
//! Everything else, real-time signals included, goes to the main process's group.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::reaper::Reaper;
use crate::sys;

/// What a signal means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Begin the orderly stop, or hurry it.
    Stop,
    /// Send this to the main process's group, or with a value to the main process.
    Forward(i32, Option<usize>),
    /// Stop the main process's group, then ourselves.
    Suspend,
}

/// The stream of signals. Make it once.
#[derive(Debug)]
pub struct Signals {
    fd: AsyncFd<OwnedFd>,
    reaper: Reaper,
}

impl Signals {
    /// Begins to read. All signals must be blocked (`sys::block_all_signals`).
    pub fn new(reaper: Reaper) -> io::Result<Self> {
        let fd = sys::watch(sys::signalfd()?, Interest::READABLE)?;
        Ok(Self { fd, reaper })
    }

    /// Waits for the next signal that means something. Reaps meanwhile.
    pub async fn next(&mut self) -> io::Result<(i32, Meaning)> {
        loop {
            let mut ready = self.fd.readable().await?;
            let received = match ready.try_io(|fd| sys::read_signal(fd.get_ref().as_fd())) {
                Ok(received) => received?,
                Err(_would_block) => continue,
            };
            match received.signal {
                libc::SIGCHLD => self.reaper.reap(),
                libc::SIGTERM | libc::SIGINT => return Ok((received.signal, Meaning::Stop)),
                libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => {
                    return Ok((received.signal, Meaning::Suspend));
                }
                // Our own write to a pipe that nobody reads; nobody sent it.
                libc::SIGPIPE if !received.from_process => {}
                signal => return Ok((signal, Meaning::Forward(signal, received.value))),
            }
        }
    }
}

/// Stops ourselves until SIGCONT. PID 1 cannot be stopped, and goes on at once.
pub fn suspend_ourselves() {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    if let Err(error) = sys::kill(pid, libc::SIGSTOP) {
        tracing::warn!(%error, "cannot stop ourselves");
    }
}
