//! The words of the system: its events, effects, data and states.

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumMessage, IntoEnumIterator as _, IntoStaticStr};

use crate::chart::Chart;
use crate::timer::Timer;

/// What can happen to the system.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, EnumIter, EnumMessage, IntoStaticStr,
)]
pub enum Event {
    /// First bring up what the environment's directory is on.
    Mount,
    /// Every component that carries the storage is ready.
    StorageReady,
    /// The checkpoints cannot be opened.
    OpenFailed,
    /// Bring everything up.
    Boot,
    /// First finish a restore that a crash of the daemon cut off, then bring everything up.
    ResumeRestore,
    /// First finish a roll-back that a crash of the daemon cut off, then bring everything up.
    ResumeRollBack,
    /// Every component is ready, or is down and may be ignored.
    ComponentsReady,
    /// No component is up, those that carry the storage aside as long as they are to stay.
    ComponentsDown,
    /// A component is down for the moment, or down and ignored.
    ComponentDown,
    /// A component is down for good.
    ComponentFailed,
    /// Every component is ready and the main process runs.
    AllUp,
    /// The main process is up.
    ProcessRunning,
    /// The main process is down for the moment.
    ProcessDown,
    /// The main process is down as asked.
    ProcessStopped,
    /// The main process ended by itself.
    ProcessExited {
        /// Whether its exit code means success.
        success: bool,
    },
    /// The main process keeps failing; its restarts are used up.
    ProcessFailed,
    /// Take a checkpoint.
    Checkpoint,
    /// Restore a checkpoint.
    Restore,
    /// Start the main process again.
    StartProcess,
    /// Stop the main process; everything else goes on.
    StopProcess,
    /// Stop the main process and start it again.
    RestartProcess,
    /// Start the component of that number.
    StartComponent(usize),
    /// Stop the component of that number; everything else goes on.
    StopComponent(usize),
    /// Stop the component of that number and start it again.
    RestartComponent(usize),
    /// The restore has what it needs; what runs may be stopped.
    OperationPrepared,
    /// The restore failed past the swap; the old tree is being put back.
    OperationRollingBack,
    /// The old tree is back in place.
    OperationRolledBack,
    /// The operation is done.
    OperationDone,
    /// The operation did not work out.
    OperationFailed,
    /// Take everything down; a second one takes it down at once.
    Shutdown,
    /// Nothing that we started, nor anything started by it, is left.
    TreeEmpty,
    /// The timer of the state ran out.
    TimedOut,
}

impl Event {
    /// Whether somebody asks for something that cannot be had in every state.
    #[must_use]
    pub const fn is_refusable(&self) -> bool {
        matches!(
            self,
            Self::Checkpoint
                | Self::Restore
                | Self::StartProcess
                | Self::StopProcess
                | Self::RestartProcess
                | Self::StartComponent(_)
                | Self::StopComponent(_)
                | Self::RestartComponent(_)
        )
    }
}

/// What the system asks for.
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
    /// Start the components that carry the storage.
    StartStorage,
    /// Open the checkpoints, and look whether a restore was cut off.
    OpenStorage,
    /// Start every component.
    StartComponents,
    /// Stop every component but those that carry the storage, those first that nothing needs
    /// any more.
    StopComponents,
    /// Stop the components that carry the storage, in the same order.
    StopStorage,
    /// Start the main process.
    StartProcess,
    /// Stop the main process.
    StopProcess,
    /// Start one component.
    StartComponent(usize),
    /// Stop one component.
    StopComponent(usize),
    /// Stop one component and start it again.
    RestartComponent(usize),
    /// End all exec sessions; start no new ones.
    CloseSessions,
    /// Kill what is being stopped, without grace.
    Escalate,
    /// Tell everything left in the tree to go, and report when nothing is left.
    SweepTree,
    /// Kill everything left in the tree.
    KillTree,
    /// Arm the timer of the state.
    SetTimer(Timer),
    /// Disarm it.
    ClearTimer,
    /// Begin a checkpoint.
    BeginCheckpoint,
    /// Begin a restore.
    BeginRestore,
    /// Finish a restore that was cut off.
    ResumeRestore,
    /// Finish a roll-back that was cut off.
    ResumeRollBack,
    /// Tell the operation that nothing runs any more.
    ReportDrained,
    /// Give up the operation under way, if it still can be.
    AbortOperation,
    /// Answer a request: not in this state.
    Refuse,
}

/// What made the system stop, if it was a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Failure {
    /// The main process kept failing.
    Process,
    /// A component failed.
    Component,
    /// A restore failed, and so did its roll-back.
    Operation,
    /// The checkpoints could not be opened.
    Storage,
}

/// The data the system keeps across states.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts, each with a name in the diagram"
)]
pub struct System {
    /// Whether a main process that ended in error leaves the system up, parked.
    pub keep_alive: bool,
    /// Whether some part is down while the rest runs.
    pub degraded: bool,
    /// Whether the main process ended and is not to be restarted by itself.
    pub parked: bool,
    /// Whether components carry the storage that are still to be stopped.
    #[serde(default)]
    pub mounted: bool,
    /// Whether a second shutdown was asked for: whatever is left is killed without grace.
    pub urgent: bool,
    /// The first failure that made the system stop.
    pub failure: Option<Failure>,
}

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
    /// Nothing was started yet.
    Off,
    /// Waiting for the components that carry the storage to be ready.
    Mounting,
    /// The checkpoints are being opened.
    Opening,
    /// Waiting for every component to be ready.
    StartingComponents,
    /// Waiting for the main process to be up.
    StartingProcess,
    /// All is up.
    Running,
    /// Some part is down and coming back, or ignored; the rest is up.
    Degraded,
    /// A checkpoint is being taken; everything runs.
    Checkpointing,
    /// A restore is being prepared; everything runs.
    Preparing,
    /// A restore stops the main process and the sessions.
    DrainingProcess,
    /// A restore stops the components.
    DrainingComponents,
    /// A restore stops whatever else is left.
    DrainingTree,
    /// A restore puts its tree in place.
    Swapping,
    /// A failed restore puts the old tree back.
    RollingBack,
    /// Somebody wants the main process down; it is told to go.
    Parking,
    /// Somebody wants the main process started anew; it is told to go.
    Restarting,
    /// The main process is down, and the rest stays up: it ended in error and the system was
    /// told to stay up, or somebody stopped it.
    Parked,
    /// The operation under way is being given up, or waited for.
    StoppingOperation,
    /// The main process is being stopped for good.
    StoppingProcess,
    /// The components are being stopped for good, but those that carry the storage.
    StoppingComponents,
    /// Whatever else is left is being stopped for good.
    SweepingTree,
    /// The components that carry the storage are being stopped for good.
    StoppingStorage,
    /// All is down, in order.
    Stopped,
    /// All is down, after a failure.
    Failed,
}

impl Chart for System {
    type Input = Event;
    type Effect = Effect;
    const NAME: &'static str = "system";

    fn alphabet() -> Vec<Event> {
        let mut events: Vec<_> = Event::iter().collect();
        events.push(Event::ProcessExited { success: true });
        events
    }
    fn variants() -> Vec<Self> {
        [false, true]
            .map(|keep_alive| Self {
                keep_alive,
                ..Self::default()
            })
            .to_vec()
    }
    fn superstates() -> &'static [(&'static str, &'static str)] {
        &[
            (
                "Online",
                "Not on the way down: a failure or a shutdown ends it.",
            ),
            (
                "Starting",
                "Coming up: the storage first, then components, then the main process.",
            ),
            (
                "Serving",
                "Up: commands, checkpoints and restores are accepted.",
            ),
            ("Operating", "A checkpoint or a restore is under way."),
            (
                "Restoring",
                "A restore has begun to stop what runs. It ends with everything started again.",
            ),
            (
                "Halting",
                "The main process is being stopped on request. Everything else goes on.",
            ),
            ("Draining", "A restore stops everything that runs."),
            ("Stopping", "On the way down. Nothing turns it round."),
        ]
    }
    fn requests() -> &'static [(&'static str, &'static str)] {
        &[
            ("Checkpoint", "Take a checkpoint: `POST /checkpoint`"),
            ("Restore", "Restore one: `POST /checkpoints/{id}/restore`"),
            (
                "StartProcess",
                "Start the main process again: `POST /process/start`",
            ),
            ("StopProcess", "Stop it: `POST /process/stop`"),
            (
                "RestartProcess",
                "Stop and start it: `POST /process/restart`",
            ),
            (
                "StartComponent",
                "Start a component: `POST /components/{name}/start`",
            ),
            ("StopComponent", "Stop it: `POST /components/{name}/stop`"),
            (
                "RestartComponent",
                "Stop and start it: `POST /components/{name}/restart`",
            ),
            ("Shutdown", "Stop everything: SIGTERM or SIGINT"),
        ]
    }
    fn is_final(state: &State) -> bool {
        matches!(state, State::Stopped | State::Failed)
    }
}
