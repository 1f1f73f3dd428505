//! What goes into the supervisor and what comes out of it.

use serde::{Deserialize, Serialize};

use crate::chart::Guard;
use crate::component::{self, Component};
use crate::machine::Taken;
use crate::operation;
use crate::process::{self, Process};
use crate::system::{self, System};

/// An event, with the machine it is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Input {
    /// For the system.
    System(system::Event),
    /// For the operation.
    Operation(operation::Event),
    /// For the main process.
    Process(process::Event),
    /// For the component of that number.
    Component(usize, component::Event),
}

/// Something the world must do, with the machine that asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Command {
    /// For the system.
    System(system::Effect),
    /// For the operation.
    Operation(operation::Effect),
    /// For the main process.
    Process(process::Effect),
    /// For the component of that number.
    Component(usize, component::Effect),
}

/// One step of one machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Record {
    /// The machine and the event.
    pub input: Input,
    /// The leaf state before.
    pub from: &'static str,
    /// The leaf state after.
    pub to: &'static str,
    /// The state or superstate whose handler took the event.
    pub handler: Option<&'static str>,
    /// How the event was taken.
    pub taken: Taken,
    /// The conditions the handlers looked at.
    pub guards: Vec<Guard>,
    /// What the machine asked for, of the world or of another machine.
    pub effects: Vec<Command>,
}

/// All that came of one input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reaction {
    /// The steps, in order.
    pub steps: Vec<Record>,
    /// What the world must do, in order.
    pub commands: Vec<Command>,
}

impl Reaction {
    /// Whether a request was turned down because of the state.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.commands
            .contains(&Command::System(system::Effect::Refuse))
    }

    /// Whether the event was of no use to the machine it was for.
    #[must_use]
    pub fn is_ignored(&self) -> bool {
        self.steps
            .first()
            .is_none_or(|step| step.taken == Taken::Ignored)
    }
}

/// What to supervise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Plan {
    /// The system's data.
    pub system: System,
    /// The main process's data.
    pub process: Process,
    /// The components, in configured order.
    pub components: Vec<Component>,
    /// For each component, the numbers of those that it needs. Without cycles: the
    /// configuration checks it.
    pub needs: Vec<Vec<usize>>,
}
