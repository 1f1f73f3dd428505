//! What can be told to a running daemon about its process and components.

use clap::{Args, Subcommand};

/// What follows the help.
pub(super) const HELP: &str = "\
Environment:
  SPRITE_SERVER          the API, instead of --server
  SPRITE_HTTP_API_TOKEN  its token

Exit codes: 0 done, 1 it failed or was refused, 64 bad command line, 69 nobody answers.";

/// Where the daemon is, and in which form it answers.
#[derive(Debug, Args)]
pub struct ServerOptions {
    /// Its API: http://HOST:PORT or unix:/PATH [default: http://127.0.0.1:7778].
    #[arg(long, value_name = "URL", global = true)]
    pub server: Option<String>,
    /// Print the API's JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// Where the daemon is, and how it is asked.
#[derive(Debug, Args)]
pub struct DaemonOptions {
    /// Where it is.
    #[command(flatten)]
    pub at: ServerOptions,
    /// How long to wait until it is done; 0 = not at all.
    #[arg(long, value_name = "DURATION", value_parser = super::duration, default_value = "60s",
          global = true)]
    pub wait: std::time::Duration,
}

/// What is to be done with the main process.
#[derive(Debug, Args)]
pub struct ProcessOptions {
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: DaemonOptions,
    /// What is to be done.
    #[command(subcommand)]
    pub verb: ProcessVerb,
}

/// What is to be done with the main process.
#[derive(Debug, Subcommand)]
pub enum ProcessVerb {
    /// Start it, after it was stopped or ended in error.
    Start,
    /// Stop it; everything else goes on.
    Stop,
    /// Stop it and start it again.
    Restart,
    /// Send a signal to its process group.
    Signal {
        /// By name or number: HUP, SIGHUP, 1, RTMIN+3.
        signal: String,
    },
}

/// What is to be done with components.
#[derive(Debug, Args)]
pub struct ComponentsOptions {
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: DaemonOptions,
    /// What is to be done.
    #[command(subcommand)]
    pub verb: ComponentsVerb,
}

/// What is to be done with components.
#[derive(Debug, Subcommand)]
pub enum ComponentsVerb {
    /// List them.
    List,
    /// Start one that is down.
    Start {
        /// Which.
        name: String,
    },
    /// Stop one; everything else goes on.
    Stop {
        /// Which.
        name: String,
    },
    /// Stop one and start it again; one that has a schedule runs at once.
    Restart {
        /// Which.
        name: String,
    },
    /// Send a signal to its process group.
    Signal {
        /// Which.
        name: String,
        /// By name or number: HUP, SIGHUP, 1, RTMIN+3.
        signal: String,
    },
}

/// Whose output, and how much of it.
#[derive(Debug, Args)]
pub struct LogsOptions {
    /// Where the daemon is.
    #[command(flatten)]
    pub at: ServerOptions,
    /// Go on with what is written from now on.
    #[arg(long, short)]
    pub follow: bool,
    /// Only so many of the last lines.
    #[arg(long, short = 'n', value_name = "LINES")]
    pub tail: Option<u32>,
    /// Show when each line was written.
    #[arg(long, short)]
    pub times: bool,
    /// The components; all if none is named.
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
}
