//! W3C SCXML, for other tools to read.

use std::fmt::Write as _;

use crate::explore::{Diagram, Edge};

/// Renders `diagram`.
#[must_use]
pub fn render(diagram: &Diagram) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        out,
        "<scxml xmlns=\"http://www.w3.org/2005/07/scxml\" version=\"1.0\" name=\"{}\" initial=\"{}\">",
        diagram.name, diagram.initial
    );
    block(diagram, None, 1, &mut out);
    out + "</scxml>\n"
}

fn block(diagram: &Diagram, parent: Option<&str>, depth: usize, out: &mut String) {
    let pad = "  ".repeat(depth);
    for (name, node) in diagram.children(parent) {
        let tag = if node.is_final { "final" } else { "state" };
        let _ = writeln!(out, "{pad}<{tag} id=\"{name}\">");
        for (verb, effects) in [("onentry", &node.entry), ("onexit", &node.exit)] {
            if !effects.is_empty() {
                let _ = writeln!(out, "{pad}  <{verb}>{}</{verb}>", sends(effects));
            }
        }
        // SCXML allows no transitions in a final state.
        for edge in diagram
            .edges
            .iter()
            .filter(|e| e.from == name && !node.is_final)
        {
            let _ = writeln!(out, "{pad}  {}", transition(edge));
        }
        block(diagram, Some(name), depth + 1, out);
        let _ = writeln!(out, "{pad}</{tag}>");
    }
}

fn transition(edge: &Edge) -> String {
    let mut tag = format!("<transition event=\"{}\"", identifier(&edge.event));
    let conditions: Vec<_> = edge
        .guards
        .iter()
        .map(|guard| {
            let not = if guard.held { "" } else { "!" };
            format!("{not}{}", guard.name.replace(' ', "_"))
        })
        .collect();
    if !conditions.is_empty() {
        let _ = write!(tag, " cond=\"{}\"", conditions.join(" &amp;&amp; "));
    }
    if let Some(to) = edge.to {
        let _ = write!(tag, " target=\"{to}\"");
    }
    if edge.effects.is_empty() {
        tag + "/>"
    } else {
        format!("{tag}>{}</transition>", sends(&edge.effects))
    }
}

fn sends(effects: &[String]) -> String {
    let sends = effects.iter().map(|effect| identifier(effect));
    let sends: Vec<_> = sends
        .map(|name| format!("<send event=\"{name}\"/>"))
        .collect();
    sends.concat()
}

/// SCXML's event names are tokens separated by dots: `Exited(0)` is `Exited.0`.
fn identifier(name: &str) -> String {
    name.replace(['(', '='], ".").replace(')', "")
}
