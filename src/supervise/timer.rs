//! How long the machines' timers run.

use std::time::Duration;

use machines::timer::Timer;

use crate::config::{Component, Config, Hook};

/// How long what is left of the tree may take to go before it is killed, if the main
/// process's own grace is longer.
const SWEEP: Duration = Duration::from_secs(10);

/// How long everything may be held where no checkpoint ever holds it.
const FREEZE: Duration = Duration::from_secs(5);

/// How long `timer` runs, of `component` or of what is none; none = for ever.
#[must_use]
pub fn duration(config: &Config, component: Option<&Component>, timer: Timer) -> Option<Duration> {
    let process = &config.process;
    let backoff = component.map_or(&process.backoff, |c| &c.backoff);
    match timer {
        Timer::Readiness => component.and_then(|c| c.ready_timeout),
        // What is run before has a time of its own.
        Timer::Grace => Some(match component {
            Some(c) => c.stop_timeout + time_of(c.pre_stop.as_ref()),
            None => process.grace + time_of(process.pre_stop.as_ref()),
        }),
        // That is a time of day: the executor asks the schedule.
        Timer::Schedule => None,
        Timer::Backoff { attempt } => Some(backoff.pause(attempt, fastrand::f64())),
        Timer::Healthy => Some(backoff.reset_after),
        Timer::Freeze => Some(match &config.storage {
            Some(storage) => storage.freeze_timeout,
            None => FREEZE,
        }),
        Timer::Sweep => Some(process.grace.min(SWEEP)),
    }
}

fn time_of(hook: Option<&Hook>) -> Duration {
    hook.map(|hook| hook.timeout).unwrap_or_default()
}
