//! The timers that charts ask for, by what they wait for.

use serde::Serialize;

/// What a timer is for. How long it runs is configuration, not the chart's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Default)]
pub enum Timer {
    /// How long a component may take to become ready.
    #[default]
    Readiness,
    /// How long a process may take to go after the stop signal.
    Grace,
    /// The pause before restart number `attempt` (from 1), which grows with it.
    Backoff {
        /// The number of the restart that comes after the pause.
        attempt: u8,
    },
    /// The time until a scheduled component runs again.
    Schedule,
    /// How long something must stay up for its restarts to be forgiven.
    Healthy,
    /// How long writes may be held for a checkpoint.
    Freeze,
    /// How long what is left of the tree may take to go.
    Sweep,
}
