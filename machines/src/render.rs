//! Pictures of a [`Diagram`].

pub mod dot;
pub mod matrix;
pub mod mermaid;
pub mod page;
pub mod scxml;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::explore::{Diagram, Edge, Node};

/// All arrows from one state to another, drawn as one: a label per reaction.
fn arrows(diagram: &Diagram) -> BTreeMap<(&'static str, &'static str), Vec<String>> {
    let mut arrows = BTreeMap::<_, Vec<_>>::new();
    for edge in &diagram.edges {
        if let Some(to) = edge.to {
            arrows.entry((edge.from, to)).or_default().push(edge);
        }
    }
    arrows
        .into_iter()
        .map(|(ends, edges)| (ends, labels(&edges)))
        .collect()
}

/// What a state does besides being left: entry, exit and internal reactions.
fn notes(diagram: &Diagram, name: &str, node: &Node) -> Vec<String> {
    let actions = [("entry", &node.entry), ("exit", &node.exit)]
        .into_iter()
        .filter(|(_, effects)| !effects.is_empty())
        .map(|(verb, effects)| format!("{verb} / {}", effects.join(", ")));
    let internal: Vec<_> = diagram
        .edges
        .iter()
        .filter(|edge| edge.from == name && edge.to.is_none())
        .collect();
    actions.chain(labels(&internal)).collect()
}

/// `event, event [guard] / effects`, the usual way to label arrows; events that are
/// taken alike share a label.
fn labels(edges: &[&Edge]) -> Vec<String> {
    let mut alike = BTreeMap::<String, Vec<&str>>::new();
    for edge in edges {
        alike
            .entry(consequence(edge))
            .or_default()
            .push(&edge.event);
    }
    alike
        .into_iter()
        .map(|(rest, mut events)| {
            events.dedup();
            format!("{}{rest}", events.join(", "))
        })
        .collect()
}

/// The guards and effects of `edge`, as they stand behind the event in a label.
fn consequence(edge: &Edge) -> String {
    let mut text = String::new();
    let conditions = conditions(edge);
    if !conditions.is_empty() {
        let _ = write!(text, " [{}]", conditions.join(", "));
    }
    if !edge.effects.is_empty() {
        let _ = write!(text, " / {}", edge.effects.join(", "));
    }
    text
}

/// The conditions of `edge`: `failed`, `not failed`.
fn conditions(edge: &Edge) -> Vec<String> {
    let guards = edge.guards.iter();
    guards
        .map(|guard| format!("{}{}", if guard.held { "" } else { "not " }, guard.name))
        .collect()
}
