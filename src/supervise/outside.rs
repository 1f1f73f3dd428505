//! Everything that the executor can do to the world, behind one trait: the real world
//! here, and one that a test holds in its hands in `paths`.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use machines::operation::{Effect, Event};
use tokio::sync::{mpsc, watch};

use super::child::Task;
use super::handle::Message;
use super::hook;
use super::incarnation::{Incarnation, Who};
use super::output::Sink;
use super::readiness::Ready;
use crate::cgroups::Cgroup;
use crate::checkpoint::{Engine, Interrupted, Job};
use crate::config::{Probe, Schedule};
use crate::pid1::sweep;
use crate::spawn::{Program, Spawner};

/// The pause before a thaw that failed is tried again.
const THAW_AGAIN: Duration = Duration::from_millis(100);

/// A child to start.
#[derive(Clone, Debug)]
pub struct Start {
    /// How messages call it.
    pub name: String,
    /// What to start.
    pub program: Program,
    /// How a command runs that tells how it does.
    pub check: Program,
    /// How long what it leaves behind may take to go.
    pub patience: Duration,
    /// What tells that its start is over; components only.
    pub ready: Ready,
    /// What tells, while it is up, whether it is of use.
    pub readiness: Option<Probe>,
    /// What tells, while it is up, whether it must be ended.
    pub liveness: Option<Probe>,
    /// Which start it is.
    pub incarnation: Incarnation,
}

/// What the executor can do to the world. Nothing here waits: what comes of it arrives
/// as messages, or when the future that is returned ends.
pub trait Outside: Send + Sync + fmt::Debug {
    /// Starts a child. Its start, its readiness and its end go to `events`.
    fn start(&self, start: Start, events: mpsc::Sender<Message>);
    /// Sends `signal` to the process group that `pid` leads.
    fn signal(&self, pid: i32, signal: i32);
    /// Kills the process group that `pid` leads, and everything in `cgroup`.
    fn kill(&self, pid: i32, cgroup: Option<&Cgroup>);
    /// Sends `signal` to `pid` alone, with `value` if there is one.
    fn signal_alone(&self, pid: i32, signal: i32, value: Option<usize>);
    /// Ends after `duration`. Dropped when the timer of `who` is cleared.
    fn sleep(&self, who: Who, duration: Duration) -> BoxFuture<'static, ()>;
    /// Ends when it is time again. Dropped when the timer of `who` is cleared.
    fn until(&self, who: Who, schedule: Schedule) -> BoxFuture<'static, ()>;
    /// Runs a command, and ends when it has ended or its time has run out. Whether it ended
    /// well.
    fn hook(&self, name: String, program: Program, timeout: Duration) -> BoxFuture<'static, bool>;
    /// Tells everything left in the tree to go, and ends when nothing is left. `kill`
    /// becomes true when there is no more time.
    fn sweep(&self, kill: watch::Receiver<bool>) -> BoxFuture<'static, ()>;
    /// Opens the checkpoints, once what they are on is there. What a crash has cut off, or in
    /// a sentence why they cannot be opened.
    fn open(&self) -> BoxFuture<'static, Result<Option<Interrupted>, String>>;
    /// Does a piece of work of an operation.
    fn work(&self, effect: Effect, job: Arc<Job>) -> BoxFuture<'static, Event>;
}

/// The real world.
#[derive(Debug)]
pub struct RealWorld {
    /// Starts children.
    pub spawner: Spawner,
    /// Where components' output goes.
    pub sink: Sink,
    /// Does the work of checkpoints, if they are on.
    pub engine: Option<Engine>,
}

impl Outside for RealWorld {
    fn start(&self, start: Start, events: mpsc::Sender<Message>) {
        let task = Task {
            spawner: self.spawner.clone(),
            start,
            events,
            sink: self.sink.clone(),
        };
        tokio::spawn(task.run());
    }

    fn signal(&self, pid: i32, signal: i32) {
        self.spawner.reaper.signal_group(pid, signal);
    }

    fn kill(&self, pid: i32, cgroup: Option<&Cgroup>) {
        self.signal(pid, libc::SIGKILL);
        if let (Some(cgroups), Some(cgroup)) = (&self.spawner.cgroups, cgroup) {
            cgroups.kill(Some(cgroup));
        }
    }

    fn signal_alone(&self, pid: i32, signal: i32, value: Option<usize>) {
        self.spawner.reaper.signal_alone(pid, signal, value);
    }

    fn sleep(&self, _who: Who, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }

    fn until(&self, _who: Who, schedule: Schedule) -> BoxFuture<'static, ()> {
        crate::clock::until(move || schedule.next()).boxed()
    }

    fn hook(&self, name: String, program: Program, timeout: Duration) -> BoxFuture<'static, bool> {
        hook::run(self.spawner.clone(), name, program, timeout).boxed()
    }

    fn sweep(&self, kill: watch::Receiver<bool>) -> BoxFuture<'static, ()> {
        let spawner = &self.spawner;
        sweep::sweep(spawner.reaper.clone(), spawner.cgroups.clone(), kill).boxed()
    }

    fn open(&self) -> BoxFuture<'static, Result<Option<Interrupted>, String>> {
        let Some(engine) = self.engine.clone() else {
            return std::future::ready(Ok(None)).boxed();
        };
        async move { engine.open().await.map_err(|error| error.to_string()) }.boxed()
    }

    fn work(&self, effect: Effect, job: Arc<Job>) -> BoxFuture<'static, Event> {
        let Some(engine) = self.engine.clone() else {
            return std::future::ready(Event::Failed).boxed();
        };
        async move {
            let work = AssertUnwindSafe(engine.perform(effect, job)).catch_unwind();
            let event = work.await.unwrap_or(Event::Failed);
            if effect == Effect::Thaw && event == Event::Failed {
                // It will be done again: not at once, so that an error that stays is no storm.
                tokio::time::sleep(THAW_AGAIN).await;
            }
            event
        }
        .boxed()
    }
}
