//! The words of an operation: its events, effects, data and states.

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumMessage, IntoEnumIterator as _, IntoStaticStr};

use crate::chart::Chart;
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
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    EnumIter,
    EnumMessage,
    IntoStaticStr,
)]
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
    /// Tell the work under way to end soon; what it reports counts.
    Hurry,
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
        Event::iter().collect()
    }
    fn variants() -> Vec<Self> {
        vec![Self]
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
}
