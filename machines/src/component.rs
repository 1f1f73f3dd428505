//! A component: a helper (a database, a mount) that the main process needs.

use serde::{Deserialize, Serialize};
use statig::prelude::*;
use strum::{EnumIter, EnumMessage, IntoStaticStr};

use crate::chart::{Chart, Outbox};
use crate::exit::Exit;
use crate::timer::Timer;

/// What can happen to a component.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, EnumIter, EnumMessage, IntoStaticStr,
)]
pub enum Event {
    /// The system wants it up.
    Start,
    /// Every component that it needs is ready.
    NeedsReady,
    /// Its readiness check passed.
    Ready,
    /// Its process is gone, or could not be started.
    Exited(Exit),
    /// The timer of the state ran out.
    TimedOut,
    /// The system wants it down.
    Stop,
    /// The system wants it down at once, without grace.
    Kill,
}

/// What a component asks for.
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
    /// Ask whether what it needs is ready.
    AskNeeds,
    /// Start its process and its readiness check.
    Spawn,
    /// Send the stop signal.
    Terminate,
    /// Send SIGKILL.
    Kill,
    /// Arm the timer of the state.
    SetTimer(Timer),
    /// Disarm it.
    ClearTimer,
    /// Tell the system it is ready.
    ReportReady,
    /// Tell the system it is down and will be restarted.
    ReportDown,
    /// Tell the system it is down as asked.
    ReportStopped,
    /// Tell the system it is down for good, and that nothing goes on without it.
    ReportFailed,
    /// Tell the system it is down for good, and that the rest goes on without it.
    ReportLost,
}

/// What follows when a component dies or does not become ready in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OnFailure {
    /// The whole system stops: fail fast.
    #[default]
    Shutdown,
    /// It is started again after a pause; when its restarts are used up, the system stops.
    Restart,
    /// It stays down, and the rest goes on.
    Ignore,
}

/// The data a component keeps across states.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Component {
    /// What follows when it fails.
    pub on_failure: OnFailure,
    /// How many restarts in a row it may have.
    pub budget: u8,
    /// How many it has had since it was last healthy.
    pub restarts: u8,
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
    /// Down, as asked.
    Stopped,
    /// Wanted up, but something it needs is not ready.
    Waiting,
    /// Its process was started; it is not ready yet.
    Starting,
    /// Up and usable.
    Ready,
    /// It was not ready in time and is being killed.
    Aborting,
    /// It failed; a pause before the next start.
    Backoff,
    /// Told to go by its stop signal.
    Terminating,
    /// Told to go by SIGKILL.
    Killing,
    /// Down, not as asked, and not to come back by itself.
    Failed,
}

impl Chart for Component {
    type Input = Event;
    type Effect = Effect;
    const NAME: &'static str = "component";

    fn alphabet() -> Vec<Event> {
        vec![
            Event::Start,
            Event::NeedsReady,
            Event::Ready,
            Event::Exited(Exit::Code(0)),
            Event::TimedOut,
            Event::Stop,
            Event::Kill,
        ]
    }
    fn variants() -> Vec<Self> {
        [OnFailure::Shutdown, OnFailure::Restart, OnFailure::Ignore]
            .map(|on_failure| Self {
                on_failure,
                budget: 1,
                restarts: 0,
            })
            .to_vec()
    }
    fn superstates() -> &'static [(&'static str, &'static str)] {
        &[
            ("Up", "Its process runs, ready or not."),
            ("Stopping", "It was told to go and has not gone yet."),
        ]
    }
}

#[state_machine(
    initial = "State::Stopped",
    state(custom, name = "State"),
    superstate(derive(Debug, IntoStaticStr))
)]
impl Component {
    #[state]
    fn stopped(&mut self, event: &Event) -> Outcome<State> {
        match event {
            Event::Start => {
                self.restarts = 0;
                Transition(State::Waiting)
            }
            _ => Super,
        }
    }

    #[state(entry_action = "ask_needs")]
    fn waiting(context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::NeedsReady => Transition(State::Starting),
            Event::Stop => {
                context.emit(Effect::ReportStopped);
                Transition(State::Stopped)
            }
            _ => Super,
        }
    }

    #[superstate]
    fn up(&mut self, context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::Exited(_) => self.fail(context),
            Event::Stop => Transition(State::Terminating),
            Event::Kill => Transition(State::Killing),
            _ => Super,
        }
    }

    #[state(superstate = "up", entry_action = "spawn", exit_action = "clear_timer")]
    fn starting(context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::Ready => {
                context.emit(Effect::ReportReady);
                Transition(State::Ready)
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
    fn ready(&mut self, event: &Event) -> Outcome<State> {
        match event {
            Event::TimedOut => {
                self.restarts = 0;
                Handled
            }
            _ => Super,
        }
    }

    #[state(superstate = "up", entry_action = "kill")]
    fn aborting() -> Outcome<State> {
        Super
    }

    #[state(entry_action = "await_backoff", exit_action = "clear_timer")]
    fn backoff(context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::TimedOut => Transition(State::Starting),
            Event::Stop | Event::Kill => {
                context.emit(Effect::ReportStopped);
                Transition(State::Stopped)
            }
            _ => Super,
        }
    }

    #[superstate]
    fn stopping(context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::Exited(_) => {
                context.emit(Effect::ReportStopped);
                Transition(State::Stopped)
            }
            _ => Super,
        }
    }

    #[state(
        superstate = "stopping",
        entry_action = "terminate",
        exit_action = "clear_timer"
    )]
    fn terminating(event: &Event) -> Outcome<State> {
        match event {
            Event::TimedOut | Event::Kill => Transition(State::Killing),
            _ => Super,
        }
    }

    #[state(superstate = "stopping", entry_action = "kill")]
    fn killing() -> Outcome<State> {
        Super
    }

    #[state]
    fn failed(&mut self, event: &Event) -> Outcome<State> {
        match event {
            Event::Start => {
                self.restarts = 0;
                Transition(State::Waiting)
            }
            _ => Super,
        }
    }

    /// Where a component goes that died or was killed for not getting ready.
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
        context.emit(if ignore {
            Effect::ReportLost
        } else {
            Effect::ReportFailed
        });
        Transition(State::Failed)
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
