//! A world for the machines to run in: it does what they ask, in every order, with
//! faults where faults are left.

use super::Setting;
use crate::chart::Chart as _;
use crate::component;
use crate::exit::Exit;
use crate::operation;
use crate::process;
use crate::safety::{self, Intent, Proc, Witness};
use crate::supervisor::{Command, Input, Plan, Reaction, Supervisor};
use crate::system::{self, System};

/// The machines and the world, at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// The machines.
    pub machines: Supervisor,
    /// The world, as far as the machines' commands say.
    pub witness: Witness,
    /// Sessions, daemonised children: what runs without a machine of its own.
    pub strays: bool,
    /// How many more things may go wrong.
    pub faults_left: u8,
    /// How often the daemon may still crash.
    pub crashes_left: u8,
    /// Whether somebody stops, starts and restarts single components.
    pub control: bool,
    /// Whether the configuration was read again.
    pub reloaded: bool,
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
    /// Another plan is taken over: for each of its components, which of those before it is.
    Reload(Plan, Vec<Option<usize>>),
}

impl World {
    /// Boots what `setting` is made of.
    #[must_use]
    pub fn new(setting: &Setting) -> Self {
        let mut world = Self::off(&setting.plan(), setting.faults, setting.crashes);
        world.control = setting.control;
        world.handle(&Input::System(world.first()));
        world
    }

    /// Before anything was started.
    fn off(plan: &Plan, faults: u8, crashes: u8) -> Self {
        let machines = Supervisor::new(plan.clone());
        Self {
            witness: Witness::of(&machines),
            machines,
            strays: false,
            faults_left: faults,
            crashes_left: crashes,
            control: false,
            reloaded: false,
        }
    }

    /// What the machines are told first.
    fn first(&self) -> system::Event {
        let mut components = self.machines.components().iter();
        if components.any(|machine| machine.chart().storage) {
            system::Event::Mount
        } else {
            self.next()
        }
    }

    /// What the machines are told once the storage is there.
    const fn next(&self) -> system::Event {
        match self.witness.intent {
            None => system::Event::Boot,
            Some(Intent::Restore) => system::Event::ResumeRestore,
            Some(Intent::RollBack) => system::Event::ResumeRollBack,
        }
    }

    /// The system's state.
    #[must_use]
    pub fn system(&self) -> system::State {
        *self.machines.system().state()
    }

    /// Whether the daemon is about to exit.
    #[must_use]
    pub fn is_over(&self) -> bool {
        System::is_final(&self.system())
    }

    /// What must always hold and does not.
    #[must_use]
    pub fn broken(&self) -> Option<&'static str> {
        safety::broken(&self.machines, &self.witness)
    }

    /// All that may happen next.
    pub fn actions(&self, setting: &Setting, out: &mut Vec<Action>) {
        if self.witness.violation.is_some() || self.is_over() {
            return;
        }
        self.component_actions(out);
        self.process_actions(out);
        self.operation_actions(out);
        if self.system() == system::State::Opening {
            out.push(Action::Own(Input::System(self.next())));
            out.push(Action::Fault(Input::System(system::Event::OpenFailed)));
        }
        if self.witness.sweeping {
            if !self.strays && !self.witness.is_swept_alive(&self.machines) {
                out.push(Action::Own(Input::System(system::Event::TreeEmpty)));
            }
            if self.witness.system_timer {
                out.push(Action::Own(Input::System(system::Event::TimedOut)));
            }
        }
        for event in [
            system::Event::Checkpoint,
            system::Event::Restore,
            system::Event::StartProcess,
            system::Event::StopProcess,
            system::Event::RestartProcess,
            system::Event::Shutdown,
        ] {
            out.push(Action::Request(Input::System(event)));
        }
        let components = 0..self.machines.components().len();
        for id in components.filter(|_| self.control) {
            out.extend(
                [
                    system::Event::StartComponent(id),
                    system::Event::StopComponent(id),
                    system::Event::RestartComponent(id),
                ]
                .map(|event| Action::Request(Input::System(event))),
            );
        }
        if !self.strays && (self.witness.process.alive || self.admits_sessions()) {
            out.push(Action::Stray);
        }
        if self.crashes_left > 0 {
            out.push(Action::Crash(setting.plan()));
        }
        if let Some(reload) = &setting.reload
            && self.can_adopt(reload.places)
            && let Some((plan, places)) = setting.next_plan()
        {
            out.push(Action::Reload(plan, places));
        }
        if self.faults_left == 0 {
            out.retain(|action| !matches!(action, Action::Fault(_)));
        }
    }

    /// Lets `action` happen; returns what the machines did, if they were told anything.
    pub fn take(&mut self, action: &Action) -> Option<Reaction> {
        match action {
            Action::Own(input) | Action::Request(input) => Some(self.handle(input)),
            Action::Fault(input) => {
                self.faults_left = self.faults_left.saturating_sub(1);
                Some(self.handle(input))
            }
            Action::Stray => {
                self.strays = true;
                None
            }
            Action::Reload(plan, places) => {
                self.reloaded = true;
                let begun = self.machines.adopt(plan.clone(), places);
                let kept = |(number, place): (usize, &Option<usize>)| match place {
                    Some(old) if !begun.contains(&number) => self.witness.components[*old],
                    _ => Proc::default(),
                };
                self.witness.components = places.iter().enumerate().map(kept).collect();
                let mut all = Reaction::default();
                for _ in 0..=self.machines.components().len() {
                    if let Some(news) = self.machines.news() {
                        let reaction = self.handle(&news);
                        all.steps.extend(reaction.steps);
                        all.commands.extend(reaction.commands);
                    }
                }
                Some(all)
            }
            Action::Crash(plan) => {
                let (intent, control) = (self.witness.intent, self.control);
                *self = Self::off(plan, self.faults_left, self.crashes_left.saturating_sub(1));
                self.control = control;
                self.witness.intent = intent;
                Some(self.handle(&Input::System(self.first())))
            }
        }
    }

    /// Whether a plan that goes on with `places` can be taken over.
    fn can_adopt(&self, places: &[Option<usize>]) -> bool {
        let mut components = self.machines.components().iter().enumerate();
        !self.reloaded
            && self.machines.is_settled_down()
            && components.all(|(old, machine)| places.contains(&Some(old)) || machine.is_down())
    }

    fn admits_sessions(&self) -> bool {
        use system::State as S;
        matches!(
            self.system(),
            S::Running | S::Degraded | S::Checkpointing | S::Preparing | S::Parked
        )
    }

    fn component_actions(&self, out: &mut Vec<Action>) {
        use component::{Event, Kind, State as S};
        for (id, machine) in self.machines.components().iter().enumerate() {
            let (state, proc) = (*machine.state(), self.witness.components[id]);
            let told = matches!(state, S::Terminating | S::Killing | S::Aborting);
            let input = |event| Input::Component(id, event);
            let is_service = machine.chart().kind == Kind::Service;
            let works = !is_service && matches!(state, S::Starting | S::Working);
            if proc.alive && is_service && matches!(state, S::Starting | S::Unready) {
                out.push(Action::Own(input(Event::Ready)));
            }
            if proc.alive && state == S::Ready {
                out.push(Action::Fault(input(Event::Unready)));
            }
            if proc.alive && is_service && matches!(state, S::Ready | S::Unready) {
                out.push(Action::Fault(input(Event::Unhealthy)));
            }
            if proc.alive && told {
                out.push(Action::Own(input(Event::Exited(Exit::Signal(15)))));
            } else if proc.alive {
                out.push(Action::Fault(input(Event::Exited(Exit::Code(1)))));
            }
            if proc.alive && works {
                out.push(Action::Own(input(Event::Exited(Exit::Code(0)))));
            }
            if proc.timer && matches!(state, S::Starting | S::Working) {
                out.push(Action::Fault(input(Event::TimedOut)));
            } else if proc.timer && state == S::Scheduled {
                // Its time need not come before everything else has happened.
                out.push(Action::Request(input(Event::TimedOut)));
            } else if proc.timer {
                out.push(Action::Own(input(Event::TimedOut)));
            }
        }
    }

    fn process_actions(&self, out: &mut Vec<Action>) {
        use process::{Event, State as S};
        let state = *self.machines.process().state();
        if self.witness.process.alive {
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
        if self.witness.process.timer {
            out.push(Action::Own(Input::Process(Event::TimedOut)));
        }
    }

    fn operation_actions(&self, out: &mut Vec<Action>) {
        use operation::{Effect, Event};
        if let Some(job) = self.witness.job {
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
            out.push(Action::Fault(Input::Operation(Event::Failed)));
        }
        if self.witness.operation_timer {
            out.push(Action::Fault(Input::Operation(Event::TimedOut)));
        }
    }

    /// Tells the machines, and the witness of what came of it.
    fn handle(&mut self, input: &Input) -> Reaction {
        let reaction = self.machines.handle(input.clone());
        self.witness.observe(input, &reaction, &self.machines);
        for command in &reaction.commands {
            self.for_strays(*command);
        }
        reaction
    }

    /// What no machine knows of is the kernel's to tell, and goes when it is killed.
    fn for_strays(&mut self, command: Command) {
        use operation::Effect as E;
        match command {
            Command::System(system::Effect::KillTree) => self.strays = false,
            Command::Component(_, component::Effect::Terminate)
                if self.strays && self.system() == system::State::StoppingStorage =>
            {
                self.witness
                    .violate("what carries the storage was stopped under something that runs");
            }
            Command::Operation(E::Swap | E::RollBack) if self.strays => {
                self.witness
                    .violate("the tree was exchanged under something that runs");
            }
            _ => {}
        }
    }
}
