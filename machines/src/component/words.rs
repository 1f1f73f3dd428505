//! The words of a component: its events, effects, data and states.

use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumMessage, IntoStaticStr};

use crate::chart::Chart;
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
    /// Its readiness check, which passed before, fails.
    Unready,
    /// Its liveness check fails.
    Unhealthy,
    /// Its process is gone, or could not be started.
    Exited(Exit),
    /// The timer of the state ran out.
    TimedOut,
    /// The system wants it down.
    Stop,
    /// The system wants it down at once, without grace.
    Kill,
    /// Somebody wants it down while the rest goes on.
    Halt,
    /// Somebody wants it down and up again, or a scheduled one to run at once.
    Restart,
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

/// What a component's process is there for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// It stays up.
    #[default]
    Service,
    /// It does something once, and what needs it waits until that is done.
    Oneshot,
    /// It does something at its times.
    Scheduled,
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
#[serde(default)]
pub struct Component {
    /// What its process is there for.
    pub kind: Kind,
    /// The exit codes that mean success, beside 0.
    pub success: Vec<u8>,
    /// What follows when it fails.
    pub on_failure: OnFailure,
    /// How many restarts in a row it may have.
    pub budget: u8,
    /// How many it has had since it was last healthy.
    pub restarts: u8,
    /// Whether it is told to go in order to be started again.
    pub again: bool,
    /// Whether it carries the storage: it is up before the checkpoints are opened, and stays up
    /// while one is restored.
    pub storage: bool,
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
    /// Up, but its readiness check fails.
    Unready,
    /// Its time has come, and it does what it is there for.
    Working,
    /// It was not ready in time, or is not healthy, and is told to go.
    Aborting,
    /// It has done what it was to do once.
    Completed,
    /// It waits for its time.
    Scheduled,
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
            Event::Unready,
            Event::Unhealthy,
            Event::Exited(Exit::Code(0)),
            Event::Exited(Exit::Code(1)),
            Event::TimedOut,
            Event::Stop,
            Event::Kill,
            Event::Halt,
            Event::Restart,
        ]
    }
    fn variants() -> Vec<Self> {
        let variant = |kind| {
            move |on_failure| Self {
                kind,
                on_failure,
                budget: 1,
                ..Self::default()
            }
        };
        let any = [OnFailure::Shutdown, OnFailure::Restart, OnFailure::Ignore];
        let mut variants = any.map(variant(Kind::Service)).to_vec();
        variants.extend(any.map(variant(Kind::Oneshot)));
        variants.extend([OnFailure::Shutdown, OnFailure::Ignore].map(variant(Kind::Scheduled)));
        variants
    }
    fn superstates() -> &'static [(&'static str, &'static str)] {
        &[
            ("Up", "Its process runs, ready or not."),
            ("Stopping", "It was told to go and has not gone yet."),
        ]
    }
}
