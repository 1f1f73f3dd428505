//! The pictures are of the machines as they are, and other tools can read them.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{BIN, Value, skipped};

const MACHINES: [&str; 4] = ["system", "operation", "process", "component"];

fn diagram(machine: &str, format: &str) -> String {
    let arguments = ["diagram", "--machine", machine, "--format", format];
    let output = Command::new(BIN).args(arguments).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn graph(machine: &str) -> Value {
    serde_json::from_str(&diagram(machine, "json")).unwrap()
}

/// The names of all states, superstates among them.
fn states(graph: &Value) -> BTreeSet<String> {
    graph["states"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect()
}

/// The transitions: where from, where to.
fn arrows(graph: &Value) -> BTreeSet<(String, String)> {
    let edges = graph["edges"].as_array().unwrap().iter();
    let ends = edges.filter_map(|edge| {
        let from = edge["from"].as_str().unwrap().to_owned();
        Some((from, edge["to"].as_str()?.to_owned()))
    });
    ends.collect()
}

/// Runs a program with `input`; none if there is no such program.
fn pipe(program: &Path, arguments: &[&str], input: &str) -> Option<String> {
    let spawned = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            skipped(&format!("{} cannot be run: {error}", program.display()));
            return None;
        }
    };
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{} refused it", program.display());
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_laid_out_picture_has_every_state_and_arrow() {
    for machine in MACHINES {
        // Graphviz writes a hyphen as a character reference.
        let svg = diagram(machine, "svg").replace("&#45;", "-");
        let graph = graph(machine);
        let has = |id: String| assert!(svg.contains(&format!("id=\"{id}\"")), "{machine}: {id}");
        for state in states(&graph) {
            has(format!("state-{state}"));
        }
        let arrows = arrows(&graph);
        for (from, to) in &arrows {
            has(format!("edge-{from}-{to}"));
        }
        assert_eq!(svg.matches("id=\"edge-").count(), arrows.len(), "{machine}");
        pipe(Path::new("xmllint"), &["--noout", "--nonet", "-"], &svg);
    }
}

#[test]
fn graphviz_reads_the_dot_text() {
    for machine in MACHINES {
        let Some(plain) = pipe(Path::new("dot"), &["-Tplain"], &diagram(machine, "dot")) else {
            return;
        };
        let edges = plain
            .lines()
            .filter(|line| line.starts_with("edge "))
            .count();
        // One more leads to the initial state.
        assert_eq!(edges, arrows(&graph(machine)).len() + 1, "{machine}");
    }
}

#[test]
fn another_tool_reads_the_scxml_as_the_same_machine() {
    let smcat = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/target/tools/node_modules/.bin/smcat"
    );
    if !Path::new(smcat).exists() {
        skipped("state-machine-cat is not installed (tests/setup.sh does it, with npm)");
        return;
    }
    for machine in MACHINES {
        let scxml = diagram(machine, "scxml");
        pipe(Path::new("xmllint"), &["--noout", "--nonet", "-"], &scxml);
        let arguments = ["-I", "scxml", "-T", "json", "-o", "-", "-"];
        let read = pipe(Path::new(smcat), &arguments, &scxml).unwrap();
        let read: Value = serde_json::from_str(&read).unwrap();
        let (mut found, mut ends) = (BTreeSet::new(), BTreeSet::new());
        collect(&read, &mut found, &mut ends);
        let graph = graph(machine);
        assert_eq!(found, states(&graph), "{machine}");
        let initial = graph["initial"].as_str().unwrap().to_owned();
        let mut expected = arrows(&graph);
        expected.insert(("initial".to_owned(), initial));
        // What stays in its state is drawn by that tool as an arrow to itself.
        for edge in graph["edges"].as_array().unwrap() {
            if edge["to"].is_null() {
                let from = edge["from"].as_str().unwrap().to_owned();
                expected.insert((from.clone(), from));
            }
        }
        assert_eq!(ends, expected, "{machine}");
    }
}

/// Gathers the states and transitions of a machine and of those in its states.
fn collect(machine: &Value, states: &mut BTreeSet<String>, ends: &mut BTreeSet<(String, String)>) {
    for transition in machine["transitions"].as_array().into_iter().flatten() {
        let end = |which: &str| transition[which].as_str().unwrap().to_owned();
        ends.insert((end("from"), end("to")));
    }
    for state in machine["states"].as_array().into_iter().flatten() {
        if state["type"] != "initial" {
            states.insert(state["name"].as_str().unwrap().to_owned());
        }
        collect(&state["statemachine"], states, ends);
    }
}
