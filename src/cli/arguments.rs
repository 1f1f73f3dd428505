//! Flags and verbs. Every flag may be written with one dash or two.

mod checkpoints;
mod control;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::checkpoints::{CheckpointsOptions, CheckpointsVerb};
pub use self::control::{
    ComponentsOptions, ComponentsVerb, DaemonOptions, LogsOptions, ProcessOptions, ProcessVerb,
};
use crate::config::value::{FromText, GoDuration, parse_duration};
use crate::config::{Flags, SignalMap};
use crate::diagrams::MachineName;

const EXAMPLES: &str = "\
Every flag may be written with one dash or two.

Examples:
  spritectl -- node app.js
  spritectl -listen :8080 -- python server.py
  sprite-env -config config.json -components-dir ./components -- myapp
  SPRITE_LOCAL_MODE=true spritectl -- ./my-app

Environment:
  SPRITE_HTTP_API_TOKEN       the API's token; required when it listens on TCP
  SPRITE_WRITE_DIR            where data is kept; turns checkpoints on
  SPRITE_LOCAL_MODE           true: local storage, whatever S3 settings there are
  SPRITE_KEEP_ALIVE_ON_ERROR  true: stay up when the main process ends in error
  SPRITE_ENCRYPTION_KEY       checkpoints are encrypted with it: 64 hexadecimal digits
  SPRITE_S3_ACCESS_KEY, SPRITE_S3_SECRET_ACCESS_KEY, SPRITE_S3_ENDPOINT_URL,
  SPRITE_S3_BUCKET, SPRITE_S3_REGION

Exit codes: the main process's own, 128+n if signal n killed it; 64 bad command line,
78 bad configuration, 70 a component or a roll-back failed.";

/// PID-1 supervisor for one persistent environment: boots components, runs the main
/// process, reaps zombies, forwards signals, runs commands over HTTP, takes checkpoints
/// and restores them in place.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, args_conflicts_with_subcommands = false)]
pub struct Arguments {
    /// JSON configuration file.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Directory of components: DIR/NAME/{start,ready,checkpoint,restore}[.sh].
    #[arg(long, value_name = "DIR", global = true)]
    components_dir: Option<PathBuf>,
    /// API address: host:port, :port (all interfaces) or unix:/path.
    #[arg(long, value_name = "ADDR", global = true)]
    listen: Option<String>,
    /// Log at debug level and serve the debug endpoints.
    #[arg(long, global = true)]
    debug: bool,
    /// Log and components' output as JSON lines.
    #[arg(long, global = true)]
    log_json: bool,
    /// How long the main process may take to go [default: 30s].
    #[arg(long, value_name = "DURATION", value_parser = duration, global = true)]
    graceful_shutdown_timeout: Option<Duration>,
    /// Base directory of data; overrides SPRITE_WRITE_DIR.
    #[arg(long, value_name = "DIR", global = true)]
    juicefs_dir: Option<PathBuf>,
    /// Whether orphans of our tree come to us when we are not PID 1 [default: true].
    #[arg(long, value_name = "BOOL", global = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    subreaper: Option<bool>,
    /// What the main process gets instead of signals that we receive, 0 = nothing:
    /// TERM:QUIT,USR1:0. With HUP:reload the configuration is read again. Replaces signal_map
    /// of the file.
    #[arg(long, value_name = "FROM:TO,…", value_parser = signal_map, global = true)]
    signal_map: Option<SignalNames>,
    /// Who gets the signals that we receive: the main process's group, or it alone
    /// [default: group].
    #[arg(long, value_name = "WHO", value_parser = ["group", "process"], global = true)]
    forward_to: Option<String>,
    /// The signal that we get when our parent ends: KILL.
    #[arg(long, value_name = "SIGNAL", global = true)]
    parent_death_signal: Option<String>,
    /// Our exit code instead of the main process's: 143:0. Replaces exit_code_map of the file.
    #[arg(long, value_name = "FROM:TO,…", value_parser = exit_code_map, global = true)]
    exit_code_map: Option<ExitCodes>,

    /// What to do instead of running.
    #[command(subcommand)]
    pub verb: Option<Verb>,
    /// The main process and its arguments.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// What to do instead of running.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Look at the configuration without running anything, or have it read again.
    Config {
        /// What to do with it.
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    /// Feed journals to fresh machines and say where they do something else.
    Replay(ReplayOptions),
    /// Print a state machine as a diagram, as it is in this very program.
    Diagram(DiagramOptions),
    /// Take, look at and restore checkpoints of a running sprite-env, by way of its API.
    #[command(after_help = checkpoints::HELP)]
    Checkpoints(CheckpointsOptions),
    /// Start, stop, restart or signal the main process of a running sprite-env.
    #[command(after_help = control::HELP)]
    Process(ProcessOptions),
    /// Print what components of a running sprite-env have written lately.
    #[command(after_help = control::HELP)]
    Logs(LogsOptions),
    /// Serve a JuiceFS volume: what the component that carries the storage runs.
    #[command(hide = true)]
    Juicefs {
        /// What is done.
        step: JuicefsStep,
        /// The volume, as JSON.
        volume: String,
        /// What it is done with.
        paths: Vec<std::path::PathBuf>,
    },
    /// List, start, stop, restart or signal components of a running sprite-env.
    #[command(after_help = control::HELP)]
    Components(ComponentsOptions),
}

/// What is done with a JuiceFS volume.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum JuicefsStep {
    /// Claim it in the bucket, and fetch its metadata.
    Metadata,
    /// Copy them there.
    Replicate,
    /// Tell whether they are copied.
    Replicating,
    /// Wait until what is known of them is copied.
    Settled,
    /// Mount it.
    Mount,
    /// Tell whether the mount can be used.
    Ready,
    /// Mount the image on it, until we are told to go.
    Image,
    /// Tell whether that can be used.
    ImageReady,
    /// Put the image at a path into its place, and mount it.
    Swap,
    /// Mount the clone at a path at another, to be read.
    Show,
    /// Make a new image at a path, and mount it at another.
    Blank,
    /// Tell whether the filesystem in the image at a path is whole.
    Check,
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Say whether it can be used; exit 0 if it can, 64 or 78 if not.
    Check,
    /// Print every setting, its value (secrets masked) and where it came from.
    Print {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of the configuration file.
    Schema,
    /// Have a running sprite-env read its configuration again and take over what has changed.
    #[command(after_help = control::HELP)]
    Reload {
        /// Only say what it would do.
        #[arg(long)]
        dry_run: bool,
        /// Where the daemon is.
        #[command(flatten)]
        daemon: DaemonOptions,
    },
}

/// What to replay.
#[derive(Debug, Args)]
pub struct ReplayOptions {
    /// Journals, as telemetry.journal has them written.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Print which arrows of the diagrams were taken, and which were not.
    #[arg(long)]
    pub coverage: bool,
    /// With --coverage: fail if fewer than this part of a machine's arrows were taken.
    #[arg(long, value_name = "PERCENT", requires = "coverage",
          value_parser = clap::value_parser!(u8).range(..=100))]
    pub at_least: Option<u8>,
}

/// Which diagram.
#[derive(Debug, Args)]
pub struct DiagramOptions {
    /// Which machine; all if not given.
    #[arg(long, value_enum)]
    pub machine: Option<MachineName>,
    /// In which form.
    #[arg(long, value_enum, default_value = "mermaid")]
    pub format: Format,
}

/// The form of a diagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Mermaid stateDiagram-v2, for Markdown.
    Mermaid,
    /// Graphviz.
    Dot,
    /// The picture that Graphviz lays out, with an id for each state and arrow.
    Svg,
    /// W3C SCXML.
    Scxml,
    /// A Markdown table, state by event.
    Matrix,
    /// A Markdown page: each state and event in words.
    Page,
    /// The graph itself.
    Json,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| format!("expected {}", GoDuration::EXPECTED))
}

/// Signals by name; none drops one. (Spelt out: clap takes a bare collection for many
/// values.)
type SignalNames = std::collections::BTreeMap<String, Option<String>>;
/// Exit codes.
type ExitCodes = std::collections::BTreeMap<String, u8>;

fn signal_map(text: &str) -> Result<SignalNames, String> {
    let map: SignalNames = pairs(text, "TERM:QUIT,HUP:0")?
        .into_iter()
        .map(|(from, to)| (from.to_owned(), (to != "0").then(|| to.to_owned())))
        .collect();
    match SignalMap::parse(&map) {
        Ok(_) => Ok(map),
        Err(errors) => Err(sentences(errors)),
    }
}

fn exit_code_map(text: &str) -> Result<ExitCodes, String> {
    let code = |text: &str| {
        let why = || format!("\"{text}\" is no exit code: a whole number from 0 to 255");
        text.parse::<u8>().map_err(|_| why())
    };
    pairs(text, "143:0,130:0")?
        .into_iter()
        .map(|(from, to)| Ok((code(from)?.to_string(), code(to)?)))
        .collect()
}

fn pairs<'a>(text: &'a str, example: &str) -> Result<Vec<(&'a str, &'a str)>, String> {
    let pair = |pair: &'a str| {
        let why = || format!("\"{pair}\" is no pair FROM:TO; for example {example}");
        pair.trim().split_once(':').ok_or_else(why)
    };
    text.split(',').map(pair).collect()
}

fn sentences(errors: impl IntoIterator<Item = (String, String)>) -> String {
    let errors = errors.into_iter();
    let errors: Vec<_> = errors.map(|(what, why)| format!("{what}: {why}")).collect();
    errors.join("; ")
}

impl Arguments {
    /// The flags, for the configuration.
    pub fn flags(&self) -> Flags {
        Flags {
            base_dir: PathBuf::new(),
            config: self.config.clone(),
            components_dir: self.components_dir.clone(),
            listen: self.listen.clone(),
            debug: self.debug,
            log_json: self.log_json,
            graceful_shutdown_timeout: self.graceful_shutdown_timeout,
            juicefs_dir: self.juicefs_dir.clone(),
            subreaper: self.subreaper,
            signal_map: self.signal_map.clone(),
            forward_to: self.forward_to.clone(),
            parent_death_signal: self.parent_death_signal.clone(),
            exit_code_map: self.exit_code_map.clone(),
            command: self.command.clone(),
        }
    }
}

/// The arguments with two dashes before each long flag, up to `--`.
pub fn normalized(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut is_flag = true;
    let mut is_first = true;
    arguments
        .into_iter()
        .map(|argument| {
            is_flag &= argument != "--";
            let text = argument.to_str().filter(|_| is_flag && !is_first);
            is_first = false;
            match text.and_then(|text| text.strip_prefix('-')) {
                // One letter is a short flag; a second dash is there already.
                Some(rest) if rest.len() > 1 && !rest.starts_with('-') => {
                    OsString::from(format!("--{rest}"))
                }
                _ => argument,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(words: &[&str]) -> Vec<String> {
        let words = words.iter().map(OsString::from);
        let normal = normalized(words).into_iter();
        normal
            .map(|word| word.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn one_dash_is_as_good_as_two() {
        assert_eq!(
            normal(&[
                "-x",
                "-config",
                "c",
                "--debug",
                "-listen=:1",
                "-h",
                "-",
                "--",
                "a",
                "-config"
            ]),
            [
                "-x",
                "--config",
                "c",
                "--debug",
                "--listen=:1",
                "-h",
                "-",
                "--",
                "a",
                "-config"
            ]
        );
    }

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }
}
