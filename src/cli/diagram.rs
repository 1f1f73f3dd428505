//! `sprite-env diagram`

use std::io::{self, Write as _};

use clap::ValueEnum as _;
use machines::explore::Diagram;
use machines::render::{dot, matrix, mermaid, page, scxml};

use super::arguments::{DiagramOptions, Format};
use crate::diagrams::MachineName;

/// Prints what was asked for; returns the exit code.
pub fn run(options: &DiagramOptions) -> u8 {
    let machines = match options.machine {
        Some(machine) => vec![machine],
        None => MachineName::value_variants().to_vec(),
    };
    let mut out = io::stdout().lock();
    for machine in machines {
        let text = match options.format {
            Format::Svg => machine.picture().to_owned(),
            format => render(&machine.explore(), format),
        };
        if write!(out, "{text}").is_err() {
            return 1;
        }
    }
    0
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
