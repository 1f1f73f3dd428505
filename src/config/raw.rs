//! The configuration file as it is written: names and types of the keys, nothing of
//! their meaning. The JSON Schema and the reference page are generated from here.

mod component;
mod juicefs;

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::value::{GoDuration, Value};

pub use component::{Attributes, Backoff, Component, FailurePolicy, Hook, Probe, ResourceLimits};
pub use juicefs::{JuiceFs, Litestream, Overlay};

/// A text, or `{"$env": "NAME"}`.
pub type Text = Value<String>;
/// A duration, or `{"$env": "NAME"}`.
pub type Time = Value<GoDuration>;
/// A whole number, or `{"$env": "NAME"}`.
pub type Number = Value<u64>;

/// The configuration file of sprite-env.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// The JSON Schema of this file, for editors. Ignored.
    #[serde(rename = "$schema")]
    pub schema: Option<String>,
    /// How much is logged: error, warn, info, debug or trace. Default: info.
    pub log_level: Option<Text>,
    /// Whether logs and the components' output are JSON lines. Default: false.
    pub log_json: Option<Value<bool>>,
    /// Where the API listens: `host:port`, `:port` (all interfaces) or `unix:/path`.
    /// Default: nowhere.
    pub api_listen_addr: Option<Text>,
    /// The name of this environment in `/v1/sprites/{name}/…`. Default: the host name.
    pub sprite_name: Option<Text>,
    /// Whether the debug endpoints exist. Default: false.
    pub debug_endpoints: Option<Value<bool>>,
    /// The main process and its arguments.
    pub process_command: Option<Vec<Text>>,
    /// The main process's working directory. Default: ours.
    pub process_working_dir: Option<Text>,
    /// What is added to the main process's environment: a list of `K=V`, or an object.
    pub process_environment: Option<Environment>,
    /// The user of the main process and of commands: `name`, `uid`, `name:group` or
    /// `uid:gid`. Default: ours.
    pub process_user: Option<Text>,
    /// What the main process, and commands that are run beside it, may do and use.
    pub process_attributes: Option<Attributes>,
    /// What the main process, with all that it starts, may use of the machine. Needs a
    /// cgroup v2 that we may change.
    pub process_limits: Option<ResourceLimits>,
    /// Exit codes of the main process that mean success, beside 0: it is not restarted.
    pub process_success_exit_codes: Option<Vec<Value<u8>>>,
    /// Run before the main process is told to go.
    pub process_pre_stop: Option<Hook>,
    /// How long the main process may take to go after SIGTERM. Default: 30s.
    pub process_graceful_shutdown_timeout: Option<Time>,
    /// How often in a row a main process that ended in error is restarted. Default: 0.
    pub process_restart_max_retries: Option<Value<u8>>,
    /// The longest pause before a restart of the main process. Default: 30s.
    pub process_restart_backoff_max: Option<Time>,
    /// Who gets the signals that we receive: `group`, all of the main process's group, or
    /// `process`, it alone. Default: group.
    pub forward_to: Option<Text>,
    /// Signals that the main process gets instead of those that we receive, by name
    /// without SIG; null drops one, and "reload" has the configuration read again:
    /// `{"TERM": "QUIT", "USR1": null, "HUP": "reload"}`.
    pub signal_map: Option<BTreeMap<String, Option<String>>>,
    /// Our own exit code instead of the main process's: `{"143": 0}`.
    pub exit_code_map: Option<BTreeMap<String, u8>>,
    /// Whether what we run is put into cgroups (v2) of its own, which are held and killed as a
    /// whole: `auto`, where we may make some and there are components or checkpoints,
    /// `required` or `off`. Default: auto.
    #[schemars(with = "Option<String>", regex(pattern = "^(auto|required|off)$"))]
    pub cgroups: Option<Text>,
    /// What is done for a bare machine or container, and at the end.
    pub init: Option<Init>,
    /// What must be ready before the main process starts, by name.
    pub components: Option<BTreeMap<String, Component>>,
    /// The environment's own directory.
    pub storage: Option<Storage>,
    /// The JuiceFS volume that it is on, with `storage.volume.type` `juicefs`.
    pub juicefs: Option<JuiceFs>,
    /// The copy of its metadata in the bucket.
    pub litestream: Option<Litestream>,
    /// An overlayfs over other directories, with its changes in the image on the volume.
    pub overlay: Option<Overlay>,
    /// The same as `overlay.enabled`.
    pub overlay_enabled: Option<Value<bool>>,
    /// The same as `overlay.image_size`.
    pub overlay_image_size: Option<Text>,
    /// The same as `overlay.lower_paths`, with this one alone.
    pub overlay_lower_path: Option<Text>,
    /// The same as `overlay.lower_paths`.
    pub overlay_lower_paths: Option<Vec<Text>>,
    /// The same as `overlay.target_path`.
    pub overlay_target_path: Option<Text>,
    /// The same as `overlay.skip_overlayfs`.
    pub overlay_skip_overlayfs: Option<Value<bool>>,
    /// Checkpoints of it.
    pub checkpoint: Option<Checkpoint>,
    /// The S3 bucket.
    pub s3: Option<S3>,
    /// The same as `s3.access_key`.
    pub s3_access_key: Option<Text>,
    /// The same as `s3.secret_key`.
    pub s3_secret_access_key: Option<Text>,
    /// The same as `s3.endpoint`.
    pub s3_endpoint_url: Option<Text>,
    /// The same as `s3.bucket`.
    pub s3_bucket: Option<Text>,
    /// The same as `s3.region`.
    pub s3_region: Option<Text>,
    /// Commands that are run over the API.
    pub exec: Option<Exec>,
    /// The same as `exec.wrapper_command`.
    pub exec_wrapper_command: Option<Vec<Text>>,
    /// The same as `exec.tty_wrapper_command`.
    pub exec_tty_wrapper_command: Option<Vec<Text>>,
    /// The files that clients may reach over the API.
    pub fs: Option<Fs>,
    /// Where the environment's ports are.
    pub network: Option<Network>,
    /// What becomes of requests for the environment's own web server.
    pub url_proxy: Option<UrlProxy>,
    /// Bounds on what clients may use.
    pub limits: Option<Limits>,
    /// What components write, in files.
    pub logs: Option<Logs>,
    /// What is recorded of us.
    pub telemetry: Option<Telemetry>,
}

/// What is added to a child's environment: `["K=V", …]` or `{"K": "V", …}`.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub enum Environment {
    /// `["K=V", …]`
    List(Vec<Text>),
    /// `{"K": "V", …}`
    Map(BTreeMap<String, Text>),
}

// By hand, since `untagged` would forget where in the file an error is.
impl<'de> Deserialize<'de> for Environment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EnvironmentVisitor;
        impl<'de> Visitor<'de> for EnvironmentVisitor {
            type Value = Environment;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of \"K=V\" or an object of names and values")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(seq)).map(Environment::List)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Deserialize::deserialize(MapAccessDeserializer::new(map)).map(Environment::Map)
            }
        }
        deserializer.deserialize_any(EnvironmentVisitor)
    }
}

/// What an init does for a bare machine or container, and at the end.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Init {
    /// Whether /proc, /sys, /dev, /dev/pts, /dev/shm, /run and /sys/fs/cgroup are mounted as far
    /// as they are not. Default: where we are PID 1 and there is no /proc, which is mounted
    /// then in any case.
    pub mounts: Option<Value<bool>>,
    /// The name that this host gets. Default: the one that it has.
    pub hostname: Option<Text>,
    /// Whether the loopback interface is brought up. Default: as for `mounts`.
    pub loopback: Option<Value<bool>>,
    /// What follows our end: `exit`, `power-off`, `reboot` or `halt`. Default: power-off as PID 1
    /// of a machine, exit everywhere else.
    #[schemars(
        with = "Option<String>",
        regex(pattern = "^(exit|power-off|reboot|halt)$")
    )]
    pub at_end: Option<Text>,
}

/// The environment's own directory: what checkpoints capture and restores replace.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// The directory. Default: `$SPRITE_WRITE_DIR/fs`, made if missing.
    pub dir: Option<Text>,
    /// A filesystem of its own for the directory, which is then `fs` in it.
    pub volume: Option<Volume>,
    /// Whether the first start on an empty disk restores the checkpoint of the bucket that the
    /// environment was in last. Default: true.
    pub restore_on_boot: Option<Value<bool>>,
}

/// A filesystem of its own for the environment's directory.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Volume {
    /// What it is: `btrfs-image`, a btrfs filesystem in `$SPRITE_WRITE_DIR/volume.btrfs`,
    /// mounted at `$SPRITE_WRITE_DIR/volume`, for which root and btrfs-progs are needed; or
    /// `juicefs`, a JuiceFS volume in `$SPRITE_WRITE_DIR/juicefs`, mounted at `mnt` in it, for
    /// which JuiceFS, root and /dev/fuse are.
    #[serde(rename = "type")]
    #[schemars(with = "Option<String>", regex(pattern = "^(btrfs-image|juicefs)$"))]
    pub kind: Option<Text>,
    /// How much fits in; what is not used takes no room. It can be made larger later.
    /// Default: 100G; for `juicefs` in the layout `tree`, as much as its directory's filesystem
    /// has room for.
    pub size: Option<Text>,
}

/// Checkpoints.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Checkpoint {
    /// What captures and restores: `store`, which keeps what has changed, or `juicefs`, which
    /// clones the image on a JuiceFS volume. Default: juicefs if there is such an image, else
    /// store.
    #[schemars(with = "Option<String>", regex(pattern = "^(store|juicefs)$"))]
    pub driver: Option<Text>,
    /// Where checkpoints are kept. Default: `$SPRITE_WRITE_DIR/store`.
    pub dir: Option<Text>,
    /// Whether everything that could write is held while the instant is taken:
    /// `freeze` or `none`. Default: freeze.
    pub quiesce: Option<Text>,
    /// The longest that it may be held. Default: 5s.
    pub freeze_timeout: Option<Time>,
    /// How a restored tree is compared with the checkpoint before anything runs in it:
    /// `metadata` (all it looks like; what was written is known), `full` (every byte of it
    /// is read) or `none`. Default: metadata.
    #[schemars(with = "Option<String>", regex(pattern = "^(metadata|full|none)$"))]
    pub verify_restore: Option<Text>,
    /// How often an automatic checkpoint is taken, if something has changed; 0 = never.
    /// Default: 0.
    pub auto: Option<Time>,
    /// How many automatic checkpoints are kept, the newest ones. Default: 3.
    pub keep_auto: Option<Number>,
    /// Of how many hours the last automatic checkpoint is kept besides. Default: 0.
    pub keep_hourly: Option<Number>,
    /// Of how many days (UTC) the last automatic checkpoint is kept besides. Default: 0.
    pub keep_daily: Option<Number>,
    /// Of how many weeks (UTC, from Monday on) the last automatic checkpoint is kept
    /// besides. Default: 0.
    pub keep_weekly: Option<Number>,
    /// How long a component's checkpoint or restore command may take. Default: 60s.
    pub command_timeout: Option<Time>,
    /// The key with which what is stored is encrypted, here and in the bucket: 64
    /// hexadecimal digits. Default: nothing is encrypted.
    pub encryption_key: Option<Text>,
    /// Whether what changes is kept in mind between checkpoints, so that the next one need not
    /// walk the whole tree: `on`, `off`, or `auto` (from 300,000 entries on). Needs
    /// `CAP_SYS_ADMIN`. Default: auto.
    #[schemars(with = "Option<String>", regex(pattern = "^(auto|on|off)$"))]
    pub dirty_tracking: Option<Text>,
    /// Where the newest five checkpoints are mounted, to be read: `/.sprite/checkpoints`.
    /// Needs root and /dev/fuse. Default: nowhere.
    pub mount: Option<Text>,
    /// How a second sprite-env is kept from the same bucket: `required` (the default),
    /// `best-effort` (also where the service has no conditional writes; one that is alive is
    /// waited for, and then taken over) or `off`.
    #[schemars(
        with = "Option<String>",
        regex(pattern = "^(required|best-effort|off)$")
    )]
    pub lease: Option<Text>,
    /// How long after its last sign of life another sprite-env counts as gone. Default: 30s.
    pub lease_ttl: Option<Time>,
    /// How long a stop waits until all checkpoints are in the bucket. Default: 10s.
    pub replicate_timeout: Option<Time>,
}

/// An S3 bucket.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct S3 {
    /// The access key.
    pub access_key: Option<Text>,
    /// The secret key.
    pub secret_key: Option<Text>,
    /// The URL of the service.
    pub endpoint: Option<Text>,
    /// The bucket.
    pub bucket: Option<Text>,
    /// The region. Default: us-east-1.
    pub region: Option<Text>,
    /// What the keys of all objects begin with: one environment, one prefix. Default:
    /// checkpoints.
    pub prefix: Option<Text>,
}

/// Commands that are run over the API.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Exec {
    /// Put in front of every command: `["crun", "exec", "app"]`.
    pub wrapper_command: Option<Vec<Text>>,
    /// Put in front of every command that has a terminal.
    pub tty_wrapper_command: Option<Vec<Text>>,
}

/// The files that clients may reach over the API.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fs {
    /// The directory that no path leads out of. Default: `/`.
    pub root: Option<Text>,
}

/// Where the environment's ports are.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// The file of the network namespace whose ports `/proxy`, `/ports/watch` and the URL
    /// proxy reach: `/run/netns/NAME`, `/proc/PID/ns/net`. Default: ours.
    pub namespace: Option<Text>,
}

/// What becomes of requests for the environment's own web server.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UrlProxy {
    /// The port of requests that name none. Default: 8080.
    pub port: Option<Number>,
    /// How long the web server may take to begin an answer; 0 = for ever. Default: 60s.
    pub response_timeout: Option<Time>,
    /// Whether requests that an edge marks with `proxy::` need no token. Only where
    /// nobody but the edge can reach us. Default: false.
    pub trust_edge: Option<Value<bool>>,
}

/// Bounds on what clients may use.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The largest body of a request, in bytes. Default: 1048576.
    pub request_body: Option<Number>,
    /// How many commands may run at once. Default: 1024.
    pub exec_sessions: Option<Number>,
    /// How long a request is held while the system starts or restores. Default: 30s.
    pub hold: Option<Time>,
}

/// What components write, in files.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Logs {
    /// The directory of the files `NAME.log`, one for each component; made if missing.
    /// Default: there are no files.
    pub dir: Option<Text>,
    /// The size, such as `500K` or `10M`, beyond which a file is renamed to `….1`, that to
    /// `….2` and so on. Default: 10M.
    pub size: Option<Text>,
    /// How many that were renamed are kept. Default: 5.
    pub keep: Option<Value<u8>>,
}

/// What is recorded of us.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// A file that every step of the machines is written to, for `sprite-env replay`.
    /// Default: none. The variable SPRITE_JOURNAL sets it too.
    pub journal: Option<Text>,
    /// The size in bytes at which the journal is renamed to `….1` and begun anew.
    /// Default: 16777216.
    pub journal_size: Option<Number>,
}
