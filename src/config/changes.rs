//! What another configuration changes, and what has to be done for it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::{Attributes, Component, Config, Process};

/// Settings of the main process that do not say so by their first word.
const OF_PROCESS: &[&str] = &["forward_to", "signal_map", "exit_code_map"];

/// What is done for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing: it is as it was.
    Unchanged,
    /// It goes on as it is; what has changed holds from the next time on.
    Adjusted,
    /// It is stopped, and started by what it is now.
    Restarted,
    /// It is new, and started.
    Added,
    /// It is no more, and stopped.
    Removed,
}

/// What becomes of the main process or of a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What is done.
    pub action: Action,
    /// Which of its settings have changed, by their names in the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
}

/// What becomes of everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// The main process.
    pub process: Change,
    /// The components, by name.
    pub components: BTreeMap<String, Change>,
    /// Other settings that have changed and hold from now on.
    pub taken_over: Vec<String>,
    /// Other settings that have changed and hold from the next start of this program on.
    pub not_taken_over: Vec<String>,
}

impl Changes {
    /// From `old` to `new`.
    #[must_use]
    pub fn between(old: &Config, new: &Config) -> Self {
        let keys = changed_settings(old, new);
        let is_of_process = |key: &&String| {
            key.starts_with("process_") || OF_PROCESS.iter().any(|of| within(key, of).is_some())
        };
        let mut process: BTreeSet<String> = keys.iter().filter(is_of_process).cloned().collect();
        process.extend(changed_variables(
            (&old.process.environment, &old.process.attributes),
            (&new.process.environment, &new.process.attributes),
            ["process_environment", "process_attributes.env_file"],
        ));
        let rest = keys.iter().filter(|key| !is_of_process(key));
        let rest = rest.filter(|key| within(key, "components").is_none());
        let is_taken_over = |key: &String| within(key, "exec").is_some();
        let (taken_over, mut not_taken_over): (Vec<_>, Vec<_>) =
            rest.cloned().partition(is_taken_over);
        not_taken_over.extend(changed_secrets(old, new));
        not_taken_over.sort();
        not_taken_over.dedup();
        Self {
            process: change(process_runs_alike(&old.process, &new.process), process),
            components: components(old, new, &keys),
            taken_over,
            not_taken_over,
        }
    }

    /// Whether there is nothing to be done.
    #[must_use]
    pub fn are_none(&self) -> bool {
        let mut all = self.components.values().chain([&self.process]);
        self.taken_over.is_empty() && all.all(|change| change.action == Action::Unchanged)
    }

    /// The components for which `action` is done.
    pub fn with(&self, action: Action) -> impl Iterator<Item = &str> {
        let components = self.components.iter();
        let found = components.filter(move |(_, change)| change.action == action);
        found.map(|(name, _)| name.as_str())
    }

    /// The components of before that must be down before there can be others.
    pub fn replaced(&self) -> impl Iterator<Item = &str> {
        self.with(Action::Removed)
            .chain(self.with(Action::Restarted))
    }

    /// All in one line, for logs.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut words = Vec::new();
        if self.process.action != Action::Unchanged {
            words.push(format!("main process {}", self.process.action.word()));
        }
        for (name, change) in &self.components {
            if change.action != Action::Unchanged {
                words.push(format!("{name} {}", change.action.word()));
            }
        }
        words.extend(
            self.taken_over
                .iter()
                .map(|key| format!("{key} taken over")),
        );
        if words.is_empty() {
            words.push("nothing has changed".to_owned());
        }
        words.join(", ")
    }
}

impl Action {
    /// As it stands in answers.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Adjusted => "adjusted",
            Self::Restarted => "restarted",
            Self::Added => "added",
            Self::Removed => "removed",
        }
    }
}

/// The keys of all settings that are not the same.
fn changed_settings(old: &Config, new: &Config) -> BTreeSet<String> {
    let settings = |config: &Config| -> BTreeMap<String, Value> {
        let settings = config.settings.iter();
        let settings = settings.filter(|setting| !setting.value.is_null());
        let pair = settings.map(|setting| (setting.key.clone(), setting.value.clone()));
        pair.collect()
    };
    let (old, new) = (settings(old), settings(new));
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let changed = keys
        .into_iter()
        .filter(|key| old.get(*key) != new.get(*key));
    changed.cloned().collect()
}

/// The keys of the secrets that are not the same: settings show masks of them.
fn changed_secrets(old: &Config, new: &Config) -> Vec<String> {
    let access = |config: &Config| Some(config.bucket.as_ref()?.access_key.clone());
    let secret = |config: &Config| Some(config.bucket.as_ref()?.secret_key.clone());
    let key = |config: &Config| config.storage.as_ref()?.encryption_key.clone();
    let changed = [
        ("s3.access_key", access(old) != access(new)),
        ("s3.secret_key", secret(old) != secret(new)),
        ("checkpoint.encryption_key", key(old) != key(new)),
    ];
    let changed = changed.into_iter().filter(|(_, is_other)| *is_other);
    changed.map(|(key, _)| key.to_owned()).collect()
}

/// What is behind `prefix` and a dot in `key`; nothing if it is the key itself.
fn within<'a>(key: &'a str, prefix: &str) -> Option<&'a str> {
    match key.strip_prefix(prefix)? {
        "" => Some(""),
        rest => rest.strip_prefix('.'),
    }
}

fn components(old: &Config, new: &Config, keys: &BTreeSet<String>) -> BTreeMap<String, Change> {
    let all = old.components.iter().chain(&new.components);
    let names: BTreeSet<_> = all.map(|component| component.name.clone()).collect();
    let one = |name: &String| {
        let found = (old.component(name), new.component(name));
        let change = match found {
            (Some(one), Some(other)) => {
                let prefix = format!("components.{name}");
                // `a.b` may be the component of that name, or a setting of `a`.
                let longer = of_longer_names(name, &names);
                let is_own = |key: &&String| !longer.iter().any(|it| within(key, it).is_some());
                let own = keys.iter().filter(is_own);
                let own = own.filter_map(|key| within(key, &prefix));
                let mut changed: BTreeSet<_> = own.map(str::to_owned).collect();
                changed.extend(changed_variables(
                    (&one.environment, &one.attributes),
                    (&other.environment, &other.attributes),
                    ["environment", "attributes.env_file"],
                ));
                change(component_runs_alike(one, other), changed)
            }
            (found, _) => Change {
                action: match found {
                    None => Action::Added,
                    Some(_) => Action::Removed,
                },
                changed: Vec::new(),
            },
        };
        (name.clone(), change)
    };
    names.iter().map(one).collect()
}

/// Those of `keys`, for variables and for their file, whose values are not the same: settings do
/// not show them.
fn changed_variables(
    old: (&BTreeMap<String, String>, &Attributes),
    new: (&BTreeMap<String, String>, &Attributes),
    [variables, file]: [&'static str; 2],
) -> impl Iterator<Item = String> {
    let changed = [
        (variables, old.0 != new.0),
        (file, old.1.environment != new.1.environment),
    ];
    let changed = changed.into_iter().filter(|(_, is_other)| *is_other);
    changed.map(|(key, _)| key.to_owned())
}

/// The prefixes of the settings of components whose names begin with `name` and a dot.
fn of_longer_names(name: &str, names: &BTreeSet<String>) -> Vec<String> {
    let longer = names.iter().filter(|other| {
        let rest = other.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with('.'))
    });
    longer.map(|other| format!("components.{other}")).collect()
}

fn change(runs_alike: bool, changed: BTreeSet<String>) -> Change {
    Change {
        action: match (runs_alike, changed.is_empty()) {
            (false, _) => Action::Restarted,
            (true, false) => Action::Adjusted,
            (true, true) => Action::Unchanged,
        },
        changed: changed.into_iter().collect(),
    }
}

/// Whether what runs by `old` does as it would by `new`. The rest counts only later: when it
/// stops, fails or is checkpointed; limits are those of its cgroup.
fn component_runs_alike(old: &Component, new: &Component) -> bool {
    let new = new.clone();
    *old == Component {
        name: new.name,
        start_command: new.start_command,
        kind: new.kind,
        schedule: new.schedule,
        ready: new.ready,
        readiness: new.readiness,
        liveness: new.liveness,
        working_dir: new.working_dir,
        environment: new.environment,
        user: new.user,
        attributes: new.attributes,
        listen: new.listen,
        ..old.clone()
    }
}

/// The same for the main process.
fn process_runs_alike(old: &Process, new: &Process) -> bool {
    let new = new.clone();
    *old == Process {
        command: new.command,
        working_dir: new.working_dir,
        environment: new.environment,
        user: new.user,
        attributes: new.attributes,
        ..old.clone()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{Flags, load};

    fn config(text: &Value) -> Config {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, text.to_string()).unwrap();
        let flags = Flags {
            config: Some(path),
            ..Flags::default()
        };
        load(&flags).unwrap()
    }

    fn base() -> Value {
        json!({
            "process_command": ["app"], "process_environment": {"A": "1"},
            "components": {
                "db": {"start_command": ["db"], "environment": {"B": "1"}},
                "web": {"start_command": ["web"], "needs": ["db"], "stop_timeout": "5s"},
            },
        })
    }

    fn changes(change: impl FnOnce(&mut Value)) -> Changes {
        let mut new = base();
        change(&mut new);
        Changes::between(&config(&base()), &config(&new))
    }

    fn of(changes: &Changes, name: &str) -> (Action, Vec<String>) {
        let change = &changes.components[name];
        (change.action, change.changed.clone())
    }

    #[test]
    fn nothing_is_nothing() {
        let none = changes(|_| {});
        assert!(none.are_none());
        assert_eq!(none.summary(), "nothing has changed");
    }

    #[test]
    fn what_runs_otherwise_is_restarted_and_the_rest_adjusted() {
        let found = changes(|new| {
            new["components"]["db"]["environment"]["B"] = json!("2");
            new["components"]["web"]["stop_timeout"] = json!("7s");
            new["process_graceful_shutdown_timeout"] = json!("9s");
        });
        let db = (Action::Restarted, vec!["environment".to_owned()]);
        assert_eq!(of(&found, "db"), db);
        let web = (Action::Adjusted, vec!["stop_timeout".to_owned()]);
        assert_eq!(of(&found, "web"), web);
        assert_eq!(found.process.action, Action::Adjusted);
        let process = changes(|new| new["process_environment"]["A"] = json!("2")).process;
        assert_eq!(process.action, Action::Restarted);
        assert_eq!(process.changed, ["process_environment"]);
    }

    #[test]
    fn one_that_is_needed_by_another_name_is_told_by_its_name() {
        // `aa` comes before all others: their places change, and what they need does not.
        let found = changes(|new| new["components"]["aa"] = json!({"start_command": ["aa"]}));
        assert_eq!(of(&found, "aa"), (Action::Added, vec![]));
        assert_eq!(of(&found, "web"), (Action::Unchanged, vec![]));
        let found = changes(|new| {
            let components = new["components"].as_object_mut().unwrap();
            components.remove("db");
            components["web"]["needs"] = json!([]);
        });
        assert_eq!(of(&found, "db"), (Action::Removed, vec![]));
        let needs = (Action::Adjusted, vec!["needs".to_owned()]);
        assert_eq!(of(&found, "web"), needs);
        assert!(found.replaced().eq(["db"]));
        assert_eq!(found.summary(), "db removed, web adjusted");
    }

    #[test]
    fn a_component_whose_name_begins_as_anothers_is_told_apart() {
        let mut old = base();
        old["components"]["db.replica"] = json!({"start_command": ["replica"]});
        let mut new = old.clone();
        new["components"]["db.replica"]["stop_timeout"] = json!("3s");
        let found = Changes::between(&config(&old), &config(&new));
        assert_eq!(of(&found, "db"), (Action::Unchanged, vec![]));
        let replica = (Action::Adjusted, vec!["stop_timeout".to_owned()]);
        assert_eq!(of(&found, "db.replica"), replica);
    }

    #[test]
    fn what_only_a_new_start_takes_over_is_listed() {
        let found = changes(|new| {
            new["sprite_name"] = json!("another");
            new["exec"] = json!({"wrapper_command": ["env"]});
        });
        assert_eq!(found.not_taken_over, ["sprite_name"]);
        assert_eq!(found.taken_over, ["exec.wrapper_command"]);
        assert!(!found.are_none());
    }
}
