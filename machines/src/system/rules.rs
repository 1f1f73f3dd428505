//! The rules that several states of the system share.

use statig::prelude::*;

use super::{Effect, Event, Failure, State, System};
use crate::chart::Outbox;

impl System {
    /// Where the system goes first, once the storage is there: a restore that was cut off
    /// comes before everything else.
    pub(super) fn begin(event: &Event, context: &mut Outbox<Effect>) -> Outcome<State> {
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
            _ => Super,
        }
    }

    /// Where the system goes once an operation or the start is over.
    pub(super) fn settled(&self, context: &mut Outbox<Effect>) -> State {
        if context.when("parked", self.parked) {
            State::Parked
        } else if context.when("degraded", self.degraded) {
            State::Degraded
        } else {
            State::Running
        }
    }

    /// Notes the first failure and goes down by way of `next`.
    pub(super) fn fail(&mut self, failure: Failure, next: State) -> Outcome<State> {
        self.failure.get_or_insert(failure);
        Transition(next)
    }

    /// If the main process is down for good, the system goes down with it by way of
    /// `next`, or parks if it ended in error and the system is to stay up.
    pub(super) fn process_ended(
        &mut self,
        event: &Event,
        next: State,
        context: &mut Outbox<Effect>,
    ) -> Outcome<State> {
        let (success, failure) = match event {
            Event::ProcessExited { success } => (*success, None),
            Event::ProcessFailed => (false, Some(Failure::Process)),
            _ => return Super,
        };
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

    /// Passes on what somebody wants of one component; whether it was that.
    pub(super) fn control(event: &Event, context: &mut Outbox<Effect>) -> bool {
        context.emit(match event {
            Event::StartComponent(id) => Effect::StartComponent(*id),
            Event::StopComponent(id) => Effect::StopComponent(*id),
            Event::RestartComponent(id) => Effect::RestartComponent(*id),
            _ => return false,
        });
        true
    }

    /// Asks for `effect` if a second shutdown said that there is no time.
    pub(super) fn hurry(&self, effect: Effect, context: &mut Outbox<Effect>) {
        if self.urgent {
            context.emit(effect);
        }
    }
}
