//! The verbs of `sprite-env` that ask a daemon, as a person runs them.

use std::process::{Command, Output};

use super::{BIN, Daemon, TOKEN};

/// Runs `sprite-env WORDS…` for the daemon at `server`.
pub fn ask(server: &str, words: &[&str]) -> Output {
    Command::new(BIN)
        .args(words)
        .env("SPRITE_SERVER", server)
        .env("SPRITE_HTTP_API_TOKEN", TOKEN)
        .output()
        .unwrap()
}

/// Runs a verb of `checkpoints` against the daemon at `server`.
pub fn verb_at(server: &str, words: &[&str]) -> Output {
    ask(server, &[&["checkpoints"], words].concat())
}

/// Runs a verb of `checkpoints` against `daemon`.
pub fn verb(daemon: &Daemon, words: &[&str]) -> Output {
    verb_at(daemon.client().base(), words)
}
