//! Everything that can come to be when the machines run in a world that does what they
//! ask in every order, and goes wrong at any moment. For tests only (feature `model`).

#![allow(
    clippy::indexing_slicing,
    reason = "numbers of worlds and components, made here and nowhere else"
)]

mod graph;
mod settings;
mod world;

pub use graph::{Graph, steps_of};
pub use settings::{Reload, SETTINGS, Setting};
pub use world::{Action, World};

use crate::operation;
use crate::system;

/// Something that, once begun, must come to an end by itself: what it is, when it is
/// begun, and when it has ended.
pub type Progress = (&'static str, fn(&World) -> bool, fn(&World) -> bool);

/// What must come to an end whatever the world does, if nobody asks for anything more
/// and nothing more goes wrong.
pub const PROGRESS: &[Progress] = &[
    ("it comes to rest", |_| true, is_at_rest),
    (
        "what waits has something to wait for",
        waits_for_nothing,
        |w| !waits_for_nothing(w),
    ),
    (
        "what is held is let go",
        |w| w.witness.frozen,
        |w| !w.witness.frozen,
    ),
    (
        "a stop ends",
        |w| w.machines.system().path().contains(&"Stopping"),
        World::is_over,
    ),
    (
        "a restore ends",
        |w| w.witness.intent.is_some(),
        |w| w.witness.intent.is_none() || is_at_rest(w),
    ),
    (
        "an operation ends",
        |w| *w.machines.operation().state() != operation::State::Idle,
        |w| *w.machines.operation().state() == operation::State::Idle,
    ),
    (
        "what stopped without a failure, with everything down, ends as stopped",
        |w| {
            let chart = w.machines.system().chart();
            let is_last = w.system() == system::State::SweepingTree && !chart.mounted;
            is_last && chart.failure.is_none()
        },
        |w| w.system() == system::State::Stopped,
    ),
];

/// Something that can be so, and when it is.
pub type Possibility = (&'static str, fn(&World) -> bool);

/// What must be possible. Without these the rest could hold because nothing ever happens.
pub const POSSIBLE: &[Possibility] = &[
    ("everything runs", |w| w.system() == system::State::Running),
    ("everything is down, in order", |w| {
        w.system() == system::State::Stopped
    }),
    ("something is held for a checkpoint", |w| w.witness.frozen),
    ("something is restored", |w| w.witness.intent.is_some()),
];

fn waits_for_nothing(w: &World) -> bool {
    let mut components = 0..w.machines.components().len();
    components.any(|number| w.machines.waits_for_nothing(number))
}

fn is_at_rest(w: &World) -> bool {
    use system::State as S;
    matches!(
        w.system(),
        S::Running | S::Degraded | S::Parked | S::Stopped | S::Failed
    )
}
