//! How long the machines' timers run.

use std::time::Duration;

use machines::timer::Timer;

use super::incarnation::Who;
use crate::config::{Component, Config, Hook, Process};

/// How long what is left of the tree may take to go before it is killed, if the main
/// process's own grace is longer.
const SWEEP: Duration = Duration::from_secs(10);

/// The durations of all timers.
#[derive(Clone, Debug)]
pub struct Durations {
    process: Process,
    components: Vec<Component>,
    freeze: Duration,
}

impl Durations {
    /// As `config` says.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let freeze = config
            .storage
            .as_ref()
            .map(|storage| storage.freeze_timeout);
        Self {
            process: config.process.clone(),
            components: config.components.clone(),
            freeze: freeze.unwrap_or(Duration::from_secs(5)),
        }
    }

    /// How long `timer` of `who` runs; none = for ever.
    #[must_use]
    pub fn of(&self, who: Who, timer: Timer) -> Option<Duration> {
        let component = match who {
            Who::Component(id) => self.components.get(id),
            _ => None,
        };
        let backoff = component.map_or(&self.process.backoff, |c| &c.backoff);
        match timer {
            Timer::Readiness => component.and_then(|c| c.ready_timeout),
            // What is run before has a time of its own.
            Timer::Grace => Some(match component {
                Some(c) => c.stop_timeout + time_of(c.pre_stop.as_ref()),
                None => self.process.grace + time_of(self.process.pre_stop.as_ref()),
            }),
            // That is a time of day: the executor asks the schedule.
            Timer::Schedule => None,
            Timer::Backoff { attempt } => Some(backoff.pause(attempt, fastrand::f64())),
            Timer::Healthy => Some(backoff.reset_after),
            Timer::Freeze => Some(self.freeze),
            Timer::Sweep => Some(self.process.grace.min(SWEEP)),
        }
    }
}

fn time_of(hook: Option<&Hook>) -> Duration {
    hook.map(|hook| hook.timeout).unwrap_or_default()
}
