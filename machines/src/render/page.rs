//! A Markdown page for people: what the machine is doing in each state, what can happen
//! next, and what each event means. All of it from the code and its docstrings.

use std::fmt::Write as _;

use super::{consequence, notes};
use crate::explore::{Diagram, Edge};

/// Renders `diagram`.
#[must_use]
pub fn render(diagram: &Diagram) -> String {
    let mut out = format!("## {}\n\n", diagram.name);
    let _ = writeln!(
        out,
        "Starts in **{}**. {} states in {} superstates; {} configurations were visited.\n",
        diagram.initial,
        diagram.leaves().len(),
        diagram
            .states
            .values()
            .filter(|node| node.composite)
            .count(),
        diagram.configurations
    );
    for (name, node) in diagram.leaves() {
        let _ = writeln!(out, "### {}\n", path(diagram, name));
        let _ = writeln!(out, "{}\n", sentence(node.doc));
        for note in notes(diagram, name, node) {
            let _ = writeln!(out, "- {note}");
        }
        if node.is_final {
            out += "- nothing can happen any more\n";
        }
        let levels = std::iter::once(name).chain(diagram.above(name));
        let mut seen = Vec::new();
        for level in levels {
            let edges = diagram.edges.iter();
            let edges: Vec<_> = edges
                .filter(|edge| edge.from == level && edge.to.is_some())
                .filter(|edge| !seen.contains(&edge.event))
                .collect();
            for edge in &edges {
                let _ = writeln!(out, "- {}", arrow(edge, name));
            }
            // What an inner state reacts to does not reach the outer ones.
            seen.extend(edges.iter().map(|edge| edge.event.clone()));
        }
        out += "\n";
    }
    out += "### Superstates\n\n";
    for (name, node) in diagram.states.iter().filter(|(_, node)| node.composite) {
        let _ = writeln!(out, "- **{name}**: {}", sentence(node.doc));
        for note in notes(diagram, name, node) {
            let _ = writeln!(out, "  - {note}");
        }
    }
    out += "\n### Events\n\n";
    for (name, doc) in &diagram.events {
        let _ = writeln!(out, "- **{name}**: {}", sentence(doc));
    }
    out + "\n"
}

fn path(diagram: &Diagram, name: &'static str) -> String {
    let mut levels: Vec<_> = diagram.above(name).collect();
    levels.reverse();
    levels.push(name);
    levels.join(" > ")
}

fn arrow(edge: &Edge, leaf: &str) -> String {
    let by = if edge.from == leaf {
        String::new()
    } else {
        format!(" (as everywhere in {})", edge.from)
    };
    let to = edge.to.unwrap_or(edge.from);
    format!("on **{}**{} → {to}{by}", edge.event, consequence(edge))
}

/// Docstrings come line by line; Markdown wants them as one text.
fn sentence(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}
