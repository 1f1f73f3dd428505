//! The diagrams of the machines that are in this very program.

use clap::ValueEnum;
use machines::component::Component;
use machines::explore::Diagram;
use machines::operation::Operation;
use machines::process::Process;
use machines::system::System;

/// A state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MachineName {
    /// The whole.
    System,
    /// A checkpoint or a restore.
    Operation,
    /// The main process.
    Process,
    /// One component.
    Component,
}

impl MachineName {
    /// Its diagram, found out by trying: some hundredths of a second of work.
    #[must_use]
    pub fn explore(self) -> Diagram {
        match self {
            Self::System => Diagram::explore::<System>(),
            Self::Operation => Diagram::explore::<Operation>(),
            Self::Process => Diagram::explore::<Process>(),
            Self::Component => Diagram::explore::<Component>(),
        }
    }

    /// The laid-out picture, as SVG with an id for each state and arrow. Graphviz draws it when
    /// the diagrams are generated (`make generate`), so that none is needed where the program runs.
    #[must_use]
    pub const fn picture(self) -> &'static str {
        match self {
            Self::System => include_str!("../docs/diagrams/system.svg"),
            Self::Operation => include_str!("../docs/diagrams/operation.svg"),
            Self::Process => include_str!("../docs/diagrams/process.svg"),
            Self::Component => include_str!("../docs/diagrams/component.svg"),
        }
    }
}

/// The diagrams of all machines.
#[must_use]
pub fn all() -> Vec<Diagram> {
    let machines = MachineName::value_variants().iter();
    machines.map(|machine| machine.explore()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page finds every state and every arrow in the picture.
    #[test]
    fn pictures_have_an_id_for_everything() {
        for machine in MachineName::value_variants() {
            let (diagram, picture) = (machine.explore(), machine.picture());
            let has =
                |id: String| picture.contains(&format!("id=\"{}\"", id.replace('-', "&#45;")));
            for state in diagram.states.keys() {
                assert!(has(format!("state-{state}")), "{machine:?}: {state}");
            }
            for edge in &diagram.edges {
                let Some(to) = edge.to else { continue };
                let from = edge.from;
                assert!(
                    has(format!("edge-{from}-{to}")),
                    "{machine:?}: {from}, {to}"
                );
            }
        }
    }
}
