//! One component, as it is meant.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use machines::component::OnFailure;
use serde_json::json;

use super::origin::{Ledger, Origin, from_file};
use super::raw::{self, Environment, Text};
use super::signal;
use super::user::User;
use super::value::{GoDuration, Value, format_duration};

/// A component: a helper process that the main process needs.
#[derive(Clone, Debug)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// The process and its arguments.
    pub start_command: Vec<String>,
    /// What tells whether it is ready.
    pub ready_command: Option<Vec<String>>,
    /// How long it may take to become ready; none = for ever.
    pub ready_timeout: Option<Duration>,
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
    /// The signal that tells it to go.
    pub stop_signal: i32,
    /// How long it may take to go.
    pub stop_timeout: Duration,
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

const DEFAULT_MAX_RESTARTS: u8 = 5;

/// Reads component `name`; `names` are all components, in order.
pub fn check(name: &str, raw: &raw::Component, names: &[&str], ledger: &mut Ledger) -> Component {
    let key = |field: &str| format!("components.{name}.{field}");
    let mut reader = Reader { ledger, name };
    let start_command = reader.command("start_command", raw.start_command.as_ref());
    if start_command.is_none() && raw.start_command.is_none() {
        let why = "missing; give the program and its arguments, such as [\"/scripts/start.sh\"]";
        reader.ledger.wrong(&key("start_command"), why);
    }
    let ready_timeout = reader.time("ready_timeout", raw.ready_timeout.as_ref(), 60_000);
    let written = raw.backoff.clone().unwrap_or_default();
    let stop_signal = reader.stop_signal(raw.stop_signal.as_ref());
    Component {
        name: name.to_owned(),
        start_command: start_command.unwrap_or_default(),
        ready_command: reader.command("ready_command", raw.ready_command.as_ref()),
        ready_timeout: (!ready_timeout.is_zero()).then_some(ready_timeout),
        checkpoint_command: reader.command("checkpoint_command", raw.checkpoint_command.as_ref()),
        restore_command: reader.command("restore_command", raw.restore_command.as_ref()),
        needs: reader.needs(raw.needs.as_deref().unwrap_or_default(), names),
        on_failure: reader.on_failure(raw.on_failure),
        backoff: reader.backoff(&written),
        max_restarts: reader.ledger.pick(
            &key("backoff.max_restarts"),
            [from_file(written.max_restarts.as_ref())],
            DEFAULT_MAX_RESTARTS,
        ),
        working_dir: reader
            .ledger
            .pick_optional(&key("working_dir"), [from_file(raw.working_dir.as_ref())])
            .map(PathBuf::from),
        environment: environment(&key("environment"), raw.environment.as_ref(), reader.ledger),
        user: user(&key("user"), raw.user.as_ref(), reader.ledger),
        stop_signal,
        stop_timeout: reader.time("stop_timeout", raw.stop_timeout.as_ref(), 10_000),
    }
}

struct Reader<'a> {
    ledger: &'a mut Ledger,
    name: &'a str,
}

impl Reader<'_> {
    fn key(&self, field: &str) -> String {
        format!("components.{}.{field}", self.name)
    }

    fn command(&mut self, field: &str, written: Option<&Vec<Text>>) -> Option<Vec<String>> {
        command(&self.key(field), written, self.ledger)
    }

    fn time(&mut self, field: &str, written: Option<&Value<GoDuration>>, ms: u64) -> Duration {
        time(&self.key(field), written, ms, self.ledger)
    }

    fn on_failure(&mut self, written: Option<raw::FailurePolicy>) -> OnFailure {
        let origin = written.map_or(Origin::Default, |_| Origin::File);
        let policy = written.map_or(OnFailure::Shutdown, Into::into);
        let shown = format!("{policy:?}").to_lowercase().into();
        self.ledger
            .note(&self.key("on_failure"), policy, shown, origin)
    }

    fn stop_signal(&mut self, written: Option<&Text>) -> i32 {
        let key = self.key("stop_signal");
        let text = self
            .ledger
            .pick(&key, [from_file(written)], "TERM".to_owned());
        signal::parse(&text).unwrap_or_else(|| {
            self.ledger.wrong(&key, format!("\"{text}\" is no signal"));
            libc::SIGTERM
        })
    }

    fn needs(&mut self, written: &[String], names: &[&str]) -> Vec<usize> {
        let key = self.key("needs");
        let mut needs = Vec::new();
        for need in written {
            match names.iter().position(|name| name == need) {
                Some(_) if need == self.name => {
                    self.ledger.wrong(&key, "a component cannot need itself");
                }
                Some(id) => needs.push(id),
                None => {
                    let hint = super::error::nearest(need, names)
                        .map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"));
                    let why = format!("there is no component \"{need}\"{hint}");
                    self.ledger.wrong(&key, why);
                }
            }
        }
        let origin = if written.is_empty() {
            Origin::Default
        } else {
            Origin::File
        };
        self.ledger.note(&key, needs, json!(written), origin)
    }

    fn backoff(&mut self, written: &raw::Backoff) -> Backoff {
        let default = Backoff::default();
        let min = self.time("backoff.min", written.min.as_ref(), 500);
        let max = self.time("backoff.max", written.max.as_ref(), 30_000);
        let (factor, jitter) = (self.key("backoff.factor"), self.key("backoff.jitter"));
        let backoff = Backoff {
            min,
            max,
            factor: self.ledger.pick(
                &factor,
                [from_file(written.factor.as_ref())],
                default.factor,
            ),
            jitter: self.ledger.pick(
                &jitter,
                [from_file(written.jitter.as_ref())],
                default.jitter,
            ),
            reset_after: self.time("backoff.reset_after", written.reset_after.as_ref(), 60_000),
        };
        if backoff.factor < 1.0 || !backoff.factor.is_finite() {
            self.ledger.wrong(&factor, "must be 1 or more");
        }
        if !(0.0..=1.0).contains(&backoff.jitter) {
            self.ledger.wrong(&jitter, "must be from 0 to 1");
        }
        if backoff.max < backoff.min {
            let why = "must not be less than backoff.min";
            self.ledger.wrong(&self.key("backoff.max"), why);
        }
        backoff
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
