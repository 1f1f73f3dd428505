//! A Markdown table, state by event: where each event leads from each state.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::consequence;
use crate::explore::{Diagram, Edge};

/// Renders `diagram`: a row a leaf state, a column an event. `·` = ignored.
#[must_use]
pub fn render(diagram: &Diagram) -> String {
    let events: BTreeSet<_> = diagram
        .edges
        .iter()
        .map(|edge| edge.event.as_str())
        .collect();
    let mut out = String::from("| |");
    for event in &events {
        let _ = write!(out, " {event} |");
    }
    let _ = write!(out, "\n|---|{}", "---|".repeat(events.len()));
    for (leaf, _) in diagram.leaves() {
        let _ = write!(out, "\n| **{leaf}** |");
        for event in &events {
            let _ = write!(out, " {} |", cell(diagram, leaf, event));
        }
    }
    out + "\n"
}

/// The reaction of the innermost state around `leaf` that reacts to `event`.
fn cell(diagram: &Diagram, leaf: &'static str, event: &str) -> String {
    let levels = std::iter::once(leaf).chain(diagram.above(leaf));
    for level in levels {
        let reactions: Vec<_> = diagram
            .edges
            .iter()
            .filter(|edge| edge.from == level && edge.event == event)
            .map(reaction)
            .collect();
        if !reactions.is_empty() {
            return reactions.join("<br>");
        }
    }
    "·".to_owned()
}

fn reaction(edge: &Edge) -> String {
    format!("{}{}", edge.to.unwrap_or("stays"), consequence(edge))
}
