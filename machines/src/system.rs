//! The whole system: in which order things start, stop, are saved and are restored.

mod rules;
mod words;

use statig::prelude::*;
use strum::IntoStaticStr;

use crate::chart::Outbox;
use crate::timer::Timer;

pub use words::{Effect, Event, Failure, State, System};

#[state_machine(
    initial = "State::Off",
    state(custom, name = "State"),
    superstate(derive(Debug, IntoStaticStr))
)]
impl System {
    #[state]
    fn off(&mut self, context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::Mount => {
                self.mounted = true;
                Transition(State::Mounting)
            }
            _ => Self::begin(event, context),
        }
    }

    #[superstate]
    fn online(&mut self, context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::ComponentFailed => self.fail(Failure::Component, State::StoppingProcess),
            Event::Shutdown => Transition(State::StoppingProcess),
            Event::ComponentDown | Event::ProcessDown => {
                self.degraded = true;
                Handled
            }
            Event::AllUp => {
                self.degraded = false;
                Handled
            }
            event if event.is_refusable() => {
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

    #[state(superstate = "starting", entry_action = "start_storage")]
    fn mounting(event: &Event) -> Outcome<State> {
        match event {
            Event::StorageReady => Transition(State::Opening),
            _ => Super,
        }
    }

    #[state(superstate = "starting", entry_action = "open_storage")]
    fn opening(&mut self, context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::OpenFailed => self.fail(Failure::Storage, State::StoppingProcess),
            _ => Self::begin(event, context),
        }
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
            _ => self.process_ended(event, State::StoppingComponents, context),
        }
    }

    #[superstate(superstate = "online")]
    fn serving(&mut self, context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::Checkpoint => Transition(State::Checkpointing),
            Event::Restore => Transition(State::Preparing),
            Event::StopProcess => Transition(State::Parking),
            Event::RestartProcess => Transition(State::Restarting),
            _ if Self::control(event, context) => Handled,
            _ => self.process_ended(event, State::StoppingComponents, context),
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
            Event::Shutdown => Transition(State::StoppingOperation),
            _ => self.process_ended(event, State::StoppingOperation, context),
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
            Event::ComponentFailed => Handled,
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
            Event::ProcessStopped => Transition(State::DrainingComponents),
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

    /// The main process is told to go, and nothing else.
    #[superstate(superstate = "online")]
    fn halting() -> Outcome<State> {
        Super
    }

    #[state(superstate = "halting", entry_action = "halt_process")]
    fn parking(&mut self, event: &Event) -> Outcome<State> {
        match event {
            Event::ProcessStopped => {
                self.parked = true;
                Transition(State::Parked)
            }
            _ => Super,
        }
    }

    #[state(superstate = "halting", entry_action = "halt_process")]
    fn restarting(event: &Event) -> Outcome<State> {
        match event {
            Event::ProcessStopped => Transition(State::StartingComponents),
            _ => Super,
        }
    }

    #[state(superstate = "online")]
    fn parked(context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::StartProcess | Event::RestartProcess => Transition(State::StartingComponents),
            Event::Restore => Transition(State::Preparing),
            _ if Self::control(event, context) => Handled,
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
            event if event.is_refusable() => {
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
            Event::ProcessStopped => Transition(State::StoppingComponents),
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
            Event::TreeEmpty if context.when("storage", self.mounted) => {
                self.mounted = false;
                Transition(State::StoppingStorage)
            }
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

    /// Nothing uses it any more.
    #[state(superstate = "stopping", entry_action = "stop_storage")]
    fn stopping_storage(event: &Event) -> Outcome<State> {
        match event {
            Event::ComponentsDown => Transition(State::SweepingTree),
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

    #[action]
    fn start_storage(context: &mut Outbox<Effect>) {
        context.emit(Effect::StartStorage);
    }

    #[action]
    fn open_storage(context: &mut Outbox<Effect>) {
        context.emit(Effect::OpenStorage);
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
    fn halt_process(context: &mut Outbox<Effect>) {
        context.emit(Effect::StopProcess);
    }

    #[action]
    fn stop_components(&mut self, context: &mut Outbox<Effect>) {
        // The process may have ended by itself: then nothing closed the sessions yet.
        context.emit(Effect::CloseSessions);
        context.emit(Effect::StopComponents);
        self.hurry(Effect::Escalate, context);
    }

    #[action]
    fn stop_storage(&mut self, context: &mut Outbox<Effect>) {
        context.emit(Effect::StopStorage);
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
