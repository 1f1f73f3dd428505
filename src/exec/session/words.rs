//! What sessions and clients tell one another.

use std::time::Duration;

use bytes::Bytes;

/// Where output comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The standard output.
    Stdout,
    /// The standard error.
    Stderr,
    /// The terminal.
    Terminal,
}

/// What a client hears of a session, in order. The last is `Exit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The command wrote this, at most 32 KiB.
    Data(Stream, Bytes),
    /// It could not be started; an `Exit` follows.
    Failed(String),
    /// It is gone; this is its exit code.
    Exit(u8),
}

/// What a client sends to the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Bytes for its standard input, or its terminal.
    Data(Bytes),
    /// The end of its standard input.
    End,
}

/// What becomes of the command when nobody is attached any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linger {
    /// It is killed at once.
    Kill,
    /// It may run on for so long, then it is told to go.
    For(Duration),
    /// It runs on.
    Forever,
}

/// What is known of a session from its start.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its name in the API.
    pub id: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Where it runs.
    pub working_dir: String,
    /// When it was started: seconds since 1970.
    pub created: i64,
    /// Whether it has a terminal.
    pub tty: bool,
    /// What becomes of it without clients.
    pub linger: Linger,
}

/// What the list of sessions shows.
#[derive(Clone, Debug)]
pub struct Activity {
    /// Bytes written by the command, a second of its life.
    pub bytes_per_second: f64,
    /// Whether there was input or output in the last seconds.
    pub is_active: bool,
    /// When there last was: RFC 3339.
    pub last: String,
}
