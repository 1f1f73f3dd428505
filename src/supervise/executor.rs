//! Carries out the machines' commands. It starts things and returns; what comes of them
//! arrives as events. It never waits and decides nothing.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use machines::supervisor::{Command, Input};
use machines::timer::Timer;
use machines::{component, operation, process, system};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::handle::{Envelope, Message, Signal};
use super::incarnation::{Incarnation, Incarnations, Kind, Who};
use super::outside::{Outside, Start};
use super::programs;
use super::status::Facts;
use super::timer::Durations;
use crate::cgroups::Cgroup;
use crate::checkpoint::{Job, Order};
use crate::config::{Config, ForwardTo, Schedule};
use crate::exec::Sessions;
use crate::spawn::{Program, Streams};

/// Signals that came before the main process was started wait for it, up to this many.
const EARLY_SIGNALS: usize = 64;

/// What the executor works with.
#[derive(Debug)]
pub struct Executor {
    config: Arc<Config>,
    durations: Durations,
    outside: Arc<dyn Outside>,
    sessions: Sessions,
    events: mpsc::Sender<Message>,
    incarnations: Incarnations,
    timers: BTreeMap<Who, JoinHandle<()>>,
    /// The last start of each child.
    children: BTreeMap<Who, Incarnation>,
    /// The sockets that are open for components, by number.
    sockets: Vec<Vec<Arc<OwnedFd>>>,
    /// Signals for children that are still being started.
    early: BTreeMap<Who, Vec<Signal>>,
    job: Option<Arc<Job>>,
    /// The work under way, or given up but not ended yet: the next waits for it.
    work: Option<JoinHandle<()>>,
    /// Tells the sweep that there is no more time.
    kill_tree: watch::Sender<bool>,
    /// What the machines do not know.
    pub(super) facts: Facts,
}

impl Executor {
    /// Ready to carry out commands.
    pub fn new(
        config: Arc<Config>,
        outside: Arc<dyn Outside>,
        sessions: Sessions,
        sockets: Vec<Vec<Arc<OwnedFd>>>,
        events: mpsc::Sender<Message>,
    ) -> Self {
        Self {
            durations: Durations::new(&config),
            config,
            outside,
            sessions,
            events,
            incarnations: Incarnations::default(),
            timers: BTreeMap::new(),
            children: BTreeMap::new(),
            sockets,
            early: BTreeMap::new(),
            job: None,
            work: None,
            kill_tree: watch::Sender::new(false),
            facts: Facts::default(),
        }
    }

    /// Whether what `incarnation` stands for was not replaced.
    pub fn is_current(&self, incarnation: Incarnation) -> bool {
        self.incarnations.is_current(incarnation)
    }

    /// Takes in the order of an operation that the machines have accepted.
    pub fn begin(&mut self, order: Order) {
        self.job = Some(Arc::new(Job::new(order)));
    }

    /// The operation is over: gives back what it was.
    pub fn end(&mut self) -> Option<Arc<Job>> {
        self.job.take()
    }

    /// The exec sessions.
    pub const fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// A child was started: signals that came too early reach it now.
    pub fn spawned(&mut self, who: Who, pid: i32) {
        self.facts.running.insert(who, (pid, Instant::now()));
        for signal in self.early.remove(&who).unwrap_or_default() {
            self.pass_on(who, signal);
        }
    }

    /// A child is gone.
    pub fn exited(&mut self, who: Who) {
        self.facts.running.remove(&who);
        self.early.remove(&who);
    }

    /// Sends a signal to the process group of `who`, or as the configuration and the signal
    /// want it to the process alone.
    pub fn pass_on(&mut self, who: Who, signal: Signal) {
        if let Some((pid, _)) = self.facts.running.get(&who) {
            let alone = who == Who::Process && self.config.process.forward_to == ForwardTo::Process;
            if alone || signal.value.is_some() {
                self.outside.signal_alone(*pid, signal.number, signal.value);
            } else {
                self.outside.signal(*pid, signal.number);
            }
        } else if let Some(early) = self.early.get_mut(&who)
            && early.len() < EARLY_SIGNALS
        {
            early.push(signal);
        }
    }

    /// Sends a signal to the process group of `who`.
    pub fn signal(&mut self, who: Who, signal: i32) {
        if let Some((pid, _)) = self.facts.running.get(&who) {
            self.outside.signal(*pid, signal);
        } else {
            self.pass_on(who, signal.into());
        }
    }

    /// Kills the process group of `who`, and everything in `cgroup`.
    fn kill(&mut self, who: Who, cgroup: Option<&Cgroup>) {
        match self.facts.running.get(&who) {
            Some((pid, _)) => self.outside.kill(*pid, cgroup),
            None => self.pass_on(who, libc::SIGKILL.into()),
        }
    }

    /// Starts what `command` asks for.
    pub fn carry_out(&mut self, command: Command) {
        match command {
            Command::System(effect) => self.for_system(effect),
            Command::Operation(effect) => self.for_operation(effect),
            Command::Process(effect) => self.for_process(effect),
            Command::Component(id, effect) => self.for_component(id, effect),
        }
    }

    fn for_system(&mut self, effect: system::Effect) {
        use system::Effect as E;
        match effect {
            E::CloseSessions => self.sessions.close(),
            E::SweepTree => self.sweep_tree(),
            E::KillTree => {
                self.kill_tree.send_replace(true);
            }
            E::SetTimer(timer) => {
                self.set_timer(Who::System, timer, Input::System(system::Event::TimedOut));
            }
            E::ClearTimer => self.clear_timer(Who::System),
            // A refusal is answered by the event loop; the rest is for other machines.
            _ => {}
        }
    }

    fn for_process(&mut self, effect: process::Effect) {
        use process::Effect as E;
        let who = Who::Process;
        match effect {
            E::Spawn => {
                let incarnation = self.next_child(who);
                self.start(programs::process(&self.config.process, incarnation));
            }
            E::Terminate => {
                let process = &self.config.process;
                let signal = process.signal_map.apply(libc::SIGTERM);
                let signal = signal.unwrap_or(libc::SIGTERM);
                let hook = process.pre_stop.as_ref().map(|hook| {
                    let command = hook.command.clone();
                    let program = Program::of_process(process, command, Streams::Output);
                    (program, hook.timeout)
                });
                self.terminate(who, "main process".to_owned(), hook, None, signal);
            }
            E::Kill => self.kill(who, None),
            E::SetTimer(timer) => {
                self.set_timer(who, timer, Input::Process(process::Event::TimedOut));
            }
            E::ClearTimer => self.clear_timer(who),
            _ => {}
        }
    }

    fn for_component(&mut self, id: usize, effect: component::Effect) {
        use component::Effect as E;
        let who = Who::Component(id);
        let Some(component) = self.config.components.get(id).cloned() else {
            return;
        };
        match effect {
            E::Spawn => {
                let incarnation = self.next_child(who);
                let sockets = self.sockets.get(id).map(Vec::as_slice).unwrap_or_default();
                self.start(programs::component(&component, sockets, incarnation));
            }
            E::Terminate => {
                let run = |command| Program::of_component(&component, command, Streams::Output);
                let hook = component.pre_stop.as_ref();
                let hook = hook.map(|hook| (run(hook.command.clone()), hook.timeout));
                let stop = component.stop_command.clone();
                let stop = stop.map(|command| (run(command), component.stop_timeout));
                let name = component.name.clone();
                self.terminate(who, name, hook, stop, component.stop_signal);
            }
            E::Kill => self.kill(who, Some(&Cgroup::Component(component.name))),
            E::SetTimer(timer) => {
                let timed_out = Input::Component(id, component::Event::TimedOut);
                self.set_timer(who, timer, timed_out);
            }
            E::ClearTimer => self.clear_timer(who),
            _ => {}
        }
    }

    fn for_operation(&mut self, effect: operation::Effect) {
        use operation::Effect as E;
        match effect {
            E::SetTimer(timer) => {
                let timed_out = Input::Operation(operation::Event::TimedOut);
                self.set_timer(Who::Operation, timer, timed_out);
            }
            E::ClearTimer => self.clear_timer(Who::Operation),
            E::Cancel => {
                // What it still reports is stale; what it still does, the next work waits for.
                self.incarnations.next(Who::Operation, Kind::Job);
                if let Some(job) = &self.job {
                    job.fail("given up: the time for it ran out, or the system stops");
                    job.cancel();
                }
            }
            E::Hurry => {
                if let Some(job) = &self.job {
                    job.cancel();
                }
            }
            effect => self.work(effect),
        }
    }

    fn next_child(&mut self, who: Who) -> Incarnation {
        let incarnation = self.incarnations.next(who, Kind::Child);
        self.children.insert(who, incarnation);
        self.early.insert(who, Vec::new());
        *self.facts.starts.entry(who).or_default() += 1;
        incarnation
    }

    fn start(&self, start: Start) {
        self.outside.start(start, self.events.clone());
    }

    /// Tells `who` to go, after what is to be run before, and by `stop` if that works.
    fn terminate(
        &mut self,
        who: Who,
        name: String,
        before: Option<(Program, Duration)>,
        stop: Option<(Program, Duration)>,
        signal: i32,
    ) {
        let Some(incarnation) = self.children.get(&who).copied() else {
            return;
        };
        if before.is_none() && stop.is_none() {
            return self.tell(incarnation, Some(signal));
        }
        let (outside, events) = (Arc::clone(&self.outside), self.events.clone());
        tokio::spawn(async move {
            if let Some((program, timeout)) = before {
                outside
                    .hook(format!("the pre_stop of {name}"), program, timeout)
                    .await;
            }
            let mut told = false;
            if let Some((program, timeout)) = stop {
                let name = format!("the stop_command of {name}");
                told = outside.hook(name, program, timeout).await;
            }
            let signal = (!told).then_some(signal);
            let message = Message::Tell {
                incarnation,
                signal,
            };
            let _ = events.send(message).await;
        });
    }

    /// Tells a child to go, if it is still the same. If it is stopped it must run to hear it.
    pub fn tell(&mut self, incarnation: Incarnation, signal: Option<i32>) {
        if self.is_current(incarnation) {
            if let Some(signal) = signal {
                self.pass_on(incarnation.who, signal.into());
            }
            self.signal(incarnation.who, libc::SIGCONT);
        }
    }

    fn set_timer(&mut self, who: Who, timer: Timer, input: Input) {
        self.clear_timer(who);
        let incarnation = self.incarnations.next(who, Kind::Timer);
        let events = self.events.clone();
        let sleep = if timer == Timer::Schedule {
            self.schedule(who)
                .map(|schedule| self.outside.until(who, schedule))
        } else {
            let duration = self.durations.of(who, timer);
            duration.map(|duration| self.outside.sleep(who, duration))
        };
        let Some(sleep) = sleep else {
            return;
        };
        let task = tokio::spawn(async move {
            sleep.await;
            report(&events, input, incarnation).await;
        });
        self.timers.insert(who, task);
    }

    fn schedule(&self, who: Who) -> Option<Schedule> {
        match who {
            Who::Component(id) => self.config.components.get(id)?.schedule.clone(),
            _ => None,
        }
    }

    fn clear_timer(&mut self, who: Who) {
        self.incarnations.next(who, Kind::Timer);
        if let Some(task) = self.timers.remove(&who) {
            task.abort();
        }
    }

    fn sweep_tree(&mut self) {
        self.kill_tree.send_replace(false);
        let incarnation = self.incarnations.next(Who::System, Kind::Job);
        let sweep = self.outside.sweep(self.kill_tree.subscribe());
        let events = self.events.clone();
        tokio::spawn(async move {
            // A panic must not leave the system waiting; the kernel ends the rest with us.
            let _ = AssertUnwindSafe(sweep).catch_unwind().await;
            let empty = Input::System(system::Event::TreeEmpty);
            report(&events, empty, incarnation).await;
        });
    }

    fn work(&mut self, effect: operation::Effect) {
        let incarnation = self.incarnations.next(Who::Operation, Kind::Job);
        let Some(job) = self.job.clone() else {
            // Requests are refused before they come here when checkpoints are off.
            let events = self.events.clone();
            let failed = Input::Operation(operation::Event::Failed);
            tokio::spawn(async move { report(&events, failed, incarnation).await });
            return;
        };
        // A thaw cannot wait; everything else waits for work that was given up.
        let before = match effect {
            operation::Effect::Thaw => None,
            _ => self.work.take(),
        };
        let events = self.events.clone();
        let work = self.outside.work(effect, job);
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                let _ = before.await;
            }
            let event = work.await;
            report(&events, Input::Operation(event), incarnation).await;
        });
        if effect != operation::Effect::Thaw {
            self.work = Some(task);
        }
    }
}

/// Sends an event to the loop.
async fn report(events: &mpsc::Sender<Message>, input: Input, incarnation: Incarnation) {
    let envelope = Envelope {
        input,
        incarnation: Some(incarnation),
        order: None,
        reply: None,
    };
    let _ = events.send(Message::Event(envelope)).await;
}
