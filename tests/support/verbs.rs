//! `sprite-env checkpoints …`, as a person runs it.

use std::process::{Command, Output};

use super::{BIN, Daemon, TOKEN};

/// Runs a verb against the daemon at `server`.
pub fn verb_at(server: &str, words: &[&str]) -> Output {
    Command::new(BIN)
        .arg("checkpoints")
        .args(words)
        .env("SPRITE_SERVER", server)
        .env("SPRITE_HTTP_API_TOKEN", TOKEN)
        .output()
        .unwrap()
}

/// Runs a verb against `daemon`.
pub fn verb(daemon: &Daemon, words: &[&str]) -> Output {
    verb_at(daemon.client().base(), words)
}
