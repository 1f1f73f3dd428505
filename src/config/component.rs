//! One component, as it is meant.

pub mod attributes;
pub mod limits;
pub mod probe;
mod reader;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use machines::component::{Kind, OnFailure};
use serde_json::json;

use super::Listen;
use super::origin::{Ledger, Origin, from_file};
use super::raw::{Environment, Text};
use super::user::User;
use super::value::{GoDuration, Value, format_duration};
use crate::cgroups::{Cgroup, ResourceLimits};
use attributes::Attributes;
use probe::{Hook, Probe, Ready, Schedule};

pub use reader::check;

/// A component: a helper process that the main process needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// The process and its arguments.
    pub start_command: Vec<String>,
    /// What its process is there for.
    pub kind: Kind,
    /// When it runs, if it does so at its times.
    pub schedule: Option<Schedule>,
    /// What tells that its start is over; none = that it was started.
    pub ready: Option<Ready>,
    /// How long it may take to become ready, or to do what it does; none = for ever.
    pub ready_timeout: Option<Duration>,
    /// What tells, while it is up, whether it is of use.
    pub readiness: Option<Probe>,
    /// What tells, while it is up, whether it must be ended.
    pub liveness: Option<Probe>,
    /// Run for each checkpoint.
    pub checkpoint_command: Option<Vec<String>>,
    /// Run for each restore.
    pub restore_command: Option<Vec<String>>,
    /// The numbers of the components that it needs.
    pub needs: Vec<usize>,
    /// What follows when it fails.
    pub on_failure: OnFailure,
    /// The pauses between restarts.
    pub backoff: Backoff,
    /// How many restarts in a row it may have.
    pub max_restarts: u8,
    /// Where it runs.
    pub working_dir: Option<PathBuf>,
    /// What is added to its environment.
    pub environment: BTreeMap<String, String>,
    /// As whom it runs.
    pub user: Option<User>,
    /// What it may do and use.
    pub attributes: Attributes,
    /// What it may use of the machine.
    pub limits: ResourceLimits,
    /// Whether it carries the storage.
    pub storage: bool,
    /// The sockets that it is given.
    pub listen: Vec<Listen>,
    /// The exit codes that mean success, beside 0.
    pub success_exit_codes: Vec<u8>,
    /// The signal that tells it to go.
    pub stop_signal: i32,
    /// What is run instead of the signal.
    pub stop_command: Option<Vec<String>>,
    /// What is run before it is told to go.
    pub pre_stop: Option<Hook>,
    /// How long it may take to go.
    pub stop_timeout: Duration,
}

impl Component {
    /// The cgroup that it runs in.
    #[must_use]
    pub fn cgroup(&self) -> Cgroup {
        let name = self.name.clone();
        if self.storage {
            Cgroup::Storage(name)
        } else {
            Cgroup::Component(name)
        }
    }

    /// Whether it is given descriptors beside its streams, by numbers that must be free.
    #[must_use]
    pub const fn is_given_descriptors(&self) -> bool {
        !self.listen.is_empty() || matches!(self.ready, Some(Ready::Descriptor(_)))
    }
}

/// Puts components behind others; what they need is among themselves.
pub fn append(components: &mut Vec<Component>, more: Vec<Component>) {
    let before = components.len();
    components.extend(more.into_iter().map(|component| {
        let needs = component.needs.iter().map(|need| need + before).collect();
        Component { needs, ..component }
    }));
}

/// The pauses between restarts.
#[derive(Clone, Debug, PartialEq)]
pub struct Backoff {
    /// The first pause.
    pub min: Duration,
    /// The longest pause.
    pub max: Duration,
    /// By how much each pause is longer than the one before.
    pub factor: f64,
    /// By which part of itself a pause is varied at random.
    pub jitter: f64,
    /// How long it must be up for its restarts to be forgiven.
    pub reset_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            min: Duration::from_millis(500),
            max: Duration::from_secs(30),
            factor: 2.0,
            jitter: 0.1,
            reset_after: Duration::from_secs(60),
        }
    }
}

impl Backoff {
    /// The pause before restart number `attempt` (from 1); `random` is from 0 to 1.
    #[must_use]
    pub fn pause(&self, attempt: u8, random: f64) -> Duration {
        let exponent = i32::from(attempt.saturating_sub(1));
        let pause = self.min.as_secs_f64() * self.factor.powi(exponent);
        let varied = pause * self.jitter.mul_add(2.0 * random - 1.0, 1.0);
        let limited = varied.clamp(0.0, self.max.as_secs_f64());
        Duration::try_from_secs_f64(limited).unwrap_or(self.max)
    }
}

/// Reads a program and its arguments.
pub fn command(key: &str, written: Option<&Vec<Text>>, ledger: &mut Ledger) -> Option<Vec<String>> {
    let words: Option<Vec<String>> =
        written.map(|words| words.iter().map(|word| word.value.clone()).collect());
    match &words {
        Some(words) if words.first().is_none_or(String::is_empty) => {
            ledger.wrong(key, "must name a program; it is empty");
        }
        Some(words) if words.iter().any(|word| word.contains('\0')) => {
            ledger.wrong(key, "a word contains a NUL character");
        }
        _ => {}
    }
    let origin = words.as_ref().map_or(Origin::Default, |_| Origin::File);
    let shown = json!(words);
    ledger.note(key, words, shown, origin)
}

/// Reads a duration; `ms` is the default in milliseconds.
pub fn time(
    key: &str,
    written: Option<&Value<GoDuration>>,
    ms: u64,
    ledger: &mut Ledger,
) -> Duration {
    let (value, origin) = match written {
        Some(written) => (written.value.0, written.origin()),
        None => (Duration::from_millis(ms), Origin::Default),
    };
    ledger.note(key, value, format_duration(value).into(), origin)
}

/// Reads what is added to a child's environment. Values are not shown: they may be secret.
pub fn environment(
    key: &str,
    written: Option<&Environment>,
    ledger: &mut Ledger,
) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    match written {
        None => {}
        Some(Environment::Map(map)) => {
            variables.extend(map.iter().map(|(k, v)| (k.clone(), v.value.clone())));
        }
        Some(Environment::List(list)) => {
            for entry in list {
                match entry.value.split_once('=') {
                    Some((name, value)) if !name.is_empty() => {
                        variables.insert(name.to_owned(), value.to_owned());
                    }
                    _ => ledger.wrong(key, "each entry must be NAME=VALUE"),
                }
            }
        }
    }
    for (name, value) in &variables {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            ledger.wrong(key, format!("\"{name}\" cannot be an environment variable"));
        }
    }
    let origin = written.map_or(Origin::Default, |_| Origin::File);
    let shown = variables
        .keys()
        .map(|name| (name.clone(), json!("…")))
        .collect();
    ledger.note(key, variables, serde_json::Value::Object(shown), origin)
}

/// Reads a user.
pub fn user(key: &str, written: Option<&Text>, ledger: &mut Ledger) -> Option<User> {
    let text = ledger.pick_optional(key, [from_file(written)])?;
    match User::parse(&text) {
        Ok(user) => {
            let ours = rustix::process::geteuid().as_raw();
            if ours != 0 && user.uid != ours {
                let why = format!("only root can run something as \"{text}\"; we are user {ours}");
                ledger.wrong(key, why);
            }
            Some(user)
        }
        Err(why) => {
            ledger.wrong(key, why);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_limit_and_vary_by_the_jitter() {
        let backoff = Backoff {
            jitter: 0.5,
            ..Backoff::default()
        };
        let ms = |attempt, random| backoff.pause(attempt, random).as_millis();
        assert_eq!(ms(1, 0.5), 500);
        assert_eq!(ms(2, 0.5), 1_000);
        assert_eq!(ms(3, 0.5), 2_000);
        assert_eq!(ms(1, 0.0), 250);
        assert_eq!(ms(1, 1.0), 750);
        assert_eq!(ms(255, 1.0), 30_000);
    }
}
