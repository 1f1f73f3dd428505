//! A checkpoint or a restore. One chart for both, so that they cannot overlap.

mod words;

use statig::prelude::*;
use strum::IntoStaticStr;

use crate::chart::Outbox;
use crate::timer::Timer;

pub use words::{Effect, Event, Operation, State};

#[state_machine(
    initial = "State::Idle",
    state(custom, name = "State"),
    superstate(derive(Debug, IntoStaticStr))
)]
impl Operation {
    #[state]
    fn idle(event: &Event) -> Outcome<State> {
        match event {
            Event::Checkpoint => Transition(State::Announcing),
            Event::Restore => Transition(State::Resolving),
            Event::ResumeRestore => Transition(State::Swapping),
            Event::ResumeRollBack => Transition(State::RollingBack),
            _ => Super,
        }
    }

    #[superstate]
    fn checkpointing(context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::Failed => Transition(State::Discarding),
            Event::Abort => {
                context.emit(Effect::Cancel);
                Transition(State::Discarding)
            }
            _ => Super,
        }
    }

    #[state(superstate = "checkpointing", entry_action = "announce")]
    fn announcing(event: &Event) -> Outcome<State> {
        match event {
            Event::Announced => Transition(State::PreCopying),
            _ => Super,
        }
    }

    #[state(superstate = "checkpointing", entry_action = "pre_copy")]
    fn pre_copying(event: &Event) -> Outcome<State> {
        match event {
            Event::PreCopied => Transition(State::Freezing),
            _ => Super,
        }
    }

    /// From the first process that is held until the thaw: whatever goes wrong, it thaws.
    #[superstate(
        superstate = "checkpointing",
        entry_action = "set_deadline",
        exit_action = "clear_timer"
    )]
    fn pausing(context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::Failed => Transition(State::Thawing { captured: false }),
            Event::TimedOut | Event::Abort => {
                context.emit(Effect::Cancel);
                Transition(State::Thawing { captured: false })
            }
            _ => Super,
        }
    }

    #[state(superstate = "pausing", entry_action = "freeze")]
    fn freezing(event: &Event) -> Outcome<State> {
        match event {
            Event::Frozen => Transition(State::Capturing),
            _ => Super,
        }
    }

    #[state(superstate = "pausing", entry_action = "capture")]
    fn capturing(event: &Event) -> Outcome<State> {
        match event {
            Event::Captured => Transition(State::Thawing { captured: true }),
            _ => Super,
        }
    }

    #[state(superstate = "checkpointing", entry_action = "thaw")]
    fn thawing(captured: &mut bool, context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::Thawed if context.when("captured", *captured) => Transition(State::Sealing),
            Event::Thawed => Transition(State::Discarding),
            // The thaw itself is never given up: it is done again until it works.
            Event::Failed => {
                *captured = false;
                context.emit(Effect::Thaw);
                Handled
            }
            Event::Abort => {
                *captured = false;
                Handled
            }
            _ => Super,
        }
    }

    /// Once begun it is finished: the checkpoint may exist already.
    #[state(superstate = "checkpointing", entry_action = "seal")]
    fn sealing(event: &Event) -> Outcome<State> {
        match event {
            Event::Sealed => Transition(State::Replicating),
            Event::Abort => Handled,
            _ => Super,
        }
    }

    /// The checkpoint is sealed: it counts, whatever becomes of the copy elsewhere.
    #[state(superstate = "checkpointing", entry_action = "replicate")]
    fn replicating(context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::Replicated | Event::Failed => {
                context.emit(Effect::ReportDone);
                Transition(State::Idle)
            }
            // Only somebody's wait is given up: what is left is sent at the next start.
            Event::Abort => {
                context.emit(Effect::Hurry);
                Handled
            }
            _ => Super,
        }
    }

    #[superstate]
    fn restoring(event: &Event) -> Outcome<State> {
        match event {
            // Past the swap there is only forward or back.
            Event::Abort => Handled,
            _ => Super,
        }
    }

    #[superstate(superstate = "restoring")]
    fn preparing(context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::Failed => Transition(State::Discarding),
            Event::Abort => {
                context.emit(Effect::Cancel);
                Transition(State::Discarding)
            }
            _ => Super,
        }
    }

    #[state(superstate = "preparing", entry_action = "resolve")]
    fn resolving(event: &Event) -> Outcome<State> {
        match event {
            Event::Resolved => Transition(State::Fetching),
            _ => Super,
        }
    }

    #[state(superstate = "preparing", entry_action = "fetch")]
    fn fetching(event: &Event) -> Outcome<State> {
        match event {
            Event::Fetched => Transition(State::Saving),
            _ => Super,
        }
    }

    #[state(superstate = "preparing", entry_action = "save")]
    fn saving(context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::Saved => {
                context.emit(Effect::ReportPrepared);
                Transition(State::Draining)
            }
            _ => Super,
        }
    }

    #[state(superstate = "restoring")]
    fn draining(event: &Event) -> Outcome<State> {
        match event {
            Event::Drained => Transition(State::Swapping),
            Event::Abort => Transition(State::Discarding),
            _ => Super,
        }
    }

    #[state(superstate = "restoring", entry_action = "swap")]
    fn swapping(event: &Event) -> Outcome<State> {
        match event {
            Event::Swapped => Transition(State::Verifying),
            Event::Failed => Transition(State::RollingBack),
            _ => Super,
        }
    }

    #[state(superstate = "restoring", entry_action = "verify")]
    fn verifying(context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::Verified => {
                context.emit(Effect::ReportDone);
                Transition(State::Idle)
            }
            Event::Failed => Transition(State::RollingBack),
            _ => Super,
        }
    }

    #[state(superstate = "restoring", entry_action = "roll_back")]
    fn rolling_back(context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::RolledBack => {
                context.emit(Effect::ReportRolledBack);
                Transition(State::Idle)
            }
            Event::Failed => {
                context.emit(Effect::ReportFailed);
                Transition(State::Idle)
            }
            _ => Super,
        }
    }

    #[state(entry_action = "discard")]
    fn discarding(context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            // What cannot be removed now is garbage for the next start.
            Event::Discarded | Event::Failed => {
                context.emit(Effect::ReportFailed);
                Transition(State::Idle)
            }
            _ => Super,
        }
    }

    #[action]
    fn announce(context: &mut Outbox<Effect>) {
        context.emit(Effect::Announce);
    }

    #[action]
    fn pre_copy(context: &mut Outbox<Effect>) {
        context.emit(Effect::PreCopy);
    }

    #[action]
    fn set_deadline(context: &mut Outbox<Effect>) {
        context.emit(Effect::SetTimer(Timer::Freeze));
    }

    #[action]
    fn clear_timer(context: &mut Outbox<Effect>) {
        context.emit(Effect::ClearTimer);
    }

    #[action]
    fn freeze(context: &mut Outbox<Effect>) {
        context.emit(Effect::Freeze);
    }

    #[action]
    fn capture(context: &mut Outbox<Effect>) {
        context.emit(Effect::Capture);
    }

    #[action]
    fn thaw(context: &mut Outbox<Effect>) {
        context.emit(Effect::Thaw);
    }

    #[action]
    fn seal(context: &mut Outbox<Effect>) {
        context.emit(Effect::Seal);
    }

    #[action]
    fn replicate(context: &mut Outbox<Effect>) {
        context.emit(Effect::Replicate);
    }

    #[action]
    fn resolve(context: &mut Outbox<Effect>) {
        context.emit(Effect::Resolve);
    }

    #[action]
    fn fetch(context: &mut Outbox<Effect>) {
        context.emit(Effect::Fetch);
    }

    #[action]
    fn save(context: &mut Outbox<Effect>) {
        context.emit(Effect::Save);
    }

    #[action]
    fn swap(context: &mut Outbox<Effect>) {
        context.emit(Effect::Swap);
    }

    #[action]
    fn verify(context: &mut Outbox<Effect>) {
        context.emit(Effect::Verify);
    }

    #[action]
    fn roll_back(context: &mut Outbox<Effect>) {
        context.emit(Effect::ReportRollingBack);
        context.emit(Effect::RollBack);
    }

    #[action]
    fn discard(context: &mut Outbox<Effect>) {
        context.emit(Effect::Discard);
    }
}
