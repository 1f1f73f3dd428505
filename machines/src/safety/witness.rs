//! What the world must look like, judging by what went into the machines and what they
//! asked for: what runs, which timers are armed, what work is under way, what is held.

pub(super) mod of_state;

use crate::component;
use crate::exit::Exit;
use crate::machine::Machine;
use crate::operation;
use crate::process;
use crate::supervisor::{Command, Input, Reaction, Supervisor};
use crate::system;
use of_state::{awaits_empty_tree, component, intent, is_pausing, job, process};

/// Keeps account of the world from one input to the next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct Witness {
    /// What really runs, component by component.
    pub components: Vec<Proc>,
    /// Whether the main process really runs.
    pub process: Proc,
    /// Whether the tree is being swept.
    pub sweeping: bool,
    /// Whether the system's timer is armed.
    pub system_timer: bool,
    /// The step of an operation that the world is busy with.
    pub job: Option<operation::Effect>,
    /// Whether a cancelled step is still winding down.
    pub winding_down: bool,
    /// Whether the operation's timer is armed.
    pub operation_timer: bool,
    /// Whether writes are held, or some of them.
    pub frozen: bool,
    /// Whether all of them are.
    pub still: bool,
    /// How the main process ended last.
    pub last_exit: Option<Exit>,
    /// The durable record of a restore under way.
    pub intent: Option<Intent>,
    /// The first thing that was asked of the world and must never be.
    pub violation: Option<&'static str>,
}

/// A process and its machine's timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Proc {
    /// Whether it was started and has not ended.
    pub alive: bool,
    /// Whether the timer is armed.
    pub timer: bool,
    /// Whether somebody wanted it down, and it has not gone yet.
    pub halted: bool,
}

/// What the durable record of a restore says: what the next start has to finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Intent {
    /// The restored tree is to be put in place.
    Restore,
    /// The old tree is to be put back.
    RollBack,
}

impl Witness {
    /// The world as it must be when the machines are as they are. What cannot be told
    /// from their states (a timer that may have run out already) is taken as usual.
    #[must_use]
    pub fn of(machines: &Supervisor) -> Self {
        let operation = *machines.operation().state();
        Self {
            components: machines
                .components()
                .iter()
                .map(|machine| component(*machine.state()))
                .collect(),
            process: process(*machines.process().state()),
            sweeping: awaits_empty_tree(*machines.system().state()),
            system_timer: awaits_empty_tree(*machines.system().state()),
            job: job(operation),
            winding_down: false,
            operation_timer: is_pausing(operation),
            frozen: matches!(
                operation,
                operation::State::Capturing | operation::State::Thawing { .. }
            ),
            still: matches!(operation, operation::State::Capturing),
            last_exit: machines.process().chart().last,
            intent: intent(operation),
            violation: None,
        }
    }

    /// Takes in one input and what came of it; `machines` are as they were left.
    pub fn observe(&mut self, input: &Input, reaction: &Reaction, machines: &Supervisor) {
        self.happened(input);
        for step in &reaction.steps {
            if let Input::Component(id, component::Event::Halt | component::Event::Restart) =
                step.input
                && let Some(proc) = self.components.get_mut(id)
            {
                proc.halted = proc.alive;
            }
            let mut properties = super::STEPS.iter();
            if let Some((what, _)) = properties.find(|(_, holds)| !holds(step, machines)) {
                self.violate(what);
            }
        }
        for command in &reaction.commands {
            match command {
                Command::System(effect) => self.for_system(*effect, machines),
                Command::Operation(effect) => self.for_operation(*effect, machines),
                Command::Process(effect) => self.for_process(*effect, machines),
                Command::Component(id, effect) => self.for_component(*id, *effect, machines),
            }
        }
    }

    /// Whether the main process or a component runs.
    #[must_use]
    pub fn anything_alive(&self) -> bool {
        self.process.alive || self.components.iter().any(|c| c.alive)
    }

    /// Whether anything runs that a sweep of the tree has to wait for: what carries the storage
    /// stays in a restore, and goes last in a stop.
    #[must_use]
    pub fn is_swept_alive(&self, machines: &Supervisor) -> bool {
        let system = machines.system();
        if *system.state() == system::State::SweepingTree && !system.chart().mounted {
            self.anything_alive()
        } else {
            self.is_tree_alive(machines)
        }
    }

    /// Whether anything runs that uses the storage.
    fn is_tree_alive(&self, machines: &Supervisor) -> bool {
        let mut components = self.components.iter().zip(machines.components());
        self.process.alive || components.any(|(it, machine)| it.alive && !machine.chart().storage)
    }

    /// Whether nothing runs, is armed, held or under way.
    #[must_use]
    pub fn nothing_left(&self) -> bool {
        !self.anything_alive()
            && self.job.is_none()
            && !self.winding_down
            && !self.frozen
            && !self.process.timer
            && !self.system_timer
            && !self.operation_timer
            && self.components.iter().all(|c| !c.timer)
    }

    /// Notes that `what` was asked, which must never be. The first counts.
    pub fn violate(&mut self, what: &'static str) {
        self.violation.get_or_insert(what);
    }

    /// The world changes as the input says.
    fn happened(&mut self, input: &Input) {
        match input {
            Input::Component(id, event) => {
                if let Some(proc) = self.components.get_mut(*id) {
                    match event {
                        component::Event::Exited(_) => {
                            proc.alive = false;
                            proc.halted = false;
                        }
                        component::Event::TimedOut => proc.timer = false,
                        _ => {}
                    }
                }
            }
            Input::Process(process::Event::Exited(exit)) => {
                self.process.alive = false;
                self.last_exit = Some(*exit);
            }
            Input::Process(process::Event::TimedOut) => self.process.timer = false,
            Input::Operation(operation::Event::TimedOut) => self.operation_timer = false,
            Input::Operation(event) => self.job_ended(event),
            Input::System(system::Event::TreeEmpty) => self.sweeping = false,
            Input::System(system::Event::TimedOut) => self.system_timer = false,
            Input::Process(_) | Input::System(_) => {}
        }
    }

    fn job_ended(&mut self, event: &operation::Event) {
        use operation::{Effect, Event};
        match (self.job.take(), event) {
            // A failed freeze may have held some already: the thaw must come all the same.
            (Some(Effect::Freeze), _) => {
                self.frozen = true;
                self.still = *event == Event::Frozen;
            }
            (_, Event::Thawed) => {
                self.frozen = false;
                self.still = false;
            }
            (_, Event::Verified | Event::RolledBack) => self.intent = None,
            (Some(Effect::Discard), _) => self.winding_down = false,
            _ => {}
        }
    }

    fn for_system(&mut self, effect: system::Effect, machines: &Supervisor) {
        use system::Effect as E;
        match effect {
            E::SweepTree => {
                if self.is_swept_alive(machines) {
                    self.violate(
                        "the tree was swept before the process and the components were down",
                    );
                }
                self.sweeping = true;
            }
            E::SetTimer(_) => self.system_timer = true,
            E::ClearTimer => self.system_timer = false,
            _ => {}
        }
    }

    fn for_component(&mut self, id: usize, effect: component::Effect, machines: &Supervisor) {
        use component::Effect as E;
        let state = machines.components().get(id).map(|c| *c.state());
        let chart = machines.components().get(id).map(Machine::chart);
        let storage = chart.is_some_and(|chart| chart.storage);
        let system = machines.system().state();
        let is_restoring = machines.system().path().contains(&"Restoring");
        let stopping = matches!(
            state,
            Some(component::State::Terminating | component::State::Killing)
        );
        let Some(proc) = self.components.get(id).copied() else {
            return self.violate("something was asked for a component that does not exist");
        };
        match effect {
            E::Spawn if proc.alive => self.violate("a component was started twice"),
            E::Spawn if storage => {}
            E::Spawn if self.is_swapping() => {
                self.violate("a component was started during a swap");
            }
            E::Spawn if matches!(system, system::State::Mounting | system::State::Opening) => {
                self.violate("a component was started before the checkpoints were opened");
            }
            E::Terminate | E::Kill if proc.halted => {}
            E::Terminate | E::Kill if storage && stopping && is_restoring => {
                self.violate("what carries the storage was stopped by a restore");
            }
            E::Terminate | E::Kill if storage && stopping && self.is_tree_alive(machines) => {
                self.violate("what carries the storage was stopped under something that runs");
            }
            E::Terminate | E::Kill if stopping && self.process.alive => {
                self.violate("a component was stopped under the main process");
            }
            E::Terminate if stopping && self.is_needed_by_something_alive(id, machines) => {
                self.violate("a component was stopped under another that needs it");
            }
            _ => {}
        }
        if let Some(proc) = self.components.get_mut(id) {
            match effect {
                E::Spawn => proc.alive = true,
                E::SetTimer(_) => proc.timer = true,
                E::ClearTimer => proc.timer = false,
                _ => {}
            }
        }
    }

    fn is_needed_by_something_alive(&self, id: usize, machines: &Supervisor) -> bool {
        let mut needs = machines.needs().iter().zip(&self.components);
        needs.any(|(needs, dependent)| dependent.alive && needs.contains(&id))
    }

    fn for_process(&mut self, effect: process::Effect, machines: &Supervisor) {
        use process::Effect as E;
        match effect {
            E::Spawn if self.process.alive => self.violate("the main process was started twice"),
            E::Spawn if self.is_swapping() => {
                self.violate("the main process was started during a swap");
            }
            // A restart of the process need not wait for a component that restarts too.
            E::Spawn
                if machines.process().chart().restarts == 0
                    && !machines
                        .components()
                        .iter()
                        .all(|c| c.is_usable() || c.may_be_missing()) =>
            {
                self.violate("the main process was started before its components were ready");
            }
            E::Spawn => self.process.alive = true,
            E::SetTimer(_) => self.process.timer = true,
            E::ClearTimer => self.process.timer = false,
            _ => {}
        }
    }

    fn is_swapping(&self) -> bool {
        use operation::Effect as E;
        matches!(self.job, Some(E::Swap | E::Verify | E::RollBack))
    }

    fn for_operation(&mut self, effect: operation::Effect, machines: &Supervisor) {
        use operation::Effect as E;
        match effect {
            E::SetTimer(_) => self.operation_timer = true,
            E::ClearTimer => self.operation_timer = false,
            E::Cancel => {
                match self.job {
                    Some(E::Freeze) => self.frozen = true,
                    Some(E::Thaw | E::Seal | E::Replicate | E::Swap | E::Verify | E::RollBack) => {
                        self.violate("work that must be finished was given up");
                    }
                    _ => {}
                }
                self.winding_down = self.job.take().is_some();
            }
            E::Hurry if self.job == Some(E::Replicate) => {}
            _ if self.job.is_some() => self.violate("two pieces of work at once"),
            E::Capture if !self.still => self.violate("an instant was taken while things ran"),
            E::Swap | E::RollBack if self.frozen => {
                self.violate("a checkpoint and a restore overlap");
            }
            E::Swap | E::RollBack if self.is_tree_alive(machines) => {
                self.violate("the tree was exchanged under something that runs");
            }
            E::Swap | E::RollBack | E::Seal if self.winding_down => {
                self.violate("work that was given up may still write");
            }
            effect => {
                match effect {
                    E::Swap => self.intent = Some(Intent::Restore),
                    E::RollBack => self.intent = Some(Intent::RollBack),
                    _ => {}
                }
                self.job = Some(effect);
            }
        }
    }
}
