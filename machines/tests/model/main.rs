//! Every order in which things can happen to the machines together.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

mod graph;
mod world;

use std::time::Instant;

use graph::Graph;
use machines::component::{self, Component, OnFailure};
use machines::operation;
use machines::process::{self, Process};
use machines::supervisor::Plan;
use machines::system::{self, System};
use world::World;

/// Something that must hold of every state that can come to be.
type Invariant = (&'static str, fn(&World) -> bool);

const INVARIANTS: &[Invariant] = &[
    ("the world is never asked for nonsense", |w| {
        w.violation.is_none()
    }),
    ("running means that everything is up", |w| {
        w.system() != system::State::Running
            || w.machines
                .components()
                .iter()
                .all(|c| *c.state() == component::State::Ready)
                && *w.machines.process().state() == process::State::Running
    }),
    (
        "stopped or failed means nothing is alive, held, armed or under way",
        |w| !w.is_over() || nothing_left(w),
    ),
    (
        "failed means that there was a failure, stopped that there was none",
        |w| {
            let failed = w.machines.system().chart().failure.is_some();
            !w.is_over() || failed == (w.system() == system::State::Failed)
        },
    ),
    (
        "an exit code is there when it is over, and only then",
        |w| w.machines.exit_code().is_some() == w.is_over(),
    ),
    (
        "a timer runs only where it is waited for",
        timers_are_awaited,
    ),
    ("idle means that no work is under way", |w| {
        *w.machines.operation().state() != operation::State::Idle
            || w.job.is_none() && !w.winding_down && !w.frozen
    }),
    (
        "the system operates exactly while an operation is under way",
        |w| {
            use system::State as S;
            let idle = *w.machines.operation().state() == operation::State::Idle;
            match w.system() {
                S::StoppingOperation
                | S::Checkpointing
                | S::Preparing
                | S::DrainingProcess
                | S::DrainingComponents
                | S::DrainingTree
                | S::Swapping
                | S::RollingBack => !idle,
                _ => idle,
            }
        },
    ),
    (
        "writes are held only while a checkpoint pauses or thaws",
        |w| {
            use operation::State as S;
            !w.frozen
                || matches!(
                    w.machines.operation().state(),
                    S::Freezing | S::Capturing | S::Thawing { .. }
                )
        },
    ),
    ("parked means that the main process is down", |w| {
        w.system() != system::State::Parked || !w.process.alive
    }),
];

fn nothing_left(w: &World) -> bool {
    !w.anything_alive()
        && w.job.is_none()
        && !w.winding_down
        && !w.frozen
        && !w.process.timer
        && !w.system_timer
        && !w.operation_timer
        && w.components.iter().all(|c| !c.timer)
}

fn timers_are_awaited(w: &World) -> bool {
    use component::State as C;
    use operation::State as O;
    use process::State as P;
    use system::State as S;
    let mut components = w.machines.components().iter().zip(&w.components);
    components.all(|(machine, proc)| {
        let awaits = [C::Starting, C::Ready, C::Backoff, C::Terminating];
        !proc.timer || awaits.contains(machine.state())
    }) && (!w.process.timer
        || [P::Running, P::Backoff, P::Terminating].contains(w.machines.process().state()))
        && (!w.operation_timer
            || [O::Freezing, O::Capturing].contains(w.machines.operation().state()))
        && (!w.system_timer || [S::DrainingTree, S::SweepingTree].contains(&w.system()))
}

fn at_rest(w: &World) -> bool {
    use system::State as S;
    matches!(
        w.system(),
        S::Running | S::Degraded | S::Parked | S::Stopped | S::Failed
    )
}

/// Something that, once begun, must come to an end by itself.
type Progress = (&'static str, fn(&World) -> bool, fn(&World) -> bool);

const PROGRESS: &[Progress] = &[
    ("it comes to rest", |_| true, at_rest),
    ("what is held is let go", |w| w.frozen, |w| !w.frozen),
    (
        "a stop ends",
        |w| w.machines.system().path().contains(&"Stopping"),
        World::is_over,
    ),
    (
        "a restore ends",
        |w| w.intent.is_some(),
        |w| w.intent.is_none() || at_rest(w),
    ),
    (
        "an operation ends",
        |w| *w.machines.operation().state() != operation::State::Idle,
        |w| *w.machines.operation().state() == operation::State::Idle,
    ),
];

fn component(on_failure: OnFailure) -> Component {
    Component {
        on_failure,
        budget: 1,
        restarts: 0,
    }
}

fn plan(components: &[OnFailure], needs: &[&[usize]], retries: u8, keep_alive: bool) -> Plan {
    Plan {
        system: System {
            keep_alive,
            ..System::default()
        },
        process: Process {
            budget: retries,
            ..Process::default()
        },
        components: components.iter().copied().map(component).collect(),
        needs: (0..components.len())
            .map(|id| needs.get(id).map_or_else(Vec::new, |n| n.to_vec()))
            .collect(),
    }
}

fn check(name: &str, plan: &Plan, faults: u8, crashes: u8) {
    let start = Instant::now();
    let graph = Graph::explore(plan, faults, crashes);
    println!(
        "{name}: {} configurations, {} transitions, {:.2?}",
        graph.len(),
        graph.transitions,
        start.elapsed()
    );
    for (what, holds) in INVARIANTS {
        if let Some(path) = graph.broken(holds) {
            panic!("{name}: not so: {what}\n  {}", path.join("\n  "));
        }
    }
    for (what, begun, ended) in PROGRESS {
        if let Some(path) = graph.stuck(begun, ended) {
            panic!("{name}: not certain: {what}\n  {}", path.join("\n  "));
        }
    }
    // Without these the invariants could hold because nothing ever happens.
    for state in [system::State::Running, system::State::Stopped] {
        let mut worlds = graph.worlds().iter();
        assert!(
            worlds.any(|w| w.system() == state),
            "{name}: never {state:?}"
        );
    }
    let mut worlds = graph.worlds().iter();
    assert!(worlds.any(|w| w.frozen), "{name}: no checkpoint was taken");
    let mut worlds = graph.worlds().iter();
    assert!(
        worlds.any(|w| w.intent.is_some()),
        "{name}: nothing was restored"
    );
}

macro_rules! settings {
    ($($name:ident: [$($c:ident),*] needs $needs:expr, retries $r:expr, keep_alive $k:expr,
        faults $f:expr, crashes $x:expr;)*) => {$(
        #[test]
        fn $name() {
            let components = [$(OnFailure::$c),*];
            let needs: &[&[usize]] = &$needs;
            check(stringify!($name), &plan(&components, needs, $r, $k), $f, $x);
        }
    )*};
}

settings! {
    no_component: [] needs [], retries 0, keep_alive false, faults 3, crashes 1;
    no_component_kept_alive: [] needs [], retries 1, keep_alive true, faults 3, crashes 1;
    one_that_shuts_down: [Shutdown] needs [], retries 0, keep_alive false, faults 3, crashes 1;
    one_that_restarts: [Restart] needs [], retries 1, keep_alive false, faults 3, crashes 1;
    one_that_is_ignored: [Ignore] needs [], retries 1, keep_alive true, faults 3, crashes 1;
    two_that_shut_down: [Shutdown, Shutdown] needs [], retries 0, keep_alive false, faults 2, crashes 1;
    two_in_a_row: [Shutdown, Restart] needs [&[], &[0]], retries 0, keep_alive true, faults 2, crashes 1;
    two_on_an_ignored_one: [Ignore, Restart] needs [&[], &[0]], retries 1, keep_alive false, faults 2, crashes 1;
    three_in_a_row: [Shutdown, Restart, Ignore] needs [&[], &[0], &[1]], retries 0, keep_alive false, faults 2, crashes 0;
    three_as_a_diamond: [Restart, Shutdown, Restart] needs [&[], &[0], &[0]], retries 1, keep_alive true, faults 1, crashes 1;
}
