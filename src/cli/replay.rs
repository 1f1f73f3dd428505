//! `sprite-env replay`

use std::collections::BTreeSet;

use machines::explore::Diagram;
use machines::journal::{Replayed, replay};
use machines::machine::Taken;
use machines::supervisor::{Input, Record};

use super::arguments::ReplayOptions;
use crate::diagrams;

/// sysexits: the data is wrong.
const DATA: u8 = 65;
/// sysexits: there is no such input.
const NO_INPUT: u8 = 66;

/// A transition that was taken: machine, leaf state before, event, leaf state after.
type Arrow = (&'static str, &'static str, String, &'static str);

/// Replays each file; returns the exit code: 65 if one does not replay, 66 if one
/// cannot be read, 1 if too few arrows were taken.
pub fn run(options: &ReplayOptions) -> u8 {
    let mut taken = BTreeSet::new();
    let mut code = 0;
    for path in &options.files {
        let text = match std::fs::read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => {
                eprintln!("sprite-env: cannot read {}: {error}", path.display());
                code = NO_INPUT;
                continue;
            }
        };
        let watch = |reaction: &machines::supervisor::Reaction, _: &_| {
            taken.extend(reaction.steps.iter().filter_map(arrow));
        };
        match replay(&text, watch) {
            Ok(replayed) => {
                if !options.coverage {
                    println!("{}: {}", path.display(), summary(&replayed));
                }
            }
            Err(error) => {
                eprintln!("sprite-env: {}: {error}", path.display());
                code = DATA;
            }
        }
    }
    if options.coverage {
        let wanted = f64::from(options.at_least.unwrap_or(0)) / 100.0;
        for diagram in diagrams::all() {
            let share = report(&diagram, &taken);
            if share < wanted && code == 0 {
                eprintln!(
                    "sprite-env: only {:.0} % of the arrows of {} were taken",
                    share * 100.0,
                    diagram.name
                );
                code = 1;
            }
        }
    }
    code
}

fn summary(replayed: &Replayed) -> String {
    let cut_off = if replayed.cut_off {
        "; the last line was cut off and is left out"
    } else {
        ""
    };
    let state = replayed.supervisor.system().path().join(" > ");
    format!(
        "{} inputs, no divergence, ends {state}{cut_off}",
        replayed.inputs
    )
}

fn arrow(step: &Record) -> Option<Arrow> {
    if step.taken != Taken::Transition {
        return None;
    }
    let (machine, event) = match &step.input {
        Input::System(event) => ("system", event.into()),
        Input::Operation(event) => ("operation", event.into()),
        Input::Process(event) => ("process", event.into()),
        Input::Component(_, event) => ("component", event.into()),
    };
    let event: &'static str = event;
    Some((machine, step.from, event.to_owned(), step.to))
}

/// Prints how many of the diagram's arrows were taken, and the others by name; returns
/// the part that was, 0 to 1. Arrows from a superstate were taken if they were from any
/// state in it.
fn report(diagram: &Diagram, taken: &BTreeSet<Arrow>) -> f64 {
    let event = |name: &str| name.split('(').next().unwrap_or(name).to_owned();
    let arrows: BTreeSet<_> = diagram
        .edges
        .iter()
        .filter_map(|edge| edge.to.map(|to| (edge.from, event(&edge.event), to)))
        .collect();
    let is_taken = |(from, event, to): &(&str, String, &str)| {
        let mut arrows = taken.iter();
        arrows.any(|(machine, leaf, taken_event, taken_to)| {
            *machine == diagram.name
                && taken_event == event
                && taken_to == to
                && (leaf == from || diagram.is_within(leaf, from))
        })
    };
    let missing: Vec<_> = arrows.iter().filter(|arrow| !is_taken(arrow)).collect();
    let (all, took) = (arrows.len(), arrows.len() - missing.len());
    println!("{}: {took} of {all} arrows taken", diagram.name);
    for (from, event, to) in missing {
        println!("  not taken: {from} -- {event} -> {to}");
    }
    #[allow(clippy::cast_precision_loss, reason = "there are dozens")]
    let share = took as f64 / all as f64;
    share
}
