//! Keeping book of what changes between checkpoints, so that the next one need not walk the
//! whole tree.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use super::lock;
use super::watch::Watch;

/// So many changed directories are kept in mind; with more, a walk is not much dearer.
const MOST: usize = 100_000;

/// Takes in what the kernel tells, so that its queue never gets full.
#[derive(Debug)]
pub struct Tracker {
    watch: Arc<Mutex<Option<Watch>>>,
    /// Wakes the thread.
    wake: Arc<OwnedFd>,
}

impl Tracker {
    /// Goes on with `watch`; none if that is not possible.
    #[must_use]
    pub fn start(watch: Watch) -> Option<Self> {
        let source = watch.descriptor().ok()?;
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).ok()?);
        let watch = Arc::new(Mutex::new(Some(watch)));
        let tracker = Self {
            watch: Arc::clone(&watch),
            wake: Arc::clone(&wake),
        };
        let thread = std::thread::Builder::new().name("dirty".to_owned());
        thread.spawn(move || take_in(&source, &wake, &watch)).ok()?;
        Some(tracker)
    }

    /// The watch, with all that was told since; none if some of it was lost.
    #[must_use]
    pub fn into_watch(self) -> Option<Watch> {
        lock(&self.watch).take()
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        drop(lock(&self.watch).take());
        // It cannot be full: nobody has written to it before.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

/// Reads what is told until nobody wants it any more.
fn take_in(source: &OwnedFd, wake: &OwnedFd, watch: &Mutex<Option<Watch>>) {
    loop {
        let mut readable = [
            PollFd::new(source, PollFlags::IN),
            PollFd::new(wake, PollFlags::IN),
        ];
        let told = poll(&mut readable, None);
        let mut watch = lock(watch);
        let Some(told_of) = watch.as_mut() else {
            return;
        };
        let kept = match told {
            Err(rustix::io::Errno::INTR) => Some(()),
            Ok(_) => told_of.drain(),
            Err(_) => None,
        };
        if kept.is_none() || told_of.told() > MOST {
            tracing::debug!("more has changed than is kept in mind: the next checkpoint walks");
            *watch = None;
            return;
        }
    }
}
