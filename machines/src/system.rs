//! The whole system: in which order things start, stop, are saved and are restored.

use serde::{Deserialize, Serialize};
use statig::prelude::*;
use strum::{EnumIter, EnumMessage, IntoStaticStr};

use crate::chart::{Chart, Outbox, documented};
use crate::timer::Timer;

/// What can happen to the system.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, EnumIter, EnumMessage, IntoStaticStr,
)]
pub enum Event {
    /// Bring everything up.
    Boot,
    /// First finish a restore that a crash of the daemon cut off, then bring everything up.
    ResumeRestore,
    /// First finish a roll-back that a crash of the daemon cut off, then bring everything up.
    ResumeRollBack,
    /// Every component is ready, or is down and may be ignored.
    ComponentsReady,
    /// No component is up.
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
        /// Whether it exited with code 0.
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

/// What the system asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Effect {
    /// Start every component.
    StartComponents,
    /// Stop every component, those first that nothing needs any more.
    StopComponents,
    /// Start the main process.
    StartProcess,
    /// Stop the main process.
    StopProcess,
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
}

/// The data the system keeps across states.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
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
    /// The main process ended in error and the system was told to stay up.
    Parked,
    /// The operation under way is being given up, or waited for.
    StoppingOperation,
    /// The main process is being stopped for good.
    StoppingProcess,
    /// The components are being stopped for good.
    StoppingComponents,
    /// Whatever else is left is being stopped for good.
    SweepingTree,
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
        use strum::IntoEnumIterator as _;
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
    fn states() -> Vec<(&'static str, &'static str)> {
        documented::<State>()
    }
    fn superstates() -> &'static [(&'static str, &'static str)] {
        &[
            (
                "Online",
                "Not on the way down: a failure or a shutdown ends it.",
            ),
            (
                "Starting",
                "Coming up: components first, then the main process.",
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
            ("Draining", "A restore stops everything that runs."),
            ("Stopping", "On the way down. Nothing turns it round."),
        ]
    }
    fn events() -> Vec<(&'static str, &'static str)> {
        documented::<Event>()
    }
    fn is_final(state: &State) -> bool {
        matches!(state, State::Stopped | State::Failed)
    }
}

#[state_machine(
    initial = "State::Off",
    state(custom, name = "State"),
    superstate(derive(Debug, IntoStaticStr))
)]
impl System {
    #[state]
    fn off(context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::Boot => Transition(State::StartingComponents),
            Event::ResumeRestore => {
                context.emit(Effect::ResumeRestore);
                Transition(State::Swapping)
            }
            Event::ResumeRollBack => {
                context.emit(Effect::ResumeRollBack);
                Transition(State::RollingBack)
            }
            Event::Shutdown => Transition(State::Stopped),
            _ => Super,
        }
    }

    #[superstate]
    fn online(&mut self, context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::ComponentFailed => self.fail(Failure::Component, State::StoppingProcess),
            Event::ProcessExited { success } => {
                self.process_ended(*success, None, State::StoppingComponents, context)
            }
            Event::ProcessFailed => self.process_ended(
                false,
                Some(Failure::Process),
                State::StoppingComponents,
                context,
            ),
            Event::Shutdown => Transition(State::StoppingProcess),
            Event::ComponentDown | Event::ProcessDown => {
                self.degraded = true;
                Handled
            }
            Event::AllUp => {
                self.degraded = false;
                Handled
            }
            Event::Checkpoint | Event::Restore | Event::StartProcess => {
                context.emit(Effect::Refuse);
                Handled
            }
            _ => Super,
        }
    }

    #[superstate(superstate = "online")]
    fn starting() -> Outcome<State> {
        Super
    }

    #[state(superstate = "starting", entry_action = "start_components")]
    fn starting_components(event: &Event) -> Outcome<State> {
        match event {
            Event::ComponentsReady => Transition(State::StartingProcess),
            _ => Super,
        }
    }

    #[state(superstate = "starting", entry_action = "start_process")]
    fn starting_process(&mut self, context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::ProcessRunning => Transition(self.settled(context)),
            _ => Super,
        }
    }

    #[superstate(superstate = "online")]
    fn serving(event: &Event) -> Outcome<State> {
        match event {
            Event::Checkpoint => Transition(State::Checkpointing),
            Event::Restore => Transition(State::Preparing),
            _ => Super,
        }
    }

    #[state(superstate = "serving")]
    fn running(&mut self, event: &Event) -> Outcome<State> {
        match event {
            Event::ComponentDown | Event::ProcessDown => {
                self.degraded = true;
                Transition(State::Degraded)
            }
            _ => Super,
        }
    }

    #[state(superstate = "serving")]
    fn degraded(&mut self, event: &Event) -> Outcome<State> {
        match event {
            Event::AllUp => {
                self.degraded = false;
                Transition(State::Running)
            }
            _ => Super,
        }
    }

    /// An operation is under way: it ends before anything is stopped for good.
    #[superstate(superstate = "online")]
    fn operating(&mut self, context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::OperationDone | Event::OperationFailed => Transition(self.settled(context)),
            Event::ComponentFailed => self.fail(Failure::Component, State::StoppingOperation),
            Event::ProcessExited { success } => {
                self.process_ended(*success, None, State::StoppingOperation, context)
            }
            Event::ProcessFailed => self.process_ended(
                false,
                Some(Failure::Process),
                State::StoppingOperation,
                context,
            ),
            Event::Shutdown => Transition(State::StoppingOperation),
            _ => Super,
        }
    }

    #[state(superstate = "operating", entry_action = "begin_checkpoint")]
    fn checkpointing() -> Outcome<State> {
        Super
    }

    #[state(superstate = "operating", entry_action = "begin_restore")]
    fn preparing(event: &Event) -> Outcome<State> {
        match event {
            Event::OperationPrepared => Transition(State::DrainingProcess),
            _ => Super,
        }
    }

    /// Everything is stopped and started anew, so what fails meanwhile does not matter.
    #[superstate(superstate = "operating")]
    fn restoring(&mut self, context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::OperationDone | Event::OperationRolledBack => {
                Transition(State::StartingComponents)
            }
            Event::OperationRollingBack => Transition(State::RollingBack),
            Event::OperationFailed if context.when("keep alive", self.keep_alive) => {
                self.parked = true;
                Transition(State::Parked)
            }
            Event::OperationFailed => self.fail(Failure::Operation, State::StoppingProcess),
            Event::ComponentFailed
            | Event::ComponentDown
            | Event::ProcessExited { .. }
            | Event::ProcessFailed
            | Event::ProcessDown => Handled,
            _ => Super,
        }
    }

    #[superstate(superstate = "restoring")]
    fn draining() -> Outcome<State> {
        Super
    }

    #[state(superstate = "draining", entry_action = "stop_process")]
    fn draining_process(event: &Event) -> Outcome<State> {
        match event {
            Event::ProcessStopped | Event::ProcessExited { .. } | Event::ProcessFailed => {
                Transition(State::DrainingComponents)
            }
            _ => Super,
        }
    }

    #[state(superstate = "draining", entry_action = "stop_components")]
    fn draining_components(event: &Event) -> Outcome<State> {
        match event {
            Event::ComponentsDown => Transition(State::DrainingTree),
            _ => Super,
        }
    }

    #[state(
        superstate = "draining",
        entry_action = "sweep_tree",
        exit_action = "clear_timer"
    )]
    fn draining_tree(context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::TreeEmpty => {
                context.emit(Effect::ReportDrained);
                Transition(State::Swapping)
            }
            Event::TimedOut => {
                context.emit(Effect::KillTree);
                Handled
            }
            _ => Super,
        }
    }

    #[state(superstate = "restoring")]
    fn swapping() -> Outcome<State> {
        Super
    }

    #[state(superstate = "restoring")]
    fn rolling_back() -> Outcome<State> {
        Super
    }

    #[state(superstate = "online")]
    fn parked(event: &Event) -> Outcome<State> {
        match event {
            Event::StartProcess => Transition(State::StartingComponents),
            Event::Restore => Transition(State::Preparing),
            _ => Super,
        }
    }

    #[superstate]
    fn stopping(&mut self, context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::Shutdown => {
                self.urgent = true;
                context.emit(Effect::Escalate);
                Handled
            }
            Event::ComponentFailed => {
                self.failure.get_or_insert(Failure::Component);
                Handled
            }
            Event::Checkpoint | Event::Restore | Event::StartProcess => {
                context.emit(Effect::Refuse);
                Handled
            }
            _ => Super,
        }
    }

    #[state(superstate = "stopping", entry_action = "abort_operation")]
    fn stopping_operation(event: &Event) -> Outcome<State> {
        match event {
            Event::OperationDone | Event::OperationRolledBack | Event::OperationFailed => {
                Transition(State::StoppingProcess)
            }
            _ => Super,
        }
    }

    #[state(superstate = "stopping", entry_action = "stop_process")]
    fn stopping_process(event: &Event) -> Outcome<State> {
        match event {
            Event::ProcessStopped | Event::ProcessExited { .. } | Event::ProcessFailed => {
                Transition(State::StoppingComponents)
            }
            _ => Super,
        }
    }

    #[state(superstate = "stopping", entry_action = "stop_components")]
    fn stopping_components(event: &Event) -> Outcome<State> {
        match event {
            Event::ComponentsDown => Transition(State::SweepingTree),
            _ => Super,
        }
    }

    #[state(
        superstate = "stopping",
        entry_action = "sweep_tree",
        exit_action = "clear_timer"
    )]
    fn sweeping_tree(&mut self, context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::TreeEmpty if context.when("failed", self.failure.is_some()) => {
                Transition(State::Failed)
            }
            Event::TreeEmpty => Transition(State::Stopped),
            Event::TimedOut | Event::Shutdown => {
                context.emit(Effect::KillTree);
                Handled
            }
            _ => Super,
        }
    }

    #[state]
    fn stopped() -> Outcome<State> {
        Super
    }

    #[state]
    fn failed() -> Outcome<State> {
        Super
    }

    /// Where the system goes once an operation or the start is over.
    fn settled(&self, context: &mut Outbox<Effect>) -> State {
        if context.when("parked", self.parked) {
            State::Parked
        } else if context.when("degraded", self.degraded) {
            State::Degraded
        } else {
            State::Running
        }
    }

    /// Notes the first failure and goes down by way of `next`.
    fn fail(&mut self, failure: Failure, next: State) -> Outcome<State> {
        self.failure.get_or_insert(failure);
        Transition(next)
    }

    /// The main process is down for good: the system goes down with it by way of
    /// `next`, or parks if it ended in error and the system is to stay up.
    fn process_ended(
        &mut self,
        success: bool,
        failure: Option<Failure>,
        next: State,
        context: &mut Outbox<Effect>,
    ) -> Outcome<State> {
        let error = !context.when("success", success);
        if error && context.when("keep alive", self.keep_alive) {
            self.parked = true;
            // An operation under way is finished first; it then settles in Parked.
            return if next == State::StoppingOperation {
                Handled
            } else {
                Transition(State::Parked)
            };
        }
        self.failure = self.failure.or(failure);
        Transition(next)
    }

    /// Asks for `effect` if a second shutdown said that there is no time.
    fn hurry(&self, effect: Effect, context: &mut Outbox<Effect>) {
        if self.urgent {
            context.emit(effect);
        }
    }

    #[action]
    fn start_components(&mut self, context: &mut Outbox<Effect>) {
        self.degraded = false;
        context.emit(Effect::StartComponents);
    }

    #[action]
    fn start_process(&mut self, context: &mut Outbox<Effect>) {
        self.parked = false;
        context.emit(Effect::StartProcess);
    }

    #[action]
    fn stop_process(&mut self, context: &mut Outbox<Effect>) {
        context.emit(Effect::CloseSessions);
        context.emit(Effect::StopProcess);
        self.hurry(Effect::Escalate, context);
    }

    #[action]
    fn stop_components(&mut self, context: &mut Outbox<Effect>) {
        // The process may have ended by itself: then nothing closed the sessions yet.
        context.emit(Effect::CloseSessions);
        context.emit(Effect::StopComponents);
        self.hurry(Effect::Escalate, context);
    }

    #[action]
    fn sweep_tree(&mut self, context: &mut Outbox<Effect>) {
        context.emit(Effect::SweepTree);
        context.emit(Effect::SetTimer(Timer::Sweep));
        self.hurry(Effect::KillTree, context);
    }

    #[action]
    fn clear_timer(context: &mut Outbox<Effect>) {
        context.emit(Effect::ClearTimer);
    }

    #[action]
    fn abort_operation(context: &mut Outbox<Effect>) {
        context.emit(Effect::AbortOperation);
    }

    #[action]
    fn begin_checkpoint(context: &mut Outbox<Effect>) {
        context.emit(Effect::BeginCheckpoint);
    }

    #[action]
    fn begin_restore(context: &mut Outbox<Effect>) {
        context.emit(Effect::BeginRestore);
    }
}
