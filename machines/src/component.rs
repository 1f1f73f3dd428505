//! A component: a helper (a database, a mount) that the main process needs.

mod words;

use statig::prelude::*;
use strum::IntoStaticStr;

use crate::chart::Outbox;
use crate::exit::Exit;
use crate::timer::Timer;

pub use words::{Component, Effect, Event, Kind, OnFailure, State};

#[state_machine(
    initial = "State::Stopped",
    state(custom, name = "State"),
    superstate(derive(Debug, IntoStaticStr))
)]
impl Component {
    #[state]
    fn stopped(&mut self, event: &Event) -> Outcome<State> {
        self.down(event)
    }

    #[state(entry_action = "ask_needs")]
    fn waiting(&mut self, context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::NeedsReady if context.when("scheduled", self.kind == Kind::Scheduled) => {
                context.emit(Effect::ReportReady);
                Transition(State::Scheduled)
            }
            Event::NeedsReady => Transition(State::Starting),
            // It is on its way already.
            Event::Restart => Handled,
            _ => self.resting(event, context),
        }
    }

    #[superstate]
    fn up(&mut self, context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::Exited(_) => self.fail(context),
            Event::Stop => Transition(State::Terminating),
            Event::Kill => Transition(State::Killing),
            Event::Halt | Event::Restart => {
                self.again = *event == Event::Restart;
                context.emit(Effect::ReportDown);
                Transition(State::Terminating)
            }
            _ => Super,
        }
    }

    #[state(superstate = "up", entry_action = "spawn", exit_action = "clear_timer")]
    fn starting(&mut self, context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::Ready => {
                context.emit(Effect::ReportReady);
                Transition(State::Ready)
            }
            Event::Exited(exit)
                if context.when("oneshot", self.kind == Kind::Oneshot)
                    && context.when("success", self.is_success(*exit)) =>
            {
                self.restarts = 0;
                context.emit(Effect::ReportReady);
                Transition(State::Completed)
            }
            Event::TimedOut => Transition(State::Aborting),
            _ => Super,
        }
    }

    #[state(
        superstate = "up",
        entry_action = "await_health",
        exit_action = "clear_timer"
    )]
    fn ready(&mut self, context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::TimedOut => {
                self.restarts = 0;
                Handled
            }
            Event::Unready => {
                context.emit(Effect::ReportDown);
                Transition(State::Unready)
            }
            Event::Unhealthy => {
                context.emit(Effect::ReportDown);
                Transition(State::Aborting)
            }
            _ => Super,
        }
    }

    #[state(superstate = "up")]
    fn unready(context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::Ready => {
                context.emit(Effect::ReportReady);
                Transition(State::Ready)
            }
            Event::Unhealthy => Transition(State::Aborting),
            _ => Super,
        }
    }

    #[state(superstate = "up", entry_action = "spawn", exit_action = "clear_timer")]
    fn working(&mut self, context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::Exited(exit) if context.when("success", self.is_success(*exit)) => {
                Transition(State::Scheduled)
            }
            Event::TimedOut => {
                context.emit(Effect::ReportDown);
                Transition(State::Aborting)
            }
            _ => Super,
        }
    }

    #[state(
        superstate = "up",
        entry_action = "terminate",
        exit_action = "clear_timer"
    )]
    fn aborting(context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::TimedOut => {
                context.emit(Effect::Kill);
                Handled
            }
            _ => Super,
        }
    }

    #[state(entry_action = "await_backoff", exit_action = "clear_timer")]
    fn backoff(&mut self, context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::TimedOut => Transition(State::Starting),
            Event::Kill => Self::stopped_at_once(context),
            _ => self.resting(event, context),
        }
    }

    #[state]
    fn completed(&mut self, context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        self.resting(event, context)
    }

    #[state(entry_action = "await_schedule", exit_action = "clear_timer")]
    fn scheduled(&mut self, context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::TimedOut | Event::Restart => Transition(State::Working),
            Event::Kill => Self::stopped_at_once(context),
            _ => self.resting(event, context),
        }
    }

    #[superstate]
    fn stopping(&mut self, context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::Exited(_) if context.when("again", self.again) => {
                self.again = false;
                self.restarts = 0;
                Transition(State::Waiting)
            }
            Event::Exited(_) => {
                context.emit(Effect::ReportStopped);
                Transition(State::Stopped)
            }
            Event::Start | Event::Restart => {
                self.again = true;
                Handled
            }
            Event::Stop | Event::Halt => {
                self.again = false;
                Handled
            }
            _ => Super,
        }
    }

    #[state(
        superstate = "stopping",
        entry_action = "terminate",
        exit_action = "clear_timer"
    )]
    fn terminating(&mut self, event: &Event) -> Outcome<State> {
        match event {
            Event::TimedOut => Transition(State::Killing),
            Event::Kill => {
                self.again = false;
                Transition(State::Killing)
            }
            _ => Super,
        }
    }

    #[state(superstate = "stopping", entry_action = "kill")]
    fn killing(&mut self, event: &Event) -> Outcome<State> {
        match event {
            Event::Kill => {
                self.again = false;
                Handled
            }
            _ => Super,
        }
    }

    #[state]
    fn failed(&mut self, event: &Event) -> Outcome<State> {
        self.down(event)
    }

    /// What happens to a component that is down until somebody wants it up.
    fn down(&mut self, event: &Event) -> Outcome<State> {
        match event {
            Event::Start | Event::Restart => {
                self.restarts = 0;
                Transition(State::Waiting)
            }
            _ => Super,
        }
    }

    /// Where a component goes that need not be told to go.
    fn stopped_at_once(context: &mut Outbox<Effect>) -> Outcome<State> {
        context.emit(Effect::ReportStopped);
        Transition(State::Stopped)
    }

    /// What happens to a component that is wanted up while no process of it has to run.
    fn resting(&mut self, event: &Event, context: &mut Outbox<Effect>) -> Outcome<State> {
        match event {
            Event::Stop => Self::stopped_at_once(context),
            Event::Halt => {
                context.emit(Effect::ReportDown);
                Transition(State::Stopped)
            }
            Event::Restart => {
                self.restarts = 0;
                context.emit(Effect::ReportDown);
                Transition(State::Waiting)
            }
            _ => Super,
        }
    }

    /// Where a component goes that died, or was told to go for not being ready or healthy.
    fn fail(&mut self, context: &mut Outbox<Effect>) -> Outcome<State> {
        let restart = self.on_failure == OnFailure::Restart;
        if context.when("restart", restart)
            && context.when("restarts left", self.restarts < self.budget)
        {
            self.restarts += 1;
            context.emit(Effect::ReportDown);
            return Transition(State::Backoff);
        }
        let ignore = !restart && context.when("ignore", self.on_failure == OnFailure::Ignore);
        if ignore && context.when("scheduled", self.kind == Kind::Scheduled) {
            context.emit(Effect::ReportReady);
            return Transition(State::Scheduled);
        }
        context.emit(if ignore {
            Effect::ReportLost
        } else {
            Effect::ReportFailed
        });
        Transition(State::Failed)
    }

    fn is_success(&self, exit: Exit) -> bool {
        exit.is_success(&self.success)
    }

    #[action]
    fn ask_needs(context: &mut Outbox<Effect>) {
        context.emit(Effect::AskNeeds);
    }

    #[action]
    fn spawn(context: &mut Outbox<Effect>) {
        context.emit(Effect::Spawn);
        context.emit(Effect::SetTimer(Timer::Readiness));
    }

    #[action]
    fn await_health(context: &mut Outbox<Effect>) {
        context.emit(Effect::SetTimer(Timer::Healthy));
    }

    #[action]
    fn await_schedule(context: &mut Outbox<Effect>) {
        context.emit(Effect::SetTimer(Timer::Schedule));
    }

    #[action]
    fn await_backoff(&mut self, context: &mut Outbox<Effect>) {
        context.emit(Effect::SetTimer(Timer::Backoff {
            attempt: self.restarts,
        }));
    }

    #[action]
    fn terminate(context: &mut Outbox<Effect>) {
        context.emit(Effect::Terminate);
        context.emit(Effect::SetTimer(Timer::Grace));
    }

    #[action]
    fn kill(context: &mut Outbox<Effect>) {
        context.emit(Effect::Kill);
    }

    #[action]
    fn clear_timer(context: &mut Outbox<Effect>) {
        context.emit(Effect::ClearTimer);
    }
}
