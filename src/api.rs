//! The HTTP API: one table of routes ([`routes`]), a file for each resource.

mod auth;
mod body;
mod checkpoint_archives;
mod checkpoint_files;
mod checkpoints;
mod components;
mod config;
mod console;
mod control;
mod debug;
mod events;
mod exec;
mod files;
mod health;
mod hold;
mod id;
mod logs;
mod metrics;
mod openapi;
mod ports;
pub mod problem;
mod process;
mod proxy;
pub mod routes;
pub mod serve;
mod settle;
mod silence;
mod sprite;
mod status;
mod stream;
mod url_proxy;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::cgroups::Cgroups;
use crate::checkpoint::Driver;
use crate::checkpoint::juicefs::MetadataReplication;
use crate::config::{Secret, UrlProxy};
use crate::exec::Runner;
use crate::files::Files;
use crate::network::{Namespace, Ports};
use crate::reaper::Reaper;
use crate::supervise::{Handle, Reloader};
use crate::telemetry::logs::Logs;
use crate::telemetry::ring::Ring;

/// What the handlers share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The way to the machines.
    pub handle: Handle,
    /// The environment's files.
    pub files: Files,
    /// Where the environment's ports are.
    pub namespace: Namespace,
    /// Which of them are open.
    pub ports: Ports,
    /// What becomes of requests for the environment's own web server.
    pub url_proxy: UrlProxy,
    /// What components have written lately.
    pub logs: Logs,
    /// The last steps of the machines.
    pub ring: Ring,
    /// Runs commands.
    pub runner: Runner,
    /// Reads the configuration again.
    pub reloader: Reloader,
    /// The checkpoints, if they are on.
    pub driver: Option<Arc<dyn Driver>>,
    /// How far the copy of a JuiceFS volume's metadata in the bucket is, if there is one.
    pub metadata_replication: Option<watch::Receiver<MetadataReplication>>,
    /// The cgroups that everything runs in, if there are any.
    pub cgroups: Option<Cgroups>,
    /// Who reaps.
    pub reaper: Reaper,
    /// The token that clients must send; none on a unix socket without one.
    pub token: Option<Secret>,
    /// Whether the debug endpoints exist.
    pub debug_endpoints: bool,
    /// The name in `/v1/sprites/{name}/…`.
    pub sprite_name: String,
    /// When the daemon was started: RFC 3339.
    pub since: String,
    /// The largest body of a request, in bytes.
    pub request_body: usize,
    /// How long a request is held while the system starts or restores.
    pub hold: Duration,
}
