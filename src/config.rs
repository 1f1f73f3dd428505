//! The configuration: [`raw`] as it is written, [`Config`] as it is meant.
//!
//! Defaults < file < environment < flags. Everything is checked here, before anything
//! is started; the rest of the program gets only values that make sense.

pub mod changes;
pub mod check;
pub mod component;
pub mod components_dir;
pub mod error;
pub mod listen;
pub mod origin;
pub mod raw;
pub mod secret;
pub mod signal;
mod storage;
pub mod user;
pub mod value;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::cgroups::{Cgroup, ResourceLimits};

pub use changes::{Action, Changes};
pub use check::load;
pub use component::attributes::Attributes;
pub use component::probe::{Check, Hook, Probe, Ready, Schedule};
pub use component::{Backoff, Component, append};
pub use error::ConfigError;
pub use listen::Listen;
pub use origin::{Origin, Setting};
pub use secret::{Key, Secret};
pub use signal::SignalMap;
pub use storage::{
    Bucket, DirtyTracking, Driver, Lease, Retention, Storage, VerifyRestore, Volume,
};
pub use user::User;
pub use value::format_duration;

/// What was said on the command line.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// What paths are relative to; empty = where we are.
    pub base_dir: PathBuf,
    /// `-config`
    pub config: Option<PathBuf>,
    /// `-components-dir`
    pub components_dir: Option<PathBuf>,
    /// `-listen`
    pub listen: Option<String>,
    /// `-debug`
    pub debug: bool,
    /// `-log-json`
    pub log_json: bool,
    /// `-graceful-shutdown-timeout`
    pub graceful_shutdown_timeout: Option<Duration>,
    /// `-juicefs-dir`
    pub juicefs_dir: Option<PathBuf>,
    /// `-subreaper`; none = on.
    pub subreaper: Option<bool>,
    /// `-signal-map`
    pub signal_map: Option<BTreeMap<String, Option<String>>>,
    /// `-forward-to`
    pub forward_to: Option<String>,
    /// `-parent-death-signal`
    pub parent_death_signal: Option<String>,
    /// `-exit-code-map`
    pub exit_code_map: Option<BTreeMap<String, u8>>,
    /// What stands behind `--`.
    pub command: Vec<String>,
}

/// The configuration as it is meant.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent settings")]
pub struct Config {
    /// Whether logs are at debug level and debug endpoints exist.
    pub log_level: tracing::Level,
    /// Whether logs and component output are JSON lines.
    pub log_json: bool,
    /// Whether the debug endpoints exist.
    pub debug_endpoints: bool,
    /// The name in `/v1/sprites/{name}/…`.
    pub sprite_name: String,
    /// The API, if it is on.
    pub api: Option<Api>,
    /// What is done for a bare machine or container, and at the end.
    pub init: Init,
    /// The main process.
    pub process: Process,
    /// The components, by name, in the order of their names.
    pub components: Vec<Component>,
    /// The environment's directory and its checkpoints, if they are on.
    pub storage: Option<Storage>,
    /// Commands that are run over the API.
    pub exec: Exec,
    /// The directory below which clients reach files.
    pub fs_root: PathBuf,
    /// Where the environment's ports are.
    pub network: Network,
    /// What becomes of requests for the environment's own web server.
    pub url_proxy: UrlProxy,
    /// Bounds on what clients may use.
    pub limits: Limits,
    /// The journal of the machines, if one is kept.
    pub journal: Option<Journal>,
    /// Where what components write is kept in files, if it is.
    pub logs: Option<Logs>,
    /// Whether a main process that ends in error leaves the API up.
    pub keep_alive_on_error: bool,
    /// The signal that we get when our parent ends; none = none.
    pub parent_death_signal: Option<i32>,
    /// Whether orphans of our tree come to us when we are not PID 1.
    pub subreaper: bool,
    /// Whether what we run is put into cgroups of its own.
    pub cgroups: Cgroups,
    /// The bucket that checkpoints are replicated to; none without one and in local mode.
    pub bucket: Option<Bucket>,
    /// Every setting with its value (secrets masked) and where it came from.
    pub settings: Vec<Setting>,
}

/// The configuration that is in force, which a reload replaces.
pub type Live = watch::Receiver<Arc<Config>>;

impl Config {
    /// The components, each behind those that it needs.
    #[must_use]
    pub fn in_order(&self) -> Vec<&Component> {
        let mut ordered: Vec<&Component> = Vec::new();
        let mut left: Vec<(usize, &Component)> = self.components.iter().enumerate().collect();
        // The configuration has no circles, so each round takes at least one.
        while !left.is_empty() {
            let waiting: Vec<usize> = left.iter().map(|(id, _)| *id).collect();
            let free = |component: &Component| {
                let mut needs = component.needs.iter();
                !needs.any(|need| waiting.contains(need))
            };
            let (now, later): (Vec<_>, Vec<_>) = left.into_iter().partition(|(_, c)| free(c));
            if now.is_empty() {
                ordered.extend(later.into_iter().map(|(_, component)| component));
                break;
            }
            ordered.extend(now.into_iter().map(|(_, component)| component));
            left = later;
        }
        ordered
    }

    /// The component of this name.
    #[must_use]
    pub fn component(&self, name: &str) -> Option<&Component> {
        let mut components = self.components.iter();
        components.find(|component| component.name == name)
    }

    /// Whether a component carries the storage.
    #[must_use]
    pub fn has_storage_components(&self) -> bool {
        self.components.iter().any(|component| component.storage)
    }

    /// What each cgroup may use, as far as anything is limited.
    #[must_use]
    pub fn resource_limits(&self) -> Vec<(Cgroup, ResourceLimits)> {
        let process = (Cgroup::Process, &self.process.limits);
        let components = self
            .components
            .iter()
            .map(|component| (component.cgroup(), &component.limits));
        let all = std::iter::once(process).chain(components);
        let limited = all.filter(|(_, limits)| **limits != ResourceLimits::default());
        limited
            .map(|(cgroup, limits)| (cgroup, limits.clone()))
            .collect()
    }
}

/// Where the API listens, and who may use it.
#[derive(Clone, Debug)]
pub struct Api {
    /// Where.
    pub listen: Listen,
    /// The bearer token; none only on a unix socket.
    pub token: Option<Secret>,
}

/// The main process.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Where it runs.
    pub working_dir: Option<PathBuf>,
    /// What is added to its environment.
    pub environment: BTreeMap<String, String>,
    /// As whom it runs.
    pub user: Option<User>,
    /// What it may do and use.
    pub attributes: Attributes,
    /// What it may use of the machine, with all that it starts.
    pub limits: ResourceLimits,
    /// The exit codes that mean success, beside 0.
    pub success_exit_codes: Vec<u8>,
    /// What is run before it is told to go.
    pub pre_stop: Option<Hook>,
    /// How long it may take to go after the stop signal.
    pub grace: Duration,
    /// How often in a row it is restarted after an error.
    pub max_retries: u8,
    /// The pauses between restarts.
    pub backoff: Backoff,
    /// Who gets the signals that we receive.
    pub forward_to: ForwardTo,
    /// What it gets instead of the signals we receive.
    pub signal_map: SignalMap,
    /// Our exit code instead of its own.
    pub exit_code_map: BTreeMap<u8, u8>,
}

/// What an init does for a bare machine or container, and at the end; none = what is usual
/// where we are.
#[derive(Clone, Debug, Default)]
pub struct Init {
    /// Whether the kernel's filesystems are mounted as far as they are missing.
    pub mounts: Option<bool>,
    /// The name that this host gets; none = the one that it has.
    pub hostname: Option<String>,
    /// Whether the loopback interface is brought up.
    pub loopback: Option<bool>,
    /// What follows our end.
    pub at_end: Option<AtEnd>,
}

/// What follows our end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtEnd {
    /// Nothing else.
    Exit,
    /// The machine is turned off.
    PowerOff,
    /// It starts again.
    Reboot,
    /// It stands still.
    Halt,
}

impl AtEnd {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Exit, Self::PowerOff, Self::Reboot, Self::Halt];
}

impl std::fmt::Display for AtEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Exit => "exit",
            Self::PowerOff => "power-off",
            Self::Reboot => "reboot",
            Self::Halt => "halt",
        })
    }
}

/// Whether what we run is put into cgroups of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cgroups {
    /// Where we may make some, and there is something that they are of use for.
    #[default]
    Auto,
    /// Nothing is run without.
    Required,
    /// Never.
    Off,
}

/// Who gets the signals that we receive, and the one that tells the process to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardTo {
    /// All of the main process's group.
    #[default]
    Group,
    /// The main process alone.
    Process,
}

/// Commands that are run over the API.
#[derive(Clone, Debug, Default)]
pub struct Exec {
    /// Put in front of every command.
    pub wrapper: Vec<String>,
    /// Put in front of every command that has a terminal.
    pub tty_wrapper: Vec<String>,
}

/// Where the environment's ports are.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// The file of its network namespace; none = ours.
    pub namespace: Option<PathBuf>,
}

/// What becomes of requests for the environment's own web server.
#[derive(Clone, Debug)]
pub struct UrlProxy {
    /// The port of those that name none.
    pub port: u16,
    /// How long an answer may take to begin; none = for ever.
    pub response_timeout: Option<Duration>,
    /// Whether an edge need not send the token.
    pub trust_edge: bool,
}

/// Bounds on what clients may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The largest body of a request, in bytes.
    pub request_body: usize,
    /// How many commands may run at once.
    pub exec_sessions: usize,
    /// How long a request is held while the system starts or restores.
    pub hold: Duration,
}

/// The journal of the machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// Its file.
    pub path: PathBuf,
    /// The size in bytes at which it is begun anew.
    pub size: u64,
}

/// What components write, in files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logs {
    /// The directory of the files, one for each component.
    pub dir: PathBuf,
    /// The size in bytes beyond which one is renamed and begun anew.
    pub size: u64,
    /// How many that were renamed are kept.
    pub keep: u32,
}
