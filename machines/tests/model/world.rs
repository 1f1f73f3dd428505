//! A world for the machines to run in: it does what they ask, in every order, with
//! faults where faults are left.

use machines::chart::Chart as _;
use machines::component::{self, OnFailure};
use machines::exit::Exit;
use machines::operation;
use machines::process;
use machines::supervisor::{Command, Input, Plan, Supervisor};
use machines::system::{self, System};

/// The machines and the world, at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct World {
    pub machines: Supervisor,
    /// What really runs, component by component.
    pub components: Vec<Proc>,
    /// Whether the main process really runs.
    pub process: Proc,
    /// Sessions, daemonised children: what runs without a machine of its own.
    pub strays: bool,
    /// Whether the tree is being swept.
    pub sweeping: bool,
    pub system_timer: bool,
    /// The step of an operation that the world is busy with.
    pub job: Option<operation::Effect>,
    /// Whether a cancelled step is still winding down.
    pub winding_down: bool,
    pub operation_timer: bool,
    /// Whether writes are held.
    pub frozen: bool,
    /// The durable record of a restore under way.
    pub intent: Option<Intent>,
    pub faults_left: u8,
    pub crashes_left: u8,
    /// What must never be, if it was.
    pub violation: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Proc {
    pub alive: bool,
    pub timer: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Intent {
    Restore,
    RollBack,
}

/// Something that happens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The world goes on by itself.
    Own(Input),
    /// Something goes wrong that need not.
    Fault(Input),
    /// Somebody asks for something.
    Request(Input),
    /// Something starts that no machine knows of.
    Stray,
    /// The daemon dies at once, all processes with it, and is started again.
    Crash(Plan),
}

impl World {
    pub fn new(plan: &Plan, faults: u8, crashes: u8) -> Self {
        let mut world = Self::off(plan, faults, crashes);
        world.handle(Input::System(system::Event::Boot));
        world
    }

    /// Before anything was started.
    fn off(plan: &Plan, faults: u8, crashes: u8) -> Self {
        Self {
            machines: Supervisor::new(plan.clone()),
            components: vec![Proc::default(); plan.components.len()],
            process: Proc::default(),
            strays: false,
            sweeping: false,
            system_timer: false,
            job: None,
            winding_down: false,
            operation_timer: false,
            frozen: false,
            intent: None,
            faults_left: faults,
            crashes_left: crashes,
            violation: None,
        }
    }

    pub fn system(&self) -> system::State {
        *self.machines.system().state()
    }

    pub fn is_over(&self) -> bool {
        System::is_final(&self.system())
    }

    /// All that may happen next.
    pub fn actions(&self, plan: &Plan, out: &mut Vec<Action>) {
        if self.violation.is_some() || self.is_over() {
            return;
        }
        self.component_actions(out);
        self.process_actions(out);
        self.operation_actions(out);
        if self.sweeping {
            if !self.anything_alive() {
                out.push(Action::Own(Input::System(system::Event::TreeEmpty)));
            }
            if self.system_timer {
                out.push(Action::Own(Input::System(system::Event::TimedOut)));
            }
        }
        for event in [
            system::Event::Checkpoint,
            system::Event::Restore,
            system::Event::StartProcess,
            system::Event::Shutdown,
        ] {
            out.push(Action::Request(Input::System(event)));
        }
        if !self.strays && (self.process.alive || self.admits_sessions()) {
            out.push(Action::Stray);
        }
        if self.crashes_left > 0 {
            out.push(Action::Crash(plan.clone()));
        }
        if self.faults_left == 0 {
            out.retain(|action| !matches!(action, Action::Fault(_)));
        }
    }

    /// Lets `action` happen.
    pub fn take(&mut self, action: &Action) {
        match action {
            Action::Own(input) | Action::Request(input) => self.happen(input),
            Action::Fault(input) => {
                self.faults_left -= 1;
                self.happen(input);
            }
            Action::Stray => self.strays = true,
            Action::Crash(plan) => {
                let intent = self.intent;
                *self = Self::off(plan, self.faults_left, self.crashes_left - 1);
                self.intent = intent;
                self.handle(Input::System(match intent {
                    None => system::Event::Boot,
                    Some(Intent::Restore) => system::Event::ResumeRestore,
                    Some(Intent::RollBack) => system::Event::ResumeRollBack,
                }));
            }
        }
    }

    pub fn anything_alive(&self) -> bool {
        self.process.alive || self.strays || self.components.iter().any(|c| c.alive)
    }

    fn admits_sessions(&self) -> bool {
        use system::State as S;
        matches!(
            self.system(),
            S::Running | S::Degraded | S::Checkpointing | S::Preparing | S::Parked
        )
    }

    fn component_actions(&self, out: &mut Vec<Action>) {
        use component::{Event, State as S};
        for (id, machine) in self.machines.components().iter().enumerate() {
            let (state, proc) = (*machine.state(), self.components[id]);
            let told = matches!(state, S::Terminating | S::Killing | S::Aborting);
            let input = |event| Input::Component(id, event);
            if proc.alive && state == S::Starting {
                out.push(Action::Own(input(Event::Ready)));
            }
            if proc.alive && told {
                out.push(Action::Own(input(Event::Exited(Exit::Signal(15)))));
            } else if proc.alive {
                out.push(Action::Fault(input(Event::Exited(Exit::Code(1)))));
            }
            if proc.timer && state == S::Starting {
                out.push(Action::Fault(input(Event::TimedOut)));
            } else if proc.timer {
                out.push(Action::Own(input(Event::TimedOut)));
            }
        }
    }

    fn process_actions(&self, out: &mut Vec<Action>) {
        use process::{Event, State as S};
        let state = *self.machines.process().state();
        if self.process.alive {
            if state == S::Launching {
                out.push(Action::Own(Input::Process(Event::Launched)));
            }
            if matches!(state, S::Terminating | S::Killing) {
                for exit in [Exit::Code(0), Exit::Signal(15)] {
                    out.push(Action::Own(Input::Process(Event::Exited(exit))));
                }
            } else {
                for exit in [Exit::Code(0), Exit::Code(1)] {
                    out.push(Action::Fault(Input::Process(Event::Exited(exit))));
                }
            }
        }
        if self.process.timer {
            out.push(Action::Own(Input::Process(Event::TimedOut)));
        }
    }

    fn operation_actions(&self, out: &mut Vec<Action>) {
        use operation::{Effect, Event};
        if let Some(job) = self.job {
            let done = match job {
                Effect::Announce => Event::Announced,
                Effect::PreCopy => Event::PreCopied,
                Effect::Freeze => Event::Frozen,
                Effect::Capture => Event::Captured,
                Effect::Thaw => Event::Thawed,
                Effect::Seal => Event::Sealed,
                Effect::Replicate => Event::Replicated,
                Effect::Resolve => Event::Resolved,
                Effect::Fetch => Event::Fetched,
                Effect::Save => Event::Saved,
                Effect::Swap => Event::Swapped,
                Effect::Verify => Event::Verified,
                Effect::RollBack => Event::RolledBack,
                Effect::Discard => Event::Discarded,
                other => unreachable!("{other:?} is no job"),
            };
            out.push(Action::Own(Input::Operation(done)));
            // A thaw is never given up, so it has no failure.
            if job != Effect::Thaw {
                out.push(Action::Fault(Input::Operation(Event::Failed)));
            }
        }
        if self.operation_timer {
            out.push(Action::Fault(Input::Operation(Event::TimedOut)));
        }
    }

    /// Lets the world change as `input` says, and tells the machines.
    fn happen(&mut self, input: &Input) {
        match input {
            Input::Component(id, component::Event::Exited(_)) => self.components[*id].alive = false,
            Input::Component(id, component::Event::TimedOut) => self.components[*id].timer = false,
            Input::Process(process::Event::Exited(_)) => self.process.alive = false,
            Input::Process(process::Event::TimedOut) => self.process.timer = false,
            Input::Operation(operation::Event::TimedOut) => self.operation_timer = false,
            Input::Operation(event) => self.job_ended(event),
            Input::System(system::Event::TreeEmpty) => self.sweeping = false,
            Input::System(system::Event::TimedOut) => self.system_timer = false,
            _ => {}
        }
        self.handle(input.clone());
    }

    fn job_ended(&mut self, event: &operation::Event) {
        use operation::{Effect, Event};
        match (self.job.take(), event) {
            // A failed freeze may have held some already: the thaw must come all the same.
            (Some(Effect::Freeze), _) => self.frozen = true,
            (_, Event::Thawed) => self.frozen = false,
            (_, Event::Verified | Event::RolledBack) => self.intent = None,
            (Some(Effect::Discard), _) => self.winding_down = false,
            _ => {}
        }
    }

    fn handle(&mut self, input: Input) {
        for command in self.machines.handle(input).commands {
            match command {
                Command::System(effect) => self.for_system(effect),
                Command::Operation(effect) => self.for_operation(effect),
                Command::Process(effect) => self.for_process(effect),
                Command::Component(id, effect) => self.for_component(id, effect),
            }
        }
    }

    fn for_system(&mut self, effect: system::Effect) {
        use system::Effect as E;
        match effect {
            E::SweepTree => {
                if self.process.alive || self.components.iter().any(|c| c.alive) {
                    self.violate("swept before the process and the components are down");
                }
                self.sweeping = true;
                // Some go when told; those that do not are killed at the deadline.
            }
            E::KillTree => self.strays = false,
            E::SetTimer(_) => self.system_timer = true,
            E::ClearTimer => self.system_timer = false,
            _ => {}
        }
    }

    fn for_component(&mut self, id: usize, effect: component::Effect) {
        use component::Effect as E;
        let stopping = matches!(
            self.machines.components()[id].state(),
            component::State::Terminating | component::State::Killing
        );
        match effect {
            E::Spawn if self.components[id].alive => self.violate("component started twice"),
            E::Spawn if self.is_swapping() => self.violate("component started during a swap"),
            E::Spawn => self.components[id].alive = true,
            E::Terminate | E::Kill if stopping && self.process.alive => {
                self.violate("component stopped under the process");
            }
            E::Terminate if self.needed_by_something_alive(id) => {
                self.violate("component stopped under another that needs it");
            }
            E::SetTimer(_) => self.components[id].timer = true,
            E::ClearTimer => self.components[id].timer = false,
            _ => {}
        }
    }

    fn needed_by_something_alive(&self, id: usize) -> bool {
        let mut needs = self.machines.needs().iter().zip(&self.components);
        needs.any(|(needs, dependent)| dependent.alive && needs.contains(&id))
    }

    fn for_process(&mut self, effect: process::Effect) {
        use process::Effect as E;
        match effect {
            E::Spawn if self.process.alive => self.violate("process started twice"),
            E::Spawn if self.is_swapping() => self.violate("process started during a swap"),
            // A restart of the process need not wait for a component that restarts too.
            E::Spawn
                if self.machines.process().chart().restarts == 0
                    && !self.all_components_settled() =>
            {
                self.violate("process started before its components were ready");
            }
            E::Spawn => self.process.alive = true,
            E::SetTimer(_) => self.process.timer = true,
            E::ClearTimer => self.process.timer = false,
            _ => {}
        }
    }

    fn all_components_settled(&self) -> bool {
        self.machines.components().iter().all(|c| {
            *c.state() == component::State::Ready
                || *c.state() == component::State::Failed
                    && c.chart().on_failure == OnFailure::Ignore
        })
    }

    fn is_swapping(&self) -> bool {
        use operation::Effect as E;
        matches!(self.job, Some(E::Swap | E::Verify | E::RollBack))
    }

    fn for_operation(&mut self, effect: operation::Effect) {
        use operation::Effect as E;
        match effect {
            E::SetTimer(_) => self.operation_timer = true,
            E::ClearTimer => self.operation_timer = false,
            E::Cancel => {
                if self.job == Some(E::Freeze) {
                    self.frozen = true;
                }
                self.winding_down = self.job.take().is_some();
            }
            _ if self.job.is_some() => self.violate("two jobs at once"),
            E::Capture if !self.frozen => self.violate("captured without a freeze"),
            E::Swap | E::RollBack if self.frozen => self.violate("restored during a checkpoint"),
            E::Swap | E::RollBack if self.anything_alive() => {
                self.violate("restored under something that runs");
            }
            E::Swap | E::RollBack | E::Seal if self.winding_down => {
                self.violate("a cancelled job may still be at work");
            }
            E::Swap => self.begin(Intent::Restore, effect),
            E::RollBack => self.begin(Intent::RollBack, effect),
            effect => self.job = Some(effect),
        }
    }

    fn begin(&mut self, intent: Intent, effect: operation::Effect) {
        self.intent = Some(intent);
        self.job = Some(effect);
    }

    fn violate(&mut self, what: &'static str) {
        self.violation.get_or_insert(what);
    }
}
