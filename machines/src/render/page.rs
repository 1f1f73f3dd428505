//! A Markdown page for people: what the machine is doing in each state, what can happen
//! next, and what an operator may do. All of it from the code and its docstrings.

use std::fmt::Write as _;

use super::conditions;
use crate::explore::{Diagram, Edge, Node};

/// Renders `diagram`.
#[must_use]
pub fn render(diagram: &Diagram) -> String {
    let mut out = format!("## {}\n\n", diagram.name);
    let composites = diagram.states.values().filter(|node| node.composite);
    let _ = writeln!(
        out,
        "Starts in **{}**. {} states in {} superstates; {} configurations were visited.{}\n",
        diagram.initial,
        diagram.leaves().len(),
        composites.count(),
        diagram.configurations,
        if diagram.requests.is_empty() {
            " The system drives it; an operator acts through the system."
        } else {
            ""
        }
    );
    for (name, node) in diagram.leaves() {
        state(diagram, name, node, &mut out);
    }
    out += "### Superstates\n\n";
    for (name, node) in diagram.states.iter().filter(|(_, node)| node.composite) {
        let _ = writeln!(out, "- **{name}**: {}", text(node.doc));
    }
    out += "\n### Events\n\n";
    for (name, doc) in &diagram.events {
        let _ = writeln!(out, "- **{name}**: {}", text(doc));
    }
    out + "\n"
}

fn state(diagram: &Diagram, name: &'static str, node: &Node, out: &mut String) {
    let _ = writeln!(out, "### {}\n\n{}\n", path(diagram, name), text(node.doc));
    for (when, effects) in [("entered", &node.entry), ("left", &node.exit)] {
        if !effects.is_empty() {
            let _ = writeln!(out, "When it is {when}: {}\n", asked(diagram, effects));
        }
    }
    if node.is_final {
        *out += "Nothing can happen any more.\n\n";
        return;
    }
    let (requests, rest): (Vec<_>, Vec<_>) =
        reactions(diagram, name).into_iter().partition(|edge| {
            diagram
                .requests
                .iter()
                .any(|(word, _)| *word == word_of(edge))
        });
    if !rest.is_empty() {
        *out += "What can happen next:\n\n";
        for edge in rest {
            let doc = doc_of(&diagram.events, word_of(edge));
            let _ = writeln!(out, "- {} {}", doc, consequence(diagram, edge, name));
        }
        *out += "\n";
    }
    if !diagram.requests.is_empty() {
        operator(diagram, &requests, name, out);
    }
}

/// What an operator may do, and what would be refused.
fn operator(diagram: &Diagram, requests: &[&Edge], leaf: &str, out: &mut String) {
    if requests.is_empty() {
        *out += "Nothing can be asked for in it.\n\n";
        return;
    }
    *out += "What an operator may do:\n\n";
    for (word, how) in diagram.requests {
        let edges: Vec<_> = requests.iter().filter(|e| word_of(e) == *word).collect();
        let refused = edges.iter().all(|edge| edge.effects == ["Refuse"]);
        if edges.is_empty() || refused {
            let _ = writeln!(out, "- {how} — not now: it is refused.");
        }
        for edge in edges.into_iter().filter(|_| !refused) {
            let _ = writeln!(out, "- {how} {}", consequence(diagram, edge, leaf));
        }
    }
    *out += "\n";
}

/// The reactions of `leaf`: its own, and those of the states around it that it leaves to
/// them.
fn reactions<'a>(diagram: &'a Diagram, leaf: &'static str) -> Vec<&'a Edge> {
    let mut reactions = Vec::<&Edge>::new();
    for level in std::iter::once(leaf).chain(diagram.above(leaf)) {
        let seen: Vec<_> = reactions.iter().map(|edge| edge.event.clone()).collect();
        let edges = diagram.edges.iter();
        reactions.extend(edges.filter(|e| e.from == level && !seen.contains(&e.event)));
    }
    reactions
}

/// `→ **Running** (ProcessRunning; if not parked)`
fn consequence(diagram: &Diagram, edge: &Edge, leaf: &str) -> String {
    let to = match edge.to {
        Some(to) => format!("→ **{to}**"),
        None => "→ stays".to_owned(),
    };
    let mut remarks = vec![format!("`{}`", edge.event)];
    let conditions = conditions(edge);
    if !conditions.is_empty() {
        remarks.push(format!("if {}", conditions.join(" and ")));
    }
    if edge.from != leaf {
        remarks.push(format!("as everywhere in {}", edge.from));
    }
    let mut line = format!("{to} ({})", remarks.join("; "));
    if !edge.effects.is_empty() {
        let _ = write!(line, ". {}", asked(diagram, &edge.effects));
    }
    line
}

/// What effects mean, each with its name.
fn asked(diagram: &Diagram, effects: &[String]) -> String {
    let sentences = effects.iter().map(|effect| {
        let doc = doc_of(&diagram.effects, word(effect));
        format!("{} (`{effect}`)", doc.trim_end_matches('.'))
    });
    sentences.collect::<Vec<_>>().join(". ") + "."
}

fn path(diagram: &Diagram, name: &'static str) -> String {
    let mut levels: Vec<_> = diagram.above(name).collect();
    levels.reverse();
    levels.push(name);
    levels.join(" > ")
}

fn word_of(edge: &Edge) -> &str {
    word(&edge.event)
}

/// An event's or effect's own name, without its payload.
fn word(name: &str) -> &str {
    name.split('(').next().unwrap_or(name)
}

fn doc_of(docs: &[(&'static str, &'static str)], name: &str) -> String {
    let doc = docs.iter().find(|(word, _)| *word == name);
    text(doc.map_or("", |(_, doc)| doc))
}

/// Docstrings come line by line; Markdown wants them as one text.
fn text(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}
