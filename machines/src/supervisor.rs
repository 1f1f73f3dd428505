//! The machines together: the system, the operation, the process, N components.
//!
//! Effects that one machine means for another are delivered here, to the end and in
//! order; only what the world must do comes out.

mod adopt;
mod records;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::chart::Chart;
use crate::component::{self, Component};
use crate::delivery::{self, Delivery, ForComponents, FromSystem};
use crate::machine::{Machine, Step, Taken};
use crate::operation::Operation;
use crate::process::{self, Process};
use crate::system::{self, Failure, System};

pub use records::{Command, Input, Plan, Reaction, Record};

/// The machines together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Supervisor {
    system: Machine<System>,
    operation: Machine<Operation>,
    process: Machine<Process>,
    components: Vec<Machine<Component>>,
    needs: Vec<Vec<usize>>,
    /// Whether the components are on their way down: then those that nothing needs
    /// any more are stopped as the others go.
    stopping_components: bool,
    /// Whether those that carry the storage stay up meanwhile.
    #[serde(default)]
    keeping_storage: bool,
}

impl Supervisor {
    /// All machines in their initial states.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self {
            system: Machine::new(plan.system),
            operation: Machine::new(Operation),
            process: Machine::new(plan.process),
            components: plan.components.into_iter().map(Machine::new).collect(),
            needs: plan.needs,
            stopping_components: false,
            keeping_storage: false,
        }
    }

    /// Takes one event, and all that follows from it, to completion.
    pub fn handle(&mut self, input: Input) -> Reaction {
        let mut inbox = VecDeque::from([input]);
        let mut reaction = Reaction::default();
        while let Some(input) = inbox.pop_front() {
            #[cfg(feature = "mutants")]
            crate::machine::mutation::must_end(reaction.steps.len());
            let commands = &mut reaction.commands;
            let record = match &input {
                Input::System(event) => {
                    let step = self.system.step(event);
                    for effect in &step.effects {
                        self.deliver_system(*effect, &mut inbox, commands);
                    }
                    record(input, step, Command::System)
                }
                Input::Operation(event) => {
                    let step = self.operation.step(event);
                    for effect in &step.effects {
                        match delivery::of_operation(*effect) {
                            Delivery::System(event) => inbox.push_back(Input::System(event)),
                            Delivery::World(effect) => commands.push(Command::Operation(effect)),
                        }
                    }
                    record(input, step, Command::Operation)
                }
                Input::Process(event) => {
                    let step = self.process.step(event);
                    for effect in &step.effects {
                        self.deliver_process(*effect, &mut inbox, commands);
                    }
                    record(input, step, Command::Process)
                }
                Input::Component(id, event) => {
                    let id = *id;
                    // An event for a component that does not exist is of no use to anybody.
                    let Some(machine) = self.components.get_mut(id) else {
                        continue;
                    };
                    let step = machine.step(event);
                    for effect in &step.effects {
                        self.deliver_component(id, *effect, &mut inbox, commands);
                    }
                    record(input, step, |effect| Command::Component(id, effect))
                }
            };
            reaction.steps.push(record);
        }
        reaction
    }

    /// Whether a request would be accepted now.
    #[must_use]
    pub fn accepts(&self, event: &system::Event) -> bool {
        let step = self.system.clone().step(event);
        step.taken != Taken::Ignored && !step.effects.contains(&system::Effect::Refuse)
    }

    /// The exit code that the daemon ends with, once the system is Stopped or Failed:
    /// 70 if a component or a roll-back failed, 78 if the checkpoints could not be opened, else the main process's own.
    #[must_use]
    pub fn exit_code(&self) -> Option<u8> {
        if !System::is_final(self.system.state()) {
            return None;
        }
        Some(match self.system.chart().failure {
            Some(Failure::Component | Failure::Operation) => 70,
            Some(Failure::Storage) => 78,
            Some(Failure::Process) | None => {
                self.process.chart().last.map_or(0, crate::exit::Exit::code)
            }
        })
    }

    /// The system.
    #[must_use]
    pub const fn system(&self) -> &Machine<System> {
        &self.system
    }

    /// The operation.
    #[must_use]
    pub const fn operation(&self) -> &Machine<Operation> {
        &self.operation
    }

    /// The main process.
    #[must_use]
    pub const fn process(&self) -> &Machine<Process> {
        &self.process
    }

    /// The components, in configured order.
    #[must_use]
    pub fn components(&self) -> &[Machine<Component>] {
        &self.components
    }

    /// For each component, the numbers of those that it needs.
    #[must_use]
    pub fn needs(&self) -> &[Vec<usize>] {
        &self.needs
    }

    fn deliver_system(
        &mut self,
        effect: system::Effect,
        inbox: &mut VecDeque<Input>,
        commands: &mut Vec<Command>,
    ) {
        match delivery::of_system(effect) {
            FromSystem::Operation(event) => inbox.push_back(Input::Operation(event)),
            FromSystem::Process(event) => inbox.push_back(Input::Process(event)),
            FromSystem::Component(id, event) => inbox.push_back(Input::Component(id, event)),
            FromSystem::Components(ForComponents::StartStorage) => self.start_storage(inbox),
            FromSystem::Components(ForComponents::Start) => self.start_components(inbox),
            FromSystem::Components(ForComponents::Stop) => self.stop_components(true, inbox),
            FromSystem::Components(ForComponents::StopStorage) => {
                self.stop_components(false, inbox);
            }
            FromSystem::Escalate => {
                inbox.push_back(Input::Process(process::Event::Kill));
                // All of them on the way down; before that, those that somebody wanted down.
                let told = (0..self.components.len()).filter(|id| {
                    self.stopping_components && self.is_to_stop(*id)
                        || self.is_in(*id, component::State::Terminating)
                });
                inbox.extend(told.map(|id| Input::Component(id, component::Event::Kill)));
            }
            FromSystem::World(effect) => commands.push(Command::System(effect)),
        }
    }

    fn deliver_process(
        &self,
        effect: process::Effect,
        inbox: &mut VecDeque<Input>,
        commands: &mut Vec<Command>,
    ) {
        match delivery::of_process(effect) {
            Delivery::System(event) => inbox.push_back(Input::System(event)),
            Delivery::World(effect) => commands.push(Command::Process(effect)),
        }
        if effect == process::Effect::ReportRunning && self.all_ready() {
            inbox.push_back(Input::System(system::Event::AllUp));
        }
    }

    fn deliver_component(
        &self,
        id: usize,
        effect: component::Effect,
        inbox: &mut VecDeque<Input>,
        commands: &mut Vec<Command>,
    ) {
        use component::Effect as E;
        if let Some(event) = delivery::report_of_component(effect) {
            inbox.push_back(Input::System(event));
        }
        match effect {
            E::AskNeeds => {
                if self.needs_settled(id) {
                    inbox.push_back(Input::Component(id, component::Event::NeedsReady));
                }
            }
            E::ReportReady | E::ReportLost => self.component_settled(id, inbox),
            E::ReportDown | E::ReportStopped | E::ReportFailed => {}
            effect => commands.push(Command::Component(id, effect)),
        }
        if matches!(effect, E::ReportStopped | E::ReportFailed | E::ReportLost)
            && self.stopping_components
        {
            self.component_down(id, inbox);
        }
    }

    /// Starts the components that carry the storage.
    fn start_storage(&self, inbox: &mut VecDeque<Input>) {
        let storage = (0..self.components.len()).filter(|id| self.is_storage(*id));
        inbox.extend(storage.map(|id| Input::Component(id, component::Event::Start)));
        if self.storage_ready() {
            inbox.push_back(Input::System(system::Event::StorageReady));
        }
    }

    /// Starts all components; those that are up already take no notice.
    fn start_components(&mut self, inbox: &mut VecDeque<Input>) {
        self.stopping_components = false;
        self.keeping_storage = false;
        let all = 0..self.components.len();
        inbox.extend(all.map(|id| Input::Component(id, component::Event::Start)));
        if self.all_ready() {
            inbox.push_back(Input::System(system::Event::ComponentsReady));
        }
    }

    /// Stops the components that nothing needs; the others follow as these go.
    fn stop_components(&mut self, keep_storage: bool, inbox: &mut VecDeque<Input>) {
        self.stopping_components = true;
        self.keeping_storage = keep_storage;
        if self.all_down() {
            inbox.push_back(Input::System(system::Event::ComponentsDown));
            return;
        }
        for id in 0..self.components.len() {
            if self.is_to_stop(id) && self.is_unneeded(id) {
                inbox.push_back(Input::Component(id, component::Event::Stop));
            }
        }
    }

    /// Component `id` is ready, or lost and ignored: what waited for it may start.
    fn component_settled(&self, id: usize, inbox: &mut VecDeque<Input>) {
        let waiting = (0..self.components.len()).filter(|dependent| {
            self.is_needed_by(id, *dependent)
                && self.is_in(*dependent, component::State::Waiting)
                && self.needs_settled(*dependent)
        });
        inbox.extend(waiting.map(|d| Input::Component(d, component::Event::NeedsReady)));
        if *self.system.state() == system::State::Mounting && self.storage_ready() {
            inbox.push_back(Input::System(system::Event::StorageReady));
        }
        if self.all_settled() {
            inbox.push_back(Input::System(system::Event::ComponentsReady));
        }
        if self.all_ready() && *self.process.state() == process::State::Running {
            inbox.push_back(Input::System(system::Event::AllUp));
        }
    }

    /// Component `id` is down while all are being stopped: what it needed may go next.
    fn component_down(&self, id: usize, inbox: &mut VecDeque<Input>) {
        for need in self.needs.get(id).into_iter().flatten() {
            if self.is_to_stop(*need) && self.is_unneeded(*need) {
                inbox.push_back(Input::Component(*need, component::Event::Stop));
            }
        }
        if self.all_down() {
            inbox.push_back(Input::System(system::Event::ComponentsDown));
        }
    }

    fn dependents(&self, id: usize) -> impl Iterator<Item = usize> {
        self.needs
            .iter()
            .enumerate()
            .filter(move |(_, needs)| needs.contains(&id))
            .map(|(dependent, _)| dependent)
    }

    fn is_in(&self, id: usize, state: component::State) -> bool {
        self.components.get(id).is_some_and(|c| *c.state() == state)
    }

    fn is_down(&self, id: usize) -> bool {
        self.components.get(id).is_some_and(Machine::is_down)
    }

    fn is_unneeded(&self, id: usize) -> bool {
        self.dependents(id).all(|dependent| self.is_down(dependent))
    }

    fn is_settled(&self, id: usize) -> bool {
        let machine = self.components.get(id);
        machine.is_some_and(|machine| machine.is_usable() || machine.may_be_missing())
    }

    /// Whether `dependent` waits for `id`: it needs it, or `id` carries the storage and it
    /// does not.
    fn is_needed_by(&self, id: usize, dependent: usize) -> bool {
        let needs = self.needs.get(dependent);
        needs.is_some_and(|needs| needs.contains(&id))
            || self.is_storage(id) && !self.is_storage(dependent)
    }

    fn needs_settled(&self, id: usize) -> bool {
        let mut all = 0..self.components.len();
        all.all(|need| !self.is_needed_by(need, id) || self.is_settled(need))
    }

    fn all_settled(&self) -> bool {
        (0..self.components.len()).all(|id| self.is_settled(id))
    }

    fn all_ready(&self) -> bool {
        self.components.iter().all(Machine::is_usable)
    }

    /// Whether all are down that are on their way down.
    fn all_down(&self) -> bool {
        (0..self.components.len()).all(|id| self.is_down(id) || !self.is_to_stop(id))
    }

    fn is_storage(&self, id: usize) -> bool {
        let machine = self.components.get(id);
        machine.is_some_and(|machine| machine.chart().storage)
    }

    fn is_to_stop(&self, id: usize) -> bool {
        !(self.keeping_storage && self.is_storage(id))
    }

    fn storage_ready(&self) -> bool {
        let mut storage = self.components.iter().filter(|it| it.chart().storage);
        storage.all(Machine::is_usable)
    }
}

impl Machine<Component> {
    /// Whether whatever needs it has it.
    #[must_use]
    pub const fn is_usable(&self) -> bool {
        use component::State as S;
        matches!(
            self.state(),
            S::Ready | S::Completed | S::Scheduled | S::Working
        )
    }

    /// Whether it is down, and stays so until it is started.
    #[must_use]
    pub const fn is_down(&self) -> bool {
        use component::State as S;
        matches!(self.state(), S::Stopped | S::Failed)
    }

    /// Whether it has failed, and waits for its next try or has none left.
    #[must_use]
    pub const fn is_between_tries(&self) -> bool {
        use component::State as S;
        matches!(self.state(), S::Backoff | S::Failed)
    }

    /// Whether it is down for good, and what needs it goes on without.
    #[must_use]
    pub fn may_be_missing(&self) -> bool {
        *self.state() == component::State::Failed
            && self.chart().on_failure == component::OnFailure::Ignore
    }
}

fn record<E: Copy>(input: Input, step: Step<E>, command: impl Fn(E) -> Command) -> Record {
    Record {
        input,
        from: step.from,
        to: step.to,
        handler: step.handler,
        taken: step.taken,
        guards: step.guards,
        effects: step.effects.iter().map(|e| command(*e)).collect(),
    }
}
