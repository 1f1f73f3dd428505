//! No arrow is drawn that can never be taken.

use std::collections::BTreeSet;

use machines::chart::Guard;
use machines::component::Component;
use machines::explore::{Diagram, Edge};
use machines::machine::Taken;
use machines::model::{SETTINGS, steps_of};
use machines::operation::Operation;
use machines::process::Process;
use machines::supervisor::{Input, Record};
use machines::system::System;

/// Machine, leaf state before, event, conditions, leaf state after.
type Taking = (
    &'static str,
    &'static str,
    String,
    Vec<Guard>,
    Option<&'static str>,
);

#[test]
fn every_arrow_can_be_taken() {
    let taken: BTreeSet<Taking> = steps_of(SETTINGS).iter().map(taking).collect();
    let diagrams = [
        Diagram::explore::<System>(),
        Diagram::explore::<Operation>(),
        Diagram::explore::<Process>(),
        Diagram::explore::<Component>(),
    ];
    let mut never = Vec::new();
    for diagram in &diagrams {
        for edge in &diagram.edges {
            if !taken.iter().any(|taking| is_of(taking, edge, diagram)) {
                never.push(format!("{}: {edge:?}", diagram.name));
            }
        }
    }
    assert!(never.is_empty(), "never taken:\n{}", never.join("\n"));
}

fn taking(step: &Record) -> Taking {
    let (machine, event) = match &step.input {
        Input::System(event) => ("system", format!("{event:?}")),
        Input::Operation(event) => ("operation", format!("{event:?}")),
        Input::Process(event) => ("process", format!("{event:?}")),
        Input::Component(_, event) => ("component", format!("{event:?}")),
    };
    let to = (step.taken == Taken::Transition).then_some(step.to);
    (machine, step.from, event, step.guards.clone(), to)
}

/// Whether a step is one that `edge` stands for. Of an exit's code only whether it is a
/// success is drawn, and the guards say that.
fn is_of(taking: &Taking, edge: &Edge, diagram: &Diagram) -> bool {
    let (machine, from, event, guards, to) = taking;
    let name = |text: &str| {
        text.split(|c: char| !c.is_alphanumeric())
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    *machine == diagram.name
        && (*from == edge.from || diagram.is_within(from, edge.from))
        && name(event) == name(&edge.event)
        && *guards == edge.guards
        && *to == edge.to
}
