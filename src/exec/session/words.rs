//! What sessions and clients tell one another.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};

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

impl Stream {
    /// The first byte of a frame that carries its output.
    #[must_use]
    pub const fn frame_kind(self) -> u8 {
        match self {
            Self::Stdout | Self::Terminal => 1,
            Self::Stderr => 2,
        }
    }
}

/// A frame: what it is, and its payload.
#[must_use]
pub fn frame(kind: u8, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(payload.len() + 1);
    frame.put_u8(kind);
    frame.put_slice(payload);
    frame.freeze()
}

/// Some output, kept as the frame that carries it: most clients get it as it is, and
/// none of what passes through is copied for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece(Bytes);

impl Piece {
    /// `payload`, written to `stream`.
    #[must_use]
    pub fn new(stream: Stream, payload: &[u8]) -> Self {
        Self(frame(stream.frame_kind(), payload))
    }

    /// A frame that is there already, its first byte included.
    #[must_use]
    pub const fn from_frame(frame: Bytes) -> Self {
        Self(frame)
    }

    /// The output itself.
    #[must_use]
    pub fn payload(&self) -> Bytes {
        self.0.slice(self.0.len().min(1)..)
    }

    /// With the byte in front that says where it comes from.
    #[must_use]
    pub fn into_frame(self) -> Bytes {
        self.0
    }
}

/// What a client hears of a session, in order. The last is `Exit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The command wrote this, at most 32 KiB.
    Data(Stream, Piece),
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
