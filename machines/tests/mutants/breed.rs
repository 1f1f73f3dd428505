//! The mutants: every arrow of every diagram, broken in every small way.

use std::collections::BTreeSet;

use machines::chart::Chart;
use machines::component::Component;
use machines::explore::{Diagram, Edge};
use machines::machine::mutation::{Fault, Mutation};
use machines::operation::Operation;
use machines::process::Process;
use machines::system::System;

/// All of them.
pub fn all() -> Vec<Mutation> {
    let mut mutants = of::<System>();
    mutants.extend(of::<Operation>());
    mutants.extend(of::<Process>());
    mutants.extend(of::<Component>());
    mutants
}

fn of<C: Chart>() -> Vec<Mutation> {
    let diagram = Diagram::explore::<C>();
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for edge in &diagram.edges {
        // Of an event's payload, only the conditions are told apart.
        let word = edge.event.split('(').next();
        if !seen.insert((edge.from, word, &edge.guards, edge.to)) {
            continue;
        }
        of_edge(edge, &diagram, &mut faults);
    }
    for (name, node) in &diagram.states {
        for effect in node.entry.iter().chain(&node.exit) {
            faults.push(Fault::DropAction(name, effect.clone()));
        }
    }
    let mutation = |fault| Mutation {
        machine: C::NAME,
        fault,
    };
    faults.into_iter().map(mutation).collect()
}

fn of_edge(edge: &Edge, diagram: &Diagram, faults: &mut Vec<Fault>) {
    faults.push(Fault::Drop(edge.clone()));
    faults.push(Fault::ForgetData(edge.clone()));
    for effect in &edge.effects {
        faults.push(Fault::DropEffect(edge.clone(), effect.clone()));
    }
    for guard in &edge.guards {
        faults.push(Fault::FlipGuard(edge.clone(), guard.name));
    }
    let Some(to) = edge.to else { return };
    // To the two leaf states that stand beside the right one.
    let leaves: Vec<_> = diagram.leaves().into_iter().map(|(name, _)| name).collect();
    let at = leaves.iter().position(|leaf| *leaf == to).unwrap();
    for wrong in [at + 1, at + leaves.len() - 1] {
        faults.push(Fault::Retarget(edge.clone(), leaves[wrong % leaves.len()]));
    }
}

/// One line for people, and for the list of survivors.
pub fn describe(mutant: &Mutation) -> String {
    let what = match &mutant.fault {
        Fault::Drop(edge) => format!("{}: not taken", arrow(edge)),
        Fault::Retarget(edge, to) => format!("{}: to {to}", arrow(edge)),
        Fault::DropEffect(edge, effect) => format!("{}: without {effect}", arrow(edge)),
        Fault::FlipGuard(edge, guard) => format!("{}: not \"{guard}\"", arrow(edge)),
        Fault::ForgetData(edge) => format!("{}: changes no data", arrow(edge)),
        Fault::DropAction(state, effect) => format!("{state}: without {effect}"),
    };
    format!("{}: {what}", mutant.machine)
}

fn arrow(edge: &Edge) -> String {
    let guards: Vec<_> = edge
        .guards
        .iter()
        .map(|guard| format!("{}{}", if guard.held { "" } else { "not " }, guard.name))
        .collect();
    let guards = if guards.is_empty() {
        String::new()
    } else {
        format!(" [{}]", guards.join(", "))
    };
    let to = edge.to.unwrap_or("stays");
    format!("{} -- {}{guards} -> {to}", edge.from, edge.event)
}

/// The survivors that are explained: the lines that are neither empty nor a comment.
pub fn explained(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}
