//! Mermaid `stateDiagram-v2`, for Markdown and the browser.

use std::fmt::Write as _;

use super::{arrows, notes};
use crate::explore::Diagram;

/// Renders `diagram`; the states in `active` stand out.
#[must_use]
pub fn render(diagram: &Diagram, active: &[&str]) -> String {
    let mut out = String::from("stateDiagram-v2\n");
    line(&mut out, 1, &format!("[*] --> {}", diagram.initial));
    block(diagram, None, 1, &mut out);
    for (name, node) in diagram.leaves() {
        if node.is_final {
            line(&mut out, 1, &format!("{name} --> [*]"));
        }
    }
    for ((from, to), labels) in arrows(diagram) {
        let label = labels.join("<br/>");
        line(&mut out, 1, &format!("{from} --> {to} : {label}"));
    }
    if !active.is_empty() {
        let style = "classDef active fill:#ffd54f,stroke:#ff6f00,stroke-width:2px";
        line(&mut out, 1, style);
        line(&mut out, 1, &format!("class {} active", active.join(",")));
    }
    out
}

fn block(diagram: &Diagram, parent: Option<&str>, depth: usize, out: &mut String) {
    for (name, node) in diagram.children(parent) {
        let notes = notes(diagram, name, node);
        if node.composite {
            line(out, depth, &format!("state {name} {{"));
            block(diagram, Some(name), depth + 1, out);
            line(out, depth, "}");
            // Mermaid takes no description on a composite state, so it is a note.
            if !notes.is_empty() {
                line(out, depth, &format!("note right of {name}"));
                for note in &notes {
                    line(out, depth + 1, note);
                }
                line(out, depth, "end note");
            }
        } else {
            // The first description takes the place of the name, so it is the name.
            line(out, depth, &format!("{name} : {name}"));
            for note in &notes {
                line(out, depth, &format!("{name} : {note}"));
            }
        }
    }
}

fn line(out: &mut String, depth: usize, text: &str) {
    let _ = writeln!(out, "{:width$}{text}", "", width = depth * 4);
}
