//! Graphviz DOT: superstates are clusters, and every state and arrow has an `id` by
//! which a page can find it in the SVG that `dot` lays out.

use std::fmt::Write as _;

use super::{arrows, notes};
use crate::explore::{Diagram, Node};

const HEAD: &str = r#"  compound=true; newrank=true; rankdir=TB; nodesep=0.25; ranksep=0.45;
  graph [fontname="Helvetica", bgcolor="transparent"];
  node [shape=box, style="rounded,filled", fillcolor=white, fontname="Helvetica"];
  edge [fontname="Helvetica", fontsize=10, color="gray35"];
  initial [shape=point, width=0.15];
"#;

/// So many characters of a label are in a line, if it can be broken.
const WIDTH: usize = 28;

/// Renders `diagram`.
#[must_use]
pub fn render(diagram: &Diagram) -> String {
    let mut out = format!("digraph {} {{\n{HEAD}", diagram.name);
    block(diagram, None, 1, &mut out);
    let _ = writeln!(out, "  initial -> {};", diagram.initial);
    for ((from, to), labels) in arrows(diagram) {
        let lines: Vec<_> = labels.iter().flat_map(|label| wrap(label)).collect();
        let label = escape(&(lines.join("\\l") + "\\l"));
        let attributes = format!("id=\"edge-{from}-{to}\", class=\"edge\", label=\"{label}\"");
        let composite = diagram.states.get(from).is_some_and(|node| node.composite);
        let _ = if !composite {
            writeln!(out, "  {from} -> {to} [{attributes}];")
        } else if diagram.is_within(to, from) {
            writeln!(out, "  {from}__any -> {to} [{attributes}];")
        } else {
            writeln!(
                out,
                "  {from}__any -> {to} [{attributes}, ltail=cluster_{from}];"
            )
        };
    }
    out + "}\n"
}

fn block(diagram: &Diagram, parent: Option<&str>, depth: usize, out: &mut String) {
    let pad = "  ".repeat(depth);
    for (name, node) in diagram.children(parent) {
        let id = format!("id=\"state-{name}\"");
        let title = title(diagram, name, node);
        if node.composite {
            let _ = writeln!(
                out,
                "{pad}subgraph cluster_{name} {{ {id}; class=\"state\";"
            );
            let _ = writeln!(out, "{pad}  label=\"{title}\"; style=rounded; labeljust=l;");
            let _ = writeln!(
                out,
                "{pad}  {name}__any [shape=point, width=0.06, color=gray];"
            );
            block(diagram, Some(name), depth + 1, out);
            let _ = writeln!(out, "{pad}}}");
        } else {
            let border = if node.is_final { 2 } else { 1 };
            let _ = writeln!(
                out,
                "{pad}{name} [label=\"{title}\", peripheries={border}, {id}, class=\"state\"];"
            );
        }
    }
}

fn title(diagram: &Diagram, name: &str, node: &Node) -> String {
    let mut lines = vec![name.to_owned()];
    lines.extend(
        notes(diagram, name, node)
            .iter()
            .flat_map(|note| wrap(note)),
    );
    escape(&lines.join("\\n"))
}

/// The lines of a label: a long one would push everything else aside.
fn wrap(label: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in label.split_inclusive(", ") {
        match lines.last_mut() {
            Some(line) if line.is_empty() || line.len() + word.trim_end().len() <= WIDTH => {
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    for line in &mut lines {
        line.truncate(line.trim_end().len());
    }
    lines
}

fn escape(text: &str) -> String {
    text.replace('"', "\\\"")
}
