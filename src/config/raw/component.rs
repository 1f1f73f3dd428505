//! A component of the configuration file, as it is written.

use std::collections::BTreeMap;

use machines::component::OnFailure;
use schemars::JsonSchema;

use super::{Environment, Number, Text, Time};
use crate::config::value::Value;

/// A component: a helper process that the main process needs.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Component {
    /// The process and its arguments.
    pub start_command: Option<Vec<Text>>,
    /// `service`: it stays up. `oneshot`: it does something once and exits with 0, and what
    /// needs it waits for that. Default: service.
    #[serde(rename = "type")]
    pub kind: Option<Text>,
    /// When it runs, as a cron expression in the local time zone: `"0 3 * * *"`, with a sixth
    /// field in front for seconds, or `@hourly`, `@daily`, … What needs it does not wait.
    pub schedule: Option<Text>,
    /// Gets the component's output on its standard input. Exit code 0: it is ready;
    /// else it is run again. Without it the component is ready when it was started.
    pub ready_command: Option<Vec<Text>>,
    /// What else tells that it is ready, instead of `ready_command`.
    pub ready: Option<Probe>,
    /// How long it may take to become ready, or to do what it does once or at its times;
    /// 0 = for ever. Default: 60s; with `type: oneshot` or `schedule`: 0.
    pub ready_timeout: Option<Time>,
    /// Asked again and again while it is up. While it fails the component is Unready and the
    /// system Degraded; nothing is stopped.
    pub readiness: Option<Probe>,
    /// Asked again and again while it is up. If it fails, the component is told to go and
    /// `on_failure` says what follows.
    pub liveness: Option<Probe>,
    /// Run for each checkpoint, with `CHECKPOINT_ID` and `CHECKPOINT_DIR`.
    pub checkpoint_command: Option<Vec<Text>>,
    /// Run for each restore, with `CHECKPOINT_ID` and `CHECKPOINT_DIR`.
    pub restore_command: Option<Vec<Text>>,
    /// The components that must be ready before this one starts.
    pub needs: Option<Vec<String>>,
    /// What follows when it dies, does not get ready or is not healthy. Default: shutdown;
    /// with `schedule`: ignore.
    #[schemars(
        with = "Option<String>",
        regex(pattern = "^(shutdown|restart|ignore)$")
    )]
    pub on_failure: Option<FailurePolicy>,
    /// The pauses between restarts.
    pub backoff: Option<Backoff>,
    /// Its working directory. Default: ours.
    pub working_dir: Option<Text>,
    /// What is added to its environment: a list of `K=V`, or an object.
    pub environment: Option<Environment>,
    /// Its user: `name`, `uid`, `name:group` or `uid:gid`. Default: ours.
    pub user: Option<Text>,
    /// The signal that tells it to go, by name without SIG. Default: TERM.
    pub stop_signal: Option<Text>,
    /// Run instead of the signal, to tell it to go.
    pub stop_command: Option<Vec<Text>>,
    /// Run before it is told to go.
    pub pre_stop: Option<Hook>,
    /// How long it may take to go before SIGKILL. Default: 10s.
    pub stop_timeout: Option<Time>,
    /// Exit codes that mean success, beside 0; 128 + n for signal n.
    pub success_exit_codes: Option<Vec<Value<u8>>>,
    /// What its process may do and use.
    pub attributes: Option<Attributes>,
    /// What it may use of the machine. Needs a cgroup v2 that we may change.
    pub limits: Option<ResourceLimits>,
    /// Whether the environment's directory is on what it mounts or serves: it is up before the
    /// checkpoints are opened, is not held for one, and stays up while one is restored.
    /// Default: false.
    pub storage: Option<Value<bool>>,
    /// Sockets that are opened for it before it starts and kept while it is restarted:
    /// `host:port` or `unix:/path`. It gets them as descriptors from 3 on, as `LISTEN_FDS` says.
    pub listen: Option<Vec<Text>>,
}

/// `shutdown`, `restart` or `ignore`.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailurePolicy {
    /// The whole system stops.
    Shutdown,
    /// It is started again.
    Restart,
    /// It stays down; the rest goes on.
    Ignore,
}

impl From<FailurePolicy> for OnFailure {
    fn from(policy: FailurePolicy) -> Self {
        match policy {
            FailurePolicy::Shutdown => Self::Shutdown,
            FailurePolicy::Restart => Self::Restart,
            FailurePolicy::Ignore => Self::Ignore,
        }
    }
}

/// The pauses between restarts: `min × factor^(n-1)`, at most `max`, varied by `jitter`.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Backoff {
    /// The first pause. Default: 500ms.
    pub min: Option<Time>,
    /// The longest pause. Default: 30s.
    pub max: Option<Time>,
    /// By how much each pause is longer than the one before. Default: 2.
    pub factor: Option<Value<f64>>,
    /// By which part of itself a pause is varied at random, 0 to 1. Default: 0.1.
    pub jitter: Option<Value<f64>>,
    /// How many restarts in a row before giving up. Default: 5.
    pub max_restarts: Option<Value<u8>>,
    /// How long it must be ready for its restarts to be forgiven. Default: 60s.
    pub reset_after: Option<Time>,
}

/// A way to find out how a component does: one of `command`, `http`, `tcp` and, for `ready`
/// only, `log`, `notify` and `fd`.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Probe {
    /// A program; exit code 0 = it does well.
    pub command: Option<Vec<Text>>,
    /// A URL; an answer with a status from 200 to 399 = it does well.
    pub http: Option<Text>,
    /// `host:port`; a connection that is taken = it does well.
    pub tcp: Option<Text>,
    /// A regular expression; a line of its output that matches = it is ready.
    pub log: Option<Text>,
    /// Whether it says so itself by `READY=1` to `NOTIFY_SOCKET`, as sd_notify(3) does.
    pub notify: Option<Value<bool>>,
    /// A descriptor, 3 to 15, to which it writes a line when it is ready, as s6 has it.
    pub fd: Option<Number>,
    /// The pause between two questions. Default: 10s; for `ready`: 100ms, growing to 2s.
    pub interval: Option<Time>,
    /// How long an answer may take. Default: 5s.
    pub timeout: Option<Time>,
    /// How many answers in a row count: bad ones for `readiness` and `liveness` (default: 3),
    /// good ones for `ready` (default: 1).
    pub threshold: Option<Number>,
}

/// A command with a deadline.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hook {
    /// The program and its arguments.
    pub command: Option<Vec<Text>>,
    /// How long it may take; then it is killed and things go on. Default: 5s.
    pub timeout: Option<Time>,
}

/// What processes may use of the machine together, as a cgroup v2 limits it.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResourceLimits {
    /// Memory, swap included: `"512M"`. Beyond it the kernel kills.
    pub memory: Option<Text>,
    /// Processors: `1.5` is the time of one and a half.
    pub cpus: Option<Value<f64>>,
    /// Processes and threads.
    pub pids: Option<Number>,
}

/// What a process may do and use. What is not given is as we have it ourselves.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Attributes {
    /// The permissions that new files do not get, octal: `"027"`.
    pub umask: Option<Text>,
    /// How nice it is to others, -20 to 19.
    pub nice: Option<Value<i64>>,
    /// How soon the kernel kills it when memory runs out, -1000 to 1000.
    pub oom_score_adj: Option<Value<i64>>,
    /// Limits by name (`nofile`, `core`, …): a number, `unlimited`, or `soft:hard`.
    pub rlimits: Option<BTreeMap<String, Text>>,
    /// The capabilities it keeps, such as `NET_BIND_SERVICE`; all others are dropped.
    pub capabilities: Option<Vec<Text>>,
    /// Whether programs that it runs cannot give it more rights (setuid). Default: false.
    pub no_new_privs: Option<Value<bool>>,
    /// Its supplementary groups, by name or number, instead of its user's.
    pub groups: Option<Vec<Text>>,
    /// A file of `NAME=value` lines, read at our start; `environment` wins over it.
    pub env_file: Option<Text>,
    /// The only variables of ours that it gets: names, `*` stands for any part.
    pub env_allow: Option<Vec<Text>>,
    /// Variables of ours that it does not get.
    pub env_deny: Option<Vec<Text>>,
}
