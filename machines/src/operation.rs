//! A checkpoint or a restore. One chart for both, so that they cannot overlap.

use serde::{Deserialize, Serialize};
use statig::prelude::*;
use strum::{EnumIter, EnumMessage, IntoStaticStr};

use crate::chart::{Chart, Outbox, documented};
use crate::timer::Timer;

/// What can happen to an operation.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, EnumIter, EnumMessage, IntoStaticStr,
)]
pub enum Event {
    /// Take a checkpoint.
    Checkpoint,
    /// Restore one.
    Restore,
    /// Finish a restore that a crash of the daemon cut off.
    ResumeRestore,
    /// Finish a roll-back that a crash of the daemon cut off.
    ResumeRollBack,
    /// The components have done their `checkpoint_command`s.
    Announced,
    /// What could be copied while the process runs has been.
    PreCopied,
    /// Nothing writes any more.
    Frozen,
    /// The instant is taken.
    Captured,
    /// Everything runs again.
    Thawed,
    /// The checkpoint is complete and on stable storage.
    Sealed,
    /// The checkpoint is where it survives the loss of the machine, if it is to go there.
    Replicated,
    /// The checkpoint to restore exists.
    Resolved,
    /// The checkpoint to restore is here, whole, beside the live tree.
    Fetched,
    /// The way back (the automatic checkpoint) is prepared.
    Saved,
    /// Nothing runs any more that could see the swap.
    Drained,
    /// The restored tree is in place and the components have restored their part.
    Swapped,
    /// The restored tree is what it should be, and the restore is final.
    Verified,
    /// The old tree is back in place.
    RolledBack,
    /// What a failed operation left behind is gone.
    Discarded,
    /// The work of the state failed.
    Failed,
    /// The timer of the state ran out.
    TimedOut,
    /// The system stops and has no more use for the operation.
    Abort,
}

/// What an operation asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Effect {
    /// Run the components' `checkpoint_command`s.
    Announce,
    /// Copy what can be copied while the process runs.
    PreCopy,
    /// Hold everything that could write.
    Freeze,
    /// Take the instant.
    Capture,
    /// Let everything run again.
    Thaw,
    /// Complete the checkpoint on stable storage.
    Seal,
    /// Bring the checkpoint to where it survives the loss of the machine.
    Replicate,
    /// Look for the checkpoint to restore.
    Resolve,
    /// Bring it here, whole, beside the live tree.
    Fetch,
    /// Prepare the way back.
    Save,
    /// Put the restored tree in place; run the components' `restore_command`s.
    Swap,
    /// Check the restored tree and make the restore final.
    Verify,
    /// Put the old tree back in place.
    RollBack,
    /// Remove what a failed operation left behind, once its work has ended.
    Discard,
    /// Tell the work under way to end soon; what it reports no longer counts.
    Cancel,
    /// Arm the timer of the state.
    SetTimer(Timer),
    /// Disarm it.
    ClearTimer,
    /// Tell the system that what runs may be stopped.
    ReportPrepared,
    /// Tell the system that the old tree is being put back.
    ReportRollingBack,
    /// Tell the system that the old tree is back: the restore failed, nothing is lost.
    ReportRolledBack,
    /// Tell the system it is done.
    ReportDone,
    /// Tell the system it did not work out.
    ReportFailed,
}

/// An operation keeps no data across states.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Operation;

/// The leaf states.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    EnumIter,
    EnumMessage,
    IntoStaticStr,
)]
pub enum State {
    /// None under way.
    Idle,
    /// The components' `checkpoint_command`s run.
    Announcing,
    /// What can be copied while the process runs is being copied.
    PreCopying,
    /// Everything that could write is being held.
    Freezing,
    /// The instant is being taken; nothing writes.
    Capturing,
    /// Everything is let run again.
    Thawing {
        /// Whether the instant was taken.
        captured: bool,
    },
    /// The checkpoint is being completed on stable storage; everything runs.
    Sealing,
    /// The checkpoint is being brought to where it survives the loss of the machine.
    Replicating,
    /// The checkpoint to restore is being looked up.
    Resolving,
    /// The checkpoint to restore is being brought here; everything still runs.
    Fetching,
    /// The way back, an automatic checkpoint, is being prepared.
    Saving,
    /// The system stops everything that runs.
    Draining,
    /// The restored tree is being put in place.
    Swapping,
    /// The restored tree is being checked.
    Verifying,
    /// The restore failed; the old tree is being put back.
    RollingBack,
    /// What a failed operation left behind is being removed.
    Discarding,
}

impl Chart for Operation {
    type Input = Event;
    type Effect = Effect;
    const NAME: &'static str = "operation";

    fn alphabet() -> Vec<Event> {
        use strum::IntoEnumIterator as _;
        Event::iter().collect()
    }
    fn variants() -> Vec<Self> {
        vec![Self]
    }
    fn states() -> Vec<(&'static str, &'static str)> {
        documented::<State>()
    }
    fn superstates() -> &'static [(&'static str, &'static str)] {
        &[
            ("Checkpointing", "A checkpoint is being taken."),
            (
                "Pausing",
                "Writes are held, or about to be. The deadline of the pause runs.",
            ),
            ("Restoring", "A checkpoint is being restored."),
            (
                "Preparing",
                "A restore gets ready; nothing has been stopped or changed yet.",
            ),
        ]
    }
    fn events() -> Vec<(&'static str, &'static str)> {
        documented::<Event>()
    }
}

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
            // The thaw itself is never given up.
            Event::Abort | Event::Failed => {
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
            Event::Abort => Handled,
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
