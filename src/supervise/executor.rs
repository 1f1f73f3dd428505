//! Carries out the machines' commands. It starts things and returns; what comes of them
//! arrives as events. It never waits and decides nothing.

mod work;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use machines::exit::Exit;
use machines::supervisor::{Command, Input};
use machines::timer::Timer;
use machines::{component, process, system};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::handle::{Envelope, Message, Signal};
use super::incarnation::{Incarnation, Incarnations, Kind, Who};
use super::outside::{Outside, Start};
use super::programs;
use super::roster::Roster;
use super::status::Facts;
use super::timer::duration;
use crate::cgroups::Cgroup;
use crate::checkpoint::{Job, Order};
use crate::config::{Component, Config, ForwardTo};
use crate::exec::Sessions;
use crate::spawn::{Program, Streams};

/// Signals that came before the main process was started wait for it, up to this many.
const EARLY_SIGNALS: usize = 64;

/// What the executor works with.
#[derive(Debug)]
pub struct Executor {
    config: Arc<Config>,
    /// Where others see what is in force.
    live: watch::Sender<Arc<Config>>,
    /// Which component is which: here they are called by numbers that stay.
    roster: Roster,
    outside: Arc<dyn Outside>,
    sessions: Sessions,
    events: mpsc::Sender<Message>,
    incarnations: Incarnations,
    timers: BTreeMap<Who, JoinHandle<()>>,
    /// The last start of each child.
    children: BTreeMap<Who, Incarnation>,
    /// The sockets that are open for components, in order.
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
        live: watch::Sender<Arc<Config>>,
        outside: Arc<dyn Outside>,
        sessions: Sessions,
        sockets: Vec<Vec<Arc<OwnedFd>>>,
        events: mpsc::Sender<Message>,
    ) -> Self {
        let config = Arc::clone(&live.borrow());
        Self {
            roster: Roster::default().with(names(&config)),
            config,
            live,
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

    /// The configuration that is in force.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Which component is which.
    pub const fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Goes on with another configuration. The components at the places `begun` begin anew;
    /// those that it does not have are down.
    pub fn adopt(&mut self, config: Arc<Config>, sockets: Vec<Vec<Arc<OwnedFd>>>, begun: &[usize]) {
        let roster = self.roster.with(names(&config));
        let gone = self.roster.members();
        let gone = gone.filter(|(_, number)| roster.place(*number).is_none());
        let gone: Vec<_> = gone.map(|(_, number)| number).collect();
        let anew = begun.iter().filter_map(|place| roster.number(*place));
        for number in anew.chain(gone.iter().copied()) {
            self.clear_timer(Who::Component(number));
        }
        for who in gone.into_iter().map(Who::Component) {
            self.children.remove(&who);
            self.early.remove(&who);
            self.facts.starts.remove(&who);
            self.facts.exits.remove(&who);
        }
        self.roster = roster;
        self.sockets = sockets;
        self.live.send_replace(Arc::clone(&config));
        self.config = config;
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
    pub fn exited(&mut self, who: Who, exit: Exit) {
        self.facts.running.remove(&who);
        self.facts.exits.insert(who, exit);
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
            Command::Component(place, effect) => self.for_component(place, effect),
        }
    }

    fn for_system(&mut self, effect: system::Effect) {
        use system::Effect as E;
        match effect {
            E::CloseSessions => self.sessions.close(),
            E::OpenStorage => self.open_storage(),
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

    fn for_component(&mut self, place: usize, effect: component::Effect) {
        use component::Effect as E;
        let (Some(component), Some(number)) = (
            self.config.components.get(place).cloned(),
            self.roster.number(place),
        ) else {
            return;
        };
        let who = Who::Component(number);
        match effect {
            E::Spawn => {
                let incarnation = self.next_child(who);
                let sockets = self
                    .sockets
                    .get(place)
                    .map(Vec::as_slice)
                    .unwrap_or_default();
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
            E::Kill => self.kill(who, Some(&component.cgroup())),
            E::SetTimer(timer) => {
                let timed_out = Input::Component(number, component::Event::TimedOut);
                self.set_timer(who, timer, timed_out);
            }
            E::ClearTimer => self.clear_timer(who),
            _ => {}
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
        let component = self.component(who);
        let sleep = if timer == Timer::Schedule {
            component
                .and_then(|component| component.schedule.clone())
                .map(|schedule| self.outside.until(who, schedule))
        } else {
            duration(&self.config, component, timer)
                .map(|duration| self.outside.sleep(who, duration))
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

    fn component(&self, who: Who) -> Option<&Component> {
        let Who::Component(number) = who else {
            return None;
        };
        self.config.components.get(self.roster.place(number)?)
    }

    fn clear_timer(&mut self, who: Who) {
        self.incarnations.next(who, Kind::Timer);
        if let Some(task) = self.timers.remove(&who) {
            task.abort();
        }
    }
}

/// The names of the components, in order.
fn names(config: &Config) -> impl Iterator<Item = &str> {
    config
        .components
        .iter()
        .map(|component| component.name.as_str())
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
