//! Every order in which things can happen to the machines together.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

mod arrows;
mod composition;

use std::time::Instant;

use machines::model::{Graph, SETTINGS};
use stateright::{Checker as _, Model as _};

use composition::Composition;

/// All of it, by our own exploration: safety, liveness, and that anything happens at all.
#[test]
fn everything_that_must_hold_does() {
    let all = Instant::now();
    for setting in SETTINGS {
        let start = Instant::now();
        let graph = Graph::explore(setting, |_| {});
        if let Some((what, path)) = graph.flaw() {
            panic!("{}: not so: {what}\n  {}", setting.name, path.join("\n  "));
        }
        println!(
            "{:<58} {:>7} configurations {:>8} transitions {:>9.2?}",
            setting.name,
            graph.configurations(),
            graph.transitions,
            start.elapsed()
        );
    }
    println!("all of it in {:.2?}", all.elapsed());
}

/// Safety once more by another explorer, which must find the same worlds: an error in
/// ours would have to be in both.
#[test]
fn stateright_finds_the_same_worlds_and_nothing_wrong() {
    for setting in SETTINGS {
        let ours = Graph::explore(setting, |_| {}).configurations();
        let checker = Composition::new(setting).checker().threads(2);
        let checker = checker.spawn_bfs().join();
        checker.assert_properties();
        let theirs = checker.unique_state_count();
        println!(
            "{:<58} {theirs:>7} configurations (stateright)",
            setting.name
        );
        assert_eq!(ours, theirs, "{}", setting.name);
    }
}
