//! What the world must look like when a machine is in a state.

use super::{Intent, Proc};
use crate::component;
use crate::operation;
use crate::process;
use crate::system;

/// What runs of a component in this state.
pub(super) const fn component(state: component::State) -> Proc {
    use component::State as S;
    Proc {
        alive: matches!(
            state,
            S::Starting
                | S::Ready
                | S::Unready
                | S::Working
                | S::Aborting
                | S::Terminating
                | S::Killing
        ),
        // Nobody can tell who told it; what is done to it since is beyond reproach.
        halted: matches!(state, S::Terminating | S::Killing),
        timer: component_awaits_timer(state),
    }
}

/// What runs of a main process in this state.
pub(super) const fn process(state: process::State) -> Proc {
    use process::State as S;
    Proc {
        alive: matches!(
            state,
            S::Launching | S::Running | S::Terminating | S::Killing
        ),
        halted: false,
        timer: process_awaits_timer(state),
    }
}

/// Whether a component in this state may have a timer armed.
pub(in crate::safety) const fn component_awaits_timer(state: component::State) -> bool {
    use component::State as S;
    matches!(
        state,
        S::Starting
            | S::Ready
            | S::Working
            | S::Aborting
            | S::Backoff
            | S::Scheduled
            | S::Terminating
    )
}

/// Whether a main process in this state may have a timer armed.
pub(in crate::safety) const fn process_awaits_timer(state: process::State) -> bool {
    use process::State as S;
    matches!(state, S::Running | S::Backoff | S::Terminating)
}

/// Whether a system in this state has a sweep under way and its timer armed.
pub(in crate::safety) const fn awaits_empty_tree(state: system::State) -> bool {
    matches!(
        state,
        system::State::DrainingTree | system::State::SweepingTree
    )
}

/// Whether the deadline of the pause runs.
pub(in crate::safety) const fn is_pausing(state: operation::State) -> bool {
    matches!(
        state,
        operation::State::Freezing | operation::State::Capturing
    )
}

/// The work that each state of an operation waits for.
pub(super) const fn job(state: operation::State) -> Option<operation::Effect> {
    use operation::{Effect as E, State as S};
    Some(match state {
        S::Idle | S::Draining => return None,
        S::Announcing => E::Announce,
        S::PreCopying => E::PreCopy,
        S::Freezing => E::Freeze,
        S::Capturing => E::Capture,
        S::Thawing { .. } => E::Thaw,
        S::Sealing => E::Seal,
        S::Replicating => E::Replicate,
        S::Resolving => E::Resolve,
        S::Fetching => E::Fetch,
        S::Saving => E::Save,
        S::Swapping => E::Swap,
        S::Verifying => E::Verify,
        S::RollingBack => E::RollBack,
        S::Discarding => E::Discard,
    })
}

/// What the durable record says while an operation is in this state.
pub(super) const fn intent(state: operation::State) -> Option<Intent> {
    match state {
        operation::State::Swapping | operation::State::Verifying => Some(Intent::Restore),
        operation::State::RollingBack => Some(Intent::RollBack),
        _ => None,
    }
}
