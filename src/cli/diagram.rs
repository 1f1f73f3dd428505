//! `sprite-env diagram`

use std::io::{self, Write as _};

use machines::component::Component;
use machines::explore::Diagram;
use machines::operation::Operation;
use machines::process::Process;
use machines::render::{dot, matrix, mermaid, page, scxml};
use machines::system::System;

use super::arguments::{DiagramOptions, Format, MachineName};

const ALL: [MachineName; 4] = [
    MachineName::System,
    MachineName::Operation,
    MachineName::Process,
    MachineName::Component,
];

/// Prints what was asked for; returns the exit code.
pub fn run(options: &DiagramOptions) -> u8 {
    let machines = match options.machine {
        Some(machine) => vec![machine],
        None => ALL.to_vec(),
    };
    let mut out = io::stdout().lock();
    for machine in machines {
        let text = match options.format {
            Format::Svg => picture(machine).to_owned(),
            format => render(&explore(machine), format),
        };
        if write!(out, "{text}").is_err() {
            return 1;
        }
    }
    0
}

/// The diagrams of all machines.
pub fn all() -> Vec<Diagram> {
    ALL.map(explore).to_vec()
}

/// The laid-out picture. Graphviz draws it when the diagrams are generated (`make
/// generate`), so that none is needed where the program runs.
const fn picture(machine: MachineName) -> &'static str {
    match machine {
        MachineName::System => include_str!("../../docs/diagrams/system.svg"),
        MachineName::Operation => include_str!("../../docs/diagrams/operation.svg"),
        MachineName::Process => include_str!("../../docs/diagrams/process.svg"),
        MachineName::Component => include_str!("../../docs/diagrams/component.svg"),
    }
}

fn explore(machine: MachineName) -> Diagram {
    match machine {
        MachineName::System => Diagram::explore::<System>(),
        MachineName::Operation => Diagram::explore::<Operation>(),
        MachineName::Process => Diagram::explore::<Process>(),
        MachineName::Component => Diagram::explore::<Component>(),
    }
}

fn render(diagram: &Diagram, format: Format) -> String {
    match format {
        Format::Mermaid => mermaid::render(diagram, &[]),
        Format::Dot | Format::Svg => dot::render(diagram),
        Format::Scxml => scxml::render(diagram),
        Format::Matrix => matrix::render(diagram),
        Format::Page => page::render(diagram),
        // A diagram is made of maps with text keys and of lists: always JSON.
        Format::Json => serde_json::to_string_pretty(diagram).unwrap_or_default() + "\n",
    }
}
