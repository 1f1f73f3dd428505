//! Carries out the machines' commands. It starts things and returns; what comes of them
//! arrives as events. It never waits and decides nothing.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt as _;
use machines::supervisor::{Command, Input};
use machines::timer::Timer;
use machines::{component, operation, process, system};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::handle::{Envelope, Message};
use super::incarnation::{Incarnation, Incarnations, Kind, Who};
use super::outside::{Outside, Start};
use super::status::Facts;
use super::timer::Durations;
use crate::checkpoint::{Job, Order};
use crate::config::Config;
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
    /// Signals for children that are still being started.
    early: BTreeMap<Who, Vec<i32>>,
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
            self.signal(who, signal);
        }
    }

    /// A child is gone.
    pub fn exited(&mut self, who: Who) {
        self.facts.running.remove(&who);
        self.early.remove(&who);
    }

    /// Sends a signal to the process group of `who`.
    pub fn signal(&mut self, who: Who, signal: i32) {
        if let Some((pid, _)) = self.facts.running.get(&who) {
            self.outside.signal(*pid, signal);
        } else if let Some(early) = self.early.get_mut(&who)
            && early.len() < EARLY_SIGNALS
        {
            early.push(signal);
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
                let process = &self.config.process;
                let program = Program {
                    command: process.command.clone(),
                    arg0: None,
                    working_dir: process.working_dir.clone(),
                    environment: process.environment.clone(),
                    user: process.user.clone(),
                    streams: Streams::Inherited,
                    foreground: true,
                };
                self.spawn(who, "main process".to_owned(), program, None);
            }
            E::Terminate => {
                let signal = self.config.process.signal_map.apply(libc::SIGTERM);
                self.terminate(who, signal.unwrap_or(libc::SIGTERM));
            }
            E::Kill => self.signal(who, libc::SIGKILL),
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
                let program = |command, streams| Program {
                    command,
                    arg0: None,
                    working_dir: component.working_dir.clone(),
                    environment: component.environment.clone(),
                    user: component.user.clone(),
                    streams,
                    foreground: false,
                };
                let start = program(component.start_command.clone(), Streams::Output);
                let ready = component.ready_command.clone();
                let ready = ready.map(|command| program(command, Streams::Piped));
                self.spawn(who, component.name.clone(), start, ready);
            }
            E::Terminate => self.terminate(who, component.stop_signal),
            E::Kill => self.signal(who, libc::SIGKILL),
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

    fn spawn(&mut self, who: Who, name: String, program: Program, ready: Option<Program>) {
        self.early.insert(who, Vec::new());
        let incarnation = self.incarnations.next(who, Kind::Child);
        let start = Start {
            name,
            program,
            ready,
            incarnation,
        };
        self.outside.start(start, self.events.clone());
    }

    /// Tells `who` to go. A stopped process must run to hear it.
    fn terminate(&mut self, who: Who, signal: i32) {
        self.signal(who, signal);
        self.signal(who, libc::SIGCONT);
    }

    fn set_timer(&mut self, who: Who, timer: Timer, input: Input) {
        self.clear_timer(who);
        let incarnation = self.incarnations.next(who, Kind::Timer);
        let Some(duration) = self.durations.of(who, timer) else {
            return;
        };
        let events = self.events.clone();
        let sleep = self.outside.sleep(who, duration);
        let task = tokio::spawn(async move {
            sleep.await;
            report(&events, input, incarnation).await;
        });
        self.timers.insert(who, task);
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
