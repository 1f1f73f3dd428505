//! A world in which everything happens when the test says so: children that do not run,
//! timers that do not tick, work that nobody does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use machines::operation::{Effect, Event};
use tokio::sync::{mpsc, oneshot, watch};

use crate::cgroups::Cgroup;
use crate::checkpoint::{Interrupted, Job};
use crate::config::Schedule;
use crate::spawn::Program;
use crate::supervise::handle::Message;
use crate::supervise::incarnation::{Incarnation, Who};
use crate::supervise::outside::{Outside, Start};

/// Something that the executor did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Start(Who, String),
    Signal(Who, i32),
    Sleep(Who, Duration),
    Until(Who),
    Open,
    Sweep,
    KillTree,
    Work(Effect),
    Cancel,
}

#[derive(Debug, Default)]
pub struct Hands(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    calls: Vec<Call>,
    children: BTreeMap<Who, Incarnation>,
    newborn: Vec<Who>,
    timers: BTreeMap<Who, oneshot::Sender<()>>,
    opening: Option<oneshot::Sender<Result<Option<Interrupted>, String>>>,
    sweep: Option<(oneshot::Sender<()>, watch::Receiver<bool>)>,
    work: Option<(Arc<Job>, oneshot::Sender<Event>)>,
    given_up: Vec<oneshot::Sender<Event>>,
}

/// The process id of a child that does not run.
pub fn pid_of(who: Who) -> i32 {
    match who {
        Who::Component(id) => 200 + i32::try_from(id).unwrap(),
        _ => 100,
    }
}

fn who_is(pid: i32) -> Who {
    match usize::try_from(pid - 200) {
        Ok(id) => Who::Component(id),
        Err(_) => Who::Process,
    }
}

impl Hands {
    /// What was done since the last time.
    pub fn calls(&self) -> Vec<Call> {
        let mut state = self.state();
        // What is told through a flag is noticed here.
        if state
            .sweep
            .as_mut()
            .is_some_and(|(_, kill)| kill.has_changed().unwrap() && *kill.borrow_and_update())
        {
            state.calls.push(Call::KillTree);
        }
        std::mem::take(&mut state.calls)
    }

    /// The last start of a child.
    pub fn child(&self, who: Who) -> Incarnation {
        self.state().children[&who]
    }

    /// The children that were started since the last time.
    pub fn newborn(&self) -> Vec<(Who, Incarnation)> {
        let mut state = self.state();
        let newborn = std::mem::take(&mut state.newborn);
        newborn
            .into_iter()
            .map(|who| (who, state.children[&who]))
            .collect()
    }

    /// Lets a timer run out.
    pub fn fire(&self, who: Who) {
        let timer = self.state().timers.remove(&who).unwrap();
        timer.send(()).unwrap();
    }

    /// Whether a timer runs.
    pub fn is_armed(&self, who: Who) -> bool {
        let state = self.state();
        state
            .timers
            .get(&who)
            .is_some_and(|timer| !timer.is_closed())
    }

    /// Lets the checkpoints be open, or not.
    pub fn end_opening(&self, opened: Result<Option<Interrupted>, String>) {
        let opening = self.state().opening.take().unwrap();
        opening.send(opened).unwrap();
    }

    /// Lets the sweep find nothing left.
    pub fn end_sweep(&self) {
        let (sweep, _) = self.state().sweep.take().unwrap();
        sweep.send(()).unwrap();
    }

    /// Lets the work under way end.
    pub fn end_work(&self, event: Event) {
        let (_, work) = self.state().work.take().unwrap();
        work.send(event).unwrap();
    }

    /// The work that was given up and has not ended.
    pub fn given_up(&self) -> Vec<oneshot::Sender<Event>> {
        std::mem::take(&mut self.state().given_up)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl Outside for Hands {
    fn start(&self, start: Start, _events: mpsc::Sender<Message>) {
        let mut state = self.state();
        let who = start.incarnation.who;
        state
            .calls
            .push(Call::Start(who, start.program.command.join(" ")));
        state.children.insert(who, start.incarnation);
        state.newborn.push(who);
    }

    fn signal(&self, pid: i32, signal: i32) {
        self.state().calls.push(Call::Signal(who_is(pid), signal));
    }

    fn kill(&self, pid: i32, _: Option<&Cgroup>) {
        self.signal(pid, libc::SIGKILL);
    }

    fn signal_alone(&self, _: i32, signal: i32, _: Option<usize>) {
        unreachable!("nobody sends signal {signal} to one process")
    }

    fn sleep(&self, who: Who, duration: Duration) -> BoxFuture<'static, ()> {
        let (fire, fired) = oneshot::channel();
        let mut state = self.state();
        state.calls.push(Call::Sleep(who, duration));
        state.timers.insert(who, fire);
        wait(fired)
    }

    fn until(&self, who: Who, _schedule: Schedule) -> BoxFuture<'static, ()> {
        let (fire, fired) = oneshot::channel();
        let mut state = self.state();
        state.calls.push(Call::Until(who));
        state.timers.insert(who, fire);
        wait(fired)
    }

    fn hook(&self, name: String, _: Program, _: Duration) -> BoxFuture<'static, bool> {
        unreachable!("{name} is not configured")
    }

    fn sweep(&self, mut kill: watch::Receiver<bool>) -> BoxFuture<'static, ()> {
        kill.borrow_and_update();
        let (end, ended) = oneshot::channel();
        let mut state = self.state();
        state.calls.push(Call::Sweep);
        state.sweep = Some((end, kill));
        wait(ended)
    }

    fn open(&self) -> BoxFuture<'static, Result<Option<Interrupted>, String>> {
        let (end, ended) = oneshot::channel();
        let mut state = self.state();
        state.calls.push(Call::Open);
        state.opening = Some(end);
        wait(ended)
    }

    fn work(&self, effect: Effect, job: Arc<Job>) -> BoxFuture<'static, Event> {
        let (end, ended) = oneshot::channel();
        let mut state = self.state();
        if let Some((job, unfinished)) = state.work.take() {
            assert!(job.error().unwrap().starts_with("given up"));
            state.calls.push(Call::Cancel);
            state.given_up.push(unfinished);
        }
        state.calls.push(Call::Work(effect));
        state.work = Some((job, end));
        wait(ended)
    }
}

/// What comes, or nothing for ever if nothing does.
fn wait<T: Send + 'static>(end: oneshot::Receiver<T>) -> BoxFuture<'static, T> {
    async move {
        match end.await {
            Ok(value) => value,
            Err(_) => std::future::pending().await,
        }
    }
    .boxed()
}
