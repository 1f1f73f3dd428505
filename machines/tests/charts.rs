//! Every chart's picture, as it stands (a change shows up in review), and what must
//! hold of every chart.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use machines::chart::Chart;
use machines::component::Component;
use machines::explore::Diagram;
use machines::machine::Machine;
use machines::operation::Operation;
use machines::process::Process;
use machines::render::mermaid;
use machines::system::System;

fn all() -> [Diagram; 4] {
    [
        Diagram::explore::<System>(),
        Diagram::explore::<Operation>(),
        Diagram::explore::<Process>(),
        Diagram::explore::<Component>(),
    ]
}

#[test]
fn pictures() {
    for diagram in all() {
        insta::assert_snapshot!(diagram.name, mermaid::render(&diagram, &[]));
    }
}

#[test]
fn every_state_is_reachable() {
    for diagram in all() {
        let lost = &diagram.unreachable;
        assert!(lost.is_empty(), "{}: {lost:?}", diagram.name);
    }
}

#[test]
fn only_final_states_are_dead_ends() {
    for diagram in all() {
        let wrong = diagram.dead_ends();
        assert!(wrong.is_empty(), "{}: {wrong:?}", diagram.name);
    }
}

#[test]
fn everything_is_documented() {
    for diagram in all() {
        for (name, node) in &diagram.states {
            assert!(!node.doc.is_empty(), "{}::{name}", diagram.name);
        }
        for (name, doc) in diagram.events.iter().chain(&diagram.effects) {
            assert!(!doc.is_empty(), "{}::{name}", diagram.name);
        }
        for (name, _) in diagram.requests {
            let mut events = diagram.events.iter();
            assert!(events.any(|(event, _)| event == name), "{name}");
        }
    }
}

#[test]
fn every_event_is_of_use_somewhere() {
    for diagram in all() {
        for (name, _) in &diagram.events {
            let mut edges = diagram.edges.iter();
            let used = edges.any(|e| e.event == *name || e.event.starts_with(&format!("{name}(")));
            assert!(used, "{}: {name}", diagram.name);
        }
    }
}

#[test]
fn initial_states_ask_for_nothing() {
    fn entry<C: Chart>() -> usize {
        let machines = C::variants().into_iter().map(Machine::new);
        machines
            .flat_map(|machine| machine.levels())
            .map(|level| level.entry.len())
            .sum()
    }
    assert_eq!(
        entry::<System>() + entry::<Operation>() + entry::<Process>() + entry::<Component>(),
        0
    );
}
