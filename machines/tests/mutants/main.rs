//! Breaks the charts in every small way there is, one at a time, and sees to it that
//! something notices: an arrow that nothing depends on is not proven by anything.
//!
//! The mutants are made from the diagrams, so a new arrow has its mutants at once. What
//! survives must stand in `survivors.txt`, with the reason.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

mod breed;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use machines::chart::Chart;
use machines::component::Component;
use machines::explore::Diagram;
use machines::journal::replay;
use machines::machine::mutation::{self, Mutation};
use machines::model::{Graph, SETTINGS, Setting};
use machines::operation::Operation;
use machines::process::Process;
use machines::system::System;

/// How many of the settings are explored in the twinkling of an eye.
const SMALL: usize = 3;

/// Who noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Catcher {
    /// A state that cannot be reached, or cannot be left.
    Charts,
    /// A property of the composition.
    Model,
    /// The journal of a real run.
    Replay,
}

/// What became of a mutant.
enum Caught {
    By(Catcher),
    Not,
}

#[test]
fn every_mutant_is_noticed() {
    // Some mutants run into what cannot be: that is noticed too, and need not be printed.
    std::panic::set_hook(Box::new(|_| {}));
    let mutants = breed::all();
    let journals = journals();
    let next = AtomicUsize::new(0);
    let results = Mutex::new(BTreeMap::new());
    let survivors = Mutex::new(BTreeSet::new());
    let proven = Mutex::new(BTreeSet::new());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // What breaks nothing is no mutant.
                    let Some(caught) = mutation::with(mutant, || catcher(mutant, &journals)) else {
                        continue;
                    };
                    match caught {
                        Caught::By(who) => {
                            *results.lock().unwrap().entry(who).or_insert(0) += 1;
                            if who != Catcher::Replay {
                                proven.lock().unwrap().insert(breed::describe(mutant));
                            }
                        }
                        Caught::Not => {
                            // At once: a check that goes on for long says why.
                            println!("survives: {}", breed::describe(mutant));
                            survivors.lock().unwrap().insert(breed::describe(mutant));
                        }
                    }
                }
            });
        }
    });
    let _ = std::panic::take_hook();
    let results: BTreeMap<Catcher, usize> = results.into_inner().unwrap();
    let survivors = survivors.into_inner().unwrap();
    let total = results.values().sum::<usize>() + survivors.len();
    println!(
        "{total} mutants; noticed by {results:?}; {} survive",
        survivors.len()
    );
    let explained = breed::explained(include_str!("survivors.txt"));
    let unexplained: Vec<_> = survivors.difference(&explained).collect();
    // Which journals there are is chance; what is proven without them stays so.
    let proven = proven.into_inner().unwrap();
    let noticed: Vec<_> = explained.intersection(&proven).collect();
    assert!(total >= 40, "only {total} mutants");
    assert!(
        unexplained.is_empty(),
        "nothing notices:\n{}",
        list(&unexplained)
    );
    assert!(
        noticed.is_empty(),
        "these do not survive any more, so they need no explanation:\n{}",
        list(&noticed)
    );
}

fn list(mutants: &[&String]) -> String {
    let lines: Vec<_> = mutants.iter().map(|m| m.as_str()).collect();
    lines.join("\n")
}

/// The first that notices, cheapest first; none if the mutant breaks nothing.
fn catcher(mutant: &Mutation, journals: &[String]) -> Option<Caught> {
    let guarded = |check: &dyn Fn() -> bool| catch_unwind(AssertUnwindSafe(check)).unwrap_or(true);
    if guarded(&|| is_misshapen(mutant.machine)) {
        return Some(Caught::By(Catcher::Charts));
    }
    // The chart was tried whole: every event in every configuration.
    if !mutation::is_applied() {
        return None;
    }
    let diverges = || guarded(&|| journals.iter().any(|text| replay(text, |_, _| {}).is_err()));
    let (small, large) = SETTINGS.split_at(SMALL);
    let fails = |settings: &[Setting]| {
        // What a new configuration does is no arrow of a chart, and takes long to explore.
        let mut settings = settings.iter().filter(|setting| setting.reload.is_none());
        settings.any(|setting| guarded(&|| Graph::explore(setting, |_| {}).flaw().is_some()))
    };
    Some(if fails(small) {
        Caught::By(Catcher::Model)
    } else if diverges() {
        Caught::By(Catcher::Replay)
    } else if fails(large) {
        Caught::By(Catcher::Model)
    } else {
        Caught::Not
    })
}

/// Whether the chart by itself has a state that cannot be reached or left.
fn is_misshapen(machine: &str) -> bool {
    fn of<C: Chart>() -> bool {
        let diagram = Diagram::explore::<C>();
        !diagram.unreachable.is_empty() || !diagram.dead_ends().is_empty()
    }
    match machine {
        System::NAME => of::<System>(),
        Operation::NAME => of::<Operation>(),
        Process::NAME => of::<Process>(),
        _ => of::<Component>(),
    }
}

/// The journals of real runs that are kept beside the tests.
fn journals() -> Vec<String> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/journals");
    let entries = std::fs::read_dir(dir).unwrap();
    let texts: Vec<_> = entries
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    assert!(!texts.is_empty(), "no journals in {dir}");
    texts
}
