//! The main process: what the environment is there to run.

use serde::{Deserialize, Serialize};
use statig::prelude::*;
use strum::{EnumIter, EnumMessage, IntoStaticStr};

use crate::chart::{Chart, Outbox};
use crate::exit::Exit;
use crate::timer::Timer;

/// What can happen to the main process.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, EnumIter, EnumMessage, IntoStaticStr,
)]
pub enum Event {
    /// The system wants it up.
    Start,
    /// It was started.
    Launched,
    /// It is gone, or could not be started (codes 126 and 127).
    Exited(Exit),
    /// The timer of the state ran out.
    TimedOut,
    /// The system wants it down.
    Stop,
    /// The system wants it down at once, without grace.
    Kill,
}

/// What the main process asks for.
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
    /// Start it.
    Spawn,
    /// Send SIGTERM to its process group.
    Terminate,
    /// Send SIGKILL to its process group.
    Kill,
    /// Arm the timer of the state.
    SetTimer(Timer),
    /// Disarm it.
    ClearTimer,
    /// Tell the system it runs.
    ReportRunning,
    /// Tell the system it is down and will be restarted.
    ReportDown,
    /// Tell the system it is down as asked.
    ReportStopped,
    /// Tell the system it ended by itself.
    ReportExited {
        /// Whether its exit code means success.
        success: bool,
    },
    /// Tell the system it keeps failing and its restarts are used up.
    ReportFailed,
}

/// The data the main process keeps across states.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// How many restarts in a row it may have; 0 = its first exit is final.
    pub budget: u8,
    /// How many it has had since it was last healthy.
    pub restarts: u8,
    /// How it ended last.
    pub last: Option<Exit>,
    /// The exit codes that mean success, beside 0.
    pub success: Vec<u8>,
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
    /// Not started yet, or down as asked.
    Stopped,
    /// Asked to be started.
    Launching,
    /// Up.
    Running,
    /// It failed; a pause before the next start.
    Backoff,
    /// Told to go by SIGTERM.
    Terminating,
    /// Told to go by SIGKILL.
    Killing,
    /// It ended by itself; how is kept as the final result.
    Exited,
    /// It kept failing until its restarts were used up.
    Failed,
}

impl Chart for Process {
    type Input = Event;
    type Effect = Effect;
    const NAME: &'static str = "process";

    fn alphabet() -> Vec<Event> {
        vec![
            Event::Start,
            Event::Launched,
            Event::Exited(Exit::Code(0)),
            Event::Exited(Exit::Code(1)),
            Event::TimedOut,
            Event::Stop,
            Event::Kill,
        ]
    }
    fn variants() -> Vec<Self> {
        [0, 1]
            .map(|budget| Self {
                budget,
                ..Self::default()
            })
            .to_vec()
    }
    fn superstates() -> &'static [(&'static str, &'static str)] {
        &[
            ("Up", "It runs, or is about to."),
            ("Stopping", "It was told to go and has not gone yet."),
            (
                "Down",
                "It does not run, and nothing will start it but the system.",
            ),
        ]
    }
}

#[state_machine(
    initial = "State::Stopped",
    state(custom, name = "State"),
    superstate(derive(Debug, IntoStaticStr))
)]
impl Process {
    #[superstate]
    fn down(&mut self, context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::Start => {
                self.restarts = 0;
                Transition(State::Launching)
            }
            Event::Stop => {
                context.emit(Effect::ReportStopped);
                Handled
            }
            _ => Super,
        }
    }

    #[state(superstate = "down")]
    fn stopped() -> Outcome<State> {
        Super
    }

    #[superstate]
    fn up(&mut self, context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::Exited(exit) => self.ended(*exit, context),
            Event::Stop => Transition(State::Terminating),
            Event::Kill => Transition(State::Killing),
            _ => Super,
        }
    }

    #[state(superstate = "up", entry_action = "spawn")]
    fn launching(context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::Launched => {
                context.emit(Effect::ReportRunning);
                Transition(State::Running)
            }
            _ => Super,
        }
    }

    #[state(
        superstate = "up",
        entry_action = "await_health",
        exit_action = "clear_timer"
    )]
    fn running(&mut self, event: &Event) -> Outcome<State> {
        match event {
            Event::TimedOut => {
                self.restarts = 0;
                Handled
            }
            _ => Super,
        }
    }

    #[state(entry_action = "await_backoff", exit_action = "clear_timer")]
    fn backoff(context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::TimedOut => Transition(State::Launching),
            Event::Stop | Event::Kill => {
                context.emit(Effect::ReportStopped);
                Transition(State::Stopped)
            }
            _ => Super,
        }
    }

    #[superstate]
    fn stopping(&mut self, context: &mut Outbox<Effect>, event: &Event) -> Outcome<State> {
        match event {
            Event::Exited(exit) => {
                self.last = Some(*exit);
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

    #[state(superstate = "down")]
    fn exited() -> Outcome<State> {
        Super
    }

    #[state(superstate = "down")]
    fn failed() -> Outcome<State> {
        Super
    }

    /// Where the process goes when it ends by itself.
    fn ended(&mut self, exit: Exit, context: &mut Outbox<Effect>) -> Outcome<State> {
        self.last = Some(exit);
        let success = exit.is_success(&self.success);
        let restartable =
            !context.when("success", success) && context.when("restarts on", self.budget > 0);
        if !restartable {
            context.emit(Effect::ReportExited { success });
            return Transition(State::Exited);
        }
        if context.when("restarts left", self.restarts < self.budget) {
            self.restarts += 1;
            context.emit(Effect::ReportDown);
            return Transition(State::Backoff);
        }
        context.emit(Effect::ReportFailed);
        Transition(State::Failed)
    }

    #[action]
    fn spawn(context: &mut Outbox<Effect>) {
        context.emit(Effect::Spawn);
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
