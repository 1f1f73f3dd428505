//! What the machines and their children are doing: the answer of `GET /status`.

use std::collections::BTreeMap;
use std::time::Instant;

use machines::exit::Exit;
use machines::supervisor::Supervisor;
use machines::system::{self, State};
use serde::Serialize;

use super::incarnation::Who;
use super::roster::Roster;
use crate::clock::now;

/// Requests that people make, by their names.
const REQUESTS: &[(&str, system::Event)] = &[
    ("checkpoint", system::Event::Checkpoint),
    ("restore", system::Event::Restore),
    ("start process", system::Event::StartProcess),
    ("stop process", system::Event::StopProcess),
    ("restart process", system::Event::RestartProcess),
    ("start component", system::Event::StartComponent(0)),
    ("stop component", system::Event::StopComponent(0)),
    ("restart component", system::Event::RestartComponent(0)),
    ("shutdown", system::Event::Shutdown),
];

/// The state of everything at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The system's state path, outermost first: `Online > Serving > Running`.
    pub state: String,
    /// Since when.
    pub since: String,
    /// The operation's state path.
    pub operation: String,
    /// The main process.
    pub process: Part,
    /// The components by name.
    pub components: BTreeMap<String, Part>,
    /// The requests that are accepted now.
    pub accepted: Vec<&'static str>,
    /// The last thing that failed, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// How many events came from something that had been replaced.
    pub stale_events: u64,
    /// What the system is doing, for those who wait for it.
    #[serde(skip)]
    pub phase: Phase,
    /// Whether it is up, and nothing is under way.
    #[serde(skip)]
    pub is_settled: bool,
    /// Whether the checkpoints can be looked at.
    #[serde(skip)]
    pub is_open: bool,
}

/// One process and its machine.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Part {
    /// What a component is called by in requests to the machines, for as long as it exists.
    #[serde(skip)]
    pub number: usize,
    /// A component's place in the steps of the journal, which change with the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<usize>,
    /// The machine's state path.
    pub state: String,
    /// The process id, while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// How long it has run, in seconds.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "seconds_since"
    )]
    pub uptime: Option<Instant>,
    /// How many restarts it has had since it was last healthy.
    pub restarts: u8,
    /// How often it was started since we were.
    pub starts: u64,
    /// How it ended last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<String>,
}

impl Part {
    /// Whether it is a component that is up, or has done what it is there for.
    #[must_use]
    pub fn is_up(&self) -> bool {
        ["Up > Ready", "Completed", "Scheduled"].contains(&self.state.as_str())
    }

    /// What came of the main process, once it was started more often than `before`: whether it
    /// runs, or is down again; none = that is not told yet.
    #[must_use]
    pub fn outcome_since(&self, before: u64) -> Option<Result<(), ()>> {
        match self.state.as_str() {
            _ if self.starts <= before => None,
            "Up > Running" => Some(Ok(())),
            state => state.starts_with("Down").then_some(Err(())),
        }
    }

    /// Whether it is a component that is down, and stays so until it is started.
    #[must_use]
    pub fn is_down(&self) -> bool {
        ["Stopped", "Failed"].contains(&self.state.as_str())
    }
}

#[allow(clippy::ref_option, reason = "serde calls it by reference")]
fn seconds_since<S: serde::Serializer>(start: &Option<Instant>, to: S) -> Result<S::Ok, S::Error> {
    let seconds = start.map(|start| start.elapsed().as_secs_f64());
    seconds.serialize(to)
}

/// What the system is doing, as far as a request has to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Coming up, or being restored: requests wait.
    #[default]
    Busy,
    /// Up, whole or in part.
    Serving,
    /// Up, and a checkpoint is taken or a restore is prepared.
    Operating,
    /// Up without a main process.
    Parked,
    /// On the way down, or down.
    Ending,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Busy,
        Self::Serving,
        Self::Operating,
        Self::Parked,
        Self::Ending,
    ];

    /// Its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Serving => "serving",
            Self::Operating => "operating",
            Self::Parked => "parked",
            Self::Ending => "ending",
        }
    }

    /// Whether commands may be run.
    #[must_use]
    pub const fn admits_commands(self) -> bool {
        matches!(self, Self::Serving | Self::Operating | Self::Parked)
    }

    pub(super) const fn of(state: system::State) -> Self {
        use system::State as S;
        match state {
            S::Running | S::Degraded => Self::Serving,
            S::Checkpointing | S::Preparing => Self::Operating,
            S::Parking | S::Parked => Self::Parked,
            S::Off
            | S::Mounting
            | S::Opening
            | S::StartingComponents
            | S::StartingProcess
            | S::Restarting
            | S::DrainingProcess
            | S::DrainingComponents
            | S::DrainingTree
            | S::Swapping
            | S::RollingBack => Self::Busy,
            S::StoppingOperation
            | S::StoppingProcess
            | S::StoppingComponents
            | S::SweepingTree
            | S::StoppingStorage
            | S::Stopped
            | S::Failed => Self::Ending,
        }
    }
}

impl Default for Status {
    fn default() -> Self {
        Self {
            state: "Off".to_owned(),
            since: now(),
            operation: "Idle".to_owned(),
            process: Part::default(),
            components: BTreeMap::new(),
            accepted: Vec::new(),
            last_failure: None,
            stale_events: 0,
            phase: Phase::Busy,
            is_settled: false,
            is_open: false,
        }
    }
}

impl Status {
    /// Whether all is up, as `/readyz` tells.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Serving | Phase::Operating)
    }

    /// The state of `supervisor`; `facts` knows what the machines do not.
    pub(super) fn of(supervisor: &Supervisor, roster: &Roster, facts: &Facts) -> Self {
        let process = supervisor.process();
        let components = roster.members().zip(supervisor.components());
        Self {
            state: supervisor.system().path().join(" > "),
            since: facts.since.clone(),
            operation: supervisor.operation().path().join(" > "),
            process: facts.part(Who::Process, &process.path(), process.chart().restarts),
            components: components
                .enumerate()
                .map(|(place, ((name, number), machine))| {
                    let restarts = machine.chart().restarts;
                    let part = facts.part(Who::Component(number), &machine.path(), restarts);
                    let place = Some(place);
                    let part = Part {
                        number,
                        place,
                        ..part
                    };
                    (name.to_owned(), part)
                })
                .collect(),
            accepted: accepted(supervisor),
            last_failure: facts.last_failure.clone(),
            stale_events: facts.stale_events,
            phase: Phase::of(*supervisor.system().state()),
            is_settled: supervisor.is_settled_down(),
            is_open: !matches!(
                supervisor.system().state(),
                State::Off | State::Mounting | State::Opening
            ),
        }
    }
}

/// What the machines do not know of themselves.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Since when the system is in its state.
    pub since: String,
    /// The running children: process id and start.
    pub running: BTreeMap<Who, (i32, Instant)>,
    /// How often each child was started.
    pub starts: BTreeMap<Who, u64>,
    /// How each child ended last.
    pub exits: BTreeMap<Who, Exit>,
    /// The last thing that failed.
    pub last_failure: Option<String>,
    /// How many stale events were dropped.
    pub stale_events: u64,
}

impl Facts {
    fn part(&self, who: Who, path: &[&'static str], restarts: u8) -> Part {
        let running = self.running.get(&who);
        Part {
            number: 0,
            place: None,
            state: path.join(" > "),
            pid: running.map(|(pid, _)| *pid),
            uptime: running.map(|(_, start)| *start),
            restarts,
            starts: self.starts.get(&who).copied().unwrap_or_default(),
            last_exit: self.exits.get(&who).map(ToString::to_string),
        }
    }
}

/// The requests that `supervisor` would accept.
pub(super) fn accepted(supervisor: &Supervisor) -> Vec<&'static str> {
    REQUESTS
        .iter()
        .filter(|(_, event)| supervisor.accepts(event))
        .map(|(name, _)| *name)
        .collect()
}
