//! The loop around the machines.
//!
//! **One event in; the machines take it to completion; all commands out. Nothing else
//! ever touches a machine.**

#[cfg(test)]
mod paths;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use machines::component::{Component, Kind};
use machines::machine::Machine;
use machines::process::Process;
use machines::supervisor::{Command, Input, Plan, Reaction, Record, Supervisor};
use machines::system::{self, System};
use machines::{component, operation, process};
use tokio::sync::watch;

use super::executor::Executor;
use super::handle::{Envelope, Inbox, Message, Refusal};
use super::incarnation::Who;
use super::outside::Outside;
use super::status::{self, Phase, Status};
use crate::checkpoint::{Interrupted, Job, Order, Progress, Request};
use crate::config::{self, Changes, Config};
use crate::exec::Sessions;
use crate::pid1::signals::suspend_ourselves;
use crate::telemetry::recorder::Recorder;
use crate::telemetry::ring::Ring;

/// What the loop is made of.
#[derive(Debug)]
pub struct Parts {
    /// The configuration that is in force, for all who look at it.
    pub config: watch::Sender<Arc<Config>>,
    /// What the executor does things to.
    pub outside: Arc<dyn Outside>,
    /// The exec sessions.
    pub sessions: Sessions,
    /// The sockets that are open for the components, in order.
    pub sockets: Vec<Vec<Arc<OwnedFd>>>,
    /// Where the last steps are kept.
    pub ring: Ring,
    /// The other end of the handle.
    pub inbox: Inbox,
}

/// The loop and everything that belongs to it alone.
#[derive(Debug)]
pub struct EventLoop {
    supervisor: Supervisor,
    executor: Executor,
    inbox: Inbox,
    recorder: Recorder,
    /// A restore that was successful, or rolled back, and whose last line waits for
    /// the system to be up again.
    coming_up: Option<(Arc<Job>, operation::Effect)>,
}

impl EventLoop {
    /// Machines in their initial states.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let config = Arc::clone(&parts.config.borrow());
        let supervisor = Supervisor::new(plan(&config));
        let recorder = Recorder::start(parts.ring, config.journal.as_ref(), &supervisor);
        let executor = Executor::new(
            parts.config,
            parts.outside,
            parts.sessions,
            parts.sockets,
            parts.inbox.sender.clone(),
        );
        let mut this = Self {
            supervisor,
            executor,
            inbox: parts.inbox,
            recorder,
            coming_up: None,
        };
        this.executor.facts.since = crate::clock::now();
        this
    }

    /// Boots and runs to the end. Returns the exit code. `interrupted` is what a crash has cut
    /// off; where a component carries the storage, that is found out later.
    pub async fn run(mut self, interrupted: Option<Interrupted>) -> u8 {
        self.start(interrupted);
        loop {
            if let Some(code) = self.supervisor.exit_code() {
                return code;
            }
            // The loop itself holds a sender, so the channel never closes.
            let Some(message) = self.inbox.messages.recv().await else {
                return 70;
            };
            self.receive(message);
        }
    }

    fn start(&mut self, interrupted: Option<Interrupted>) {
        if self.executor.config().has_storage_components() {
            self.take(Input::System(system::Event::Mount));
        } else {
            self.boot(interrupted);
        }
    }

    /// Boots, first finishing what a crash has cut off.
    fn boot(&mut self, interrupted: Option<Interrupted>) {
        let boot = match interrupted {
            None => system::Event::Boot,
            Some(Interrupted::Restore) => system::Event::ResumeRestore,
            Some(Interrupted::RollBack) => system::Event::ResumeRollBack,
        };
        if interrupted.is_some() {
            tracing::warn!("a restore is under way: it is finished or undone before anything else");
            self.executor.begin(Order {
                request: Request::Resume,
                progress: Progress::unheard(),
            });
        }
        self.take(Input::System(boot));
    }

    fn receive(&mut self, message: Message) {
        match message {
            Message::Event(envelope) => self.event(envelope),
            Message::Spawned { incarnation, pid } => {
                self.executor.spawned(incarnation.who, pid);
                if incarnation.who == Who::Process {
                    self.take(Input::Process(process::Event::Launched));
                } else {
                    self.publish();
                }
            }
            Message::Signal(who, signal) => self.executor.pass_on(who, signal),
            Message::Tell {
                incarnation,
                signal,
            } => self.executor.tell(incarnation, signal),
            Message::Suspend => {
                // In an orphaned process group SIGTSTP would stop nothing.
                self.executor.signal(Who::Process, libc::SIGSTOP);
                suspend_ourselves();
            }
            Message::Failure(what) => {
                self.executor.facts.last_failure = Some(what);
                self.publish();
            }
            Message::Adopt(adoption) => {
                let begun = self.adopt(adoption.config, adoption.sockets);
                // Whoever asked may be gone.
                let _ = adoption.reply.send(begun);
            }
            Message::Opened(opened) => self.opened(opened),
        }
    }

    /// Goes on with the boot, unless the system is on its way down since.
    fn opened(&mut self, opened: Result<Option<Interrupted>, String>) {
        if *self.supervisor.system().state() != system::State::Opening {
            return;
        }
        match opened {
            Ok(interrupted) => self.boot(interrupted),
            Err(why) => {
                let why = format!("the checkpoints cannot be opened: {why}");
                tracing::error!("{why}");
                self.executor.facts.last_failure = Some(why);
                self.take(Input::System(system::Event::OpenFailed));
            }
        }
    }

    /// Goes on with another configuration, if that is possible now; returns the names of the
    /// components that begin anew.
    fn adopt(
        &mut self,
        config: Arc<Config>,
        sockets: Vec<Vec<Arc<OwnedFd>>>,
    ) -> Option<Vec<String>> {
        let changes = Changes::between(self.executor.config(), &config);
        let roster = self.executor.roster();
        let is_down = |name| {
            let machines = self.supervisor.components();
            let machine = roster.place_of(name).and_then(|place| machines.get(place));
            machine.is_none_or(Machine::is_down)
        };
        if !self.supervisor.is_settled_down() || !changes.replaced().all(is_down) {
            return None;
        }
        let replaced: Vec<_> = changes.replaced().collect();
        let old = Arc::clone(self.executor.config());
        let place = |component: &config::Component| {
            let name = component.name.as_str();
            let place = roster.place_of(name)?;
            let backoff = &old.components.get(place)?.backoff;
            let machine = self.supervisor.components().get(place)?;
            // A pause by other rules is not waited for.
            let is_over = machine.is_between_tries() && *backoff != component.backoff;
            (!replaced.contains(&name) && !is_over).then_some(place)
        };
        let places: Vec<_> = config.components.iter().map(place).collect();
        let begun = self.supervisor.adopt(plan(&config), &places);
        self.executor.adopt(config, sockets, &begun);
        self.recorder.begin_anew(&self.supervisor);
        // At most one for the system, and one for each component.
        for _ in 0..=self.supervisor.components().len() {
            if let Some(news) = self.supervisor.news() {
                self.take(news);
            }
        }
        self.publish();
        let roster = self.executor.roster();
        let names = begun.iter().filter_map(|place| roster.name(*place));
        Some(names.map(str::to_owned).collect())
    }

    fn event(&mut self, envelope: Envelope) {
        let incarnation = envelope.incarnation;
        if incarnation.is_some_and(|incarnation| !self.executor.is_current(incarnation)) {
            self.executor.facts.stale_events += 1;
            tracing::debug!(input = ?envelope.input, "dropped a stale event");
            return;
        }
        let Some(input) = self.executor.roster().to_machines(envelope.input) else {
            // What it is for is no more.
            if let Some(reply) = envelope.reply {
                let _ = reply.send(Err(self.refusal()));
            }
            return;
        };
        self.note_exit(&input);
        if let Some(order) = envelope.order
            && self.is_acceptable(&input)
        {
            self.executor.begin(order);
        }
        let reaction = self.take(input);
        if let Some(reply) = envelope.reply {
            let refused = reaction.is_refusal() || reaction.is_ignored();
            let answer = if refused { Err(self.refusal()) } else { Ok(()) };
            // Whoever asked may be gone.
            let _ = reply.send(answer);
        }
    }

    /// Takes one event to completion and carries out what comes of it.
    fn take(&mut self, input: Input) -> Reaction {
        let before = *self.supervisor.system().state();
        let reaction = self.supervisor.handle(input.clone());
        self.recorder.record(input, &reaction, &self.supervisor);
        for step in &reaction.steps {
            log(step);
        }
        let after = *self.supervisor.system().state();
        if before != after {
            self.executor.facts.since = crate::clock::now();
            let path = self.supervisor.system().path().join(" > ");
            tracing::info!("the system is {path}");
        }
        if matches!(Phase::of(after), Phase::Serving | Phase::Parked) {
            self.executor.sessions().open();
        }
        for command in &reaction.commands {
            self.executor.carry_out(*command);
        }
        self.conclude(&reaction);
        self.publish();
        reaction
    }

    fn is_acceptable(&self, input: &Input) -> bool {
        matches!(input, Input::System(event) if self.supervisor.accepts(event))
    }

    fn refusal(&self) -> Refusal {
        Refusal {
            state: self.supervisor.system().path().join(" > "),
            accepted: status::accepted(&self.supervisor),
        }
    }

    /// Notes that a child is gone, and a sentence if that was not asked for.
    fn note_exit(&mut self, input: &Input) {
        let (who, exit, name, wanted) = match input {
            Input::Process(process::Event::Exited(exit)) => {
                let wanted = self.supervisor.process().path().contains(&"Stopping");
                (Who::Process, exit, "main process", wanted || exit.success())
            }
            Input::Component(place, component::Event::Exited(exit)) => {
                let roster = self.executor.roster();
                let Some(number) = roster.number(*place) else {
                    return;
                };
                let name = roster.name(*place).unwrap_or("component");
                let machine = self.supervisor.components().get(*place);
                let wanted = machine.is_some_and(|m| m.path().contains(&"Stopping"));
                let component = self.executor.config().components.get(*place);
                let is_done = component.is_some_and(|component| {
                    component.kind != Kind::Service
                        && exit.is_success(&component.success_exit_codes)
                });
                let wanted = wanted || is_done;
                (Who::Component(number), exit, name, wanted)
            }
            _ => return,
        };
        if wanted {
            tracing::debug!("{name} ended: {exit}");
        } else {
            tracing::warn!("{name} ended: {exit}");
            self.executor.facts.last_failure = Some(format!("{name} ended: {exit}"));
        }
        self.executor.exited(who, *exit);
    }

    /// Tells whoever asked for an operation what became of it.
    fn conclude(&mut self, reaction: &Reaction) {
        use operation::Effect as E;
        let outcomes = [E::ReportDone, E::ReportRolledBack, E::ReportFailed];
        let mut effects = reaction.steps.iter().flat_map(|step| &step.effects);
        let outcome = effects.find_map(|effect| match effect {
            Command::Operation(effect) if outcomes.contains(effect) => Some(*effect),
            _ => None,
        });
        if let Some(outcome) = outcome
            && let Some(job) = self.executor.end()
        {
            if let Some(why) = job.error() {
                self.executor.facts.last_failure = Some(why);
            }
            self.coming_up = Some((job, outcome));
        }
        let phase = Phase::of(*self.supervisor.system().state());
        if phase == Phase::Busy {
            return;
        }
        match self.coming_up.take() {
            Some((job, E::ReportDone)) if phase != Phase::Ending || job.is_checkpoint() => {
                job.complete();
            }
            Some((job, E::ReportDone)) => {
                job.give_up("the checkpoint was restored, but the environment did not come up");
            }
            Some((job, E::ReportRolledBack)) => {
                job.give_up("the restore failed and the environment was put back as it was");
            }
            Some((job, _)) if job.is_half_done() => job.give_up(
                "the restore failed, and the environment could not be put back as it was; the next \
                 start of sprite-env does that",
            ),
            Some((job, _)) => job.give_up("the operation failed; nothing was changed"),
            None => {}
        }
    }

    fn publish(&self) {
        let status = Status::of(
            &self.supervisor,
            self.executor.roster(),
            &self.executor.facts,
        );
        self.inbox.status.send_replace(status);
    }
}

/// What `config` wants supervised.
fn plan(config: &Config) -> Plan {
    Plan {
        system: System {
            keep_alive: config.keep_alive_on_error,
            ..System::default()
        },
        process: Process {
            budget: config.process.max_retries,
            success: config.process.success_exit_codes.clone(),
            ..Process::default()
        },
        components: config
            .components
            .iter()
            .map(|component| Component {
                kind: component.kind,
                success: component.success_exit_codes.clone(),
                on_failure: component.on_failure,
                budget: component.max_restarts,
                storage: component.storage,
                ..Component::default()
            })
            .collect(),
        needs: config.components.iter().map(|c| c.needs.clone()).collect(),
    }
}

fn log(step: &Record) {
    tracing::debug!(
        input = ?step.input,
        from = step.from,
        to = step.to,
        taken = ?step.taken,
        effects = ?step.effects,
        "step"
    );
}
