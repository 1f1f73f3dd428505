//! The durable record of a restore under way: with it, the next start can finish or
//! undo what a crash cut off.

use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::driver::{Context as _, Error};
use super::durable;
use super::manifest::automatic_id;

/// A restore past the point where something is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The checkpoint that is restored.
    pub id: String,
    /// The automatic checkpoint that keeps what is replaced.
    pub auto_id: String,
    /// Whether it is being undone.
    pub rolling_back: bool,
    /// Whether a first start restores what the bucket has: what is replaced then was never a state
    /// of the environment.
    #[serde(default)]
    pub is_first_start: bool,
}

impl Intent {
    /// The intent to restore this checkpoint, from now on.
    #[must_use]
    pub fn of(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            auto_id: automatic_id(),
            rolling_back: false,
            is_first_start: false,
        }
    }

    /// Reads the record; none if no restore is under way.
    pub fn read(path: &Path) -> Result<Option<Self>, Error> {
        match fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            text => parse(path, &text.context("read", path)?).map(Some),
        }
    }

    /// Writes the record durably.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        durable::write_json(path, self)
    }
}

/// Reads such a record from what is at `path`.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(text).map_err(|error| Error::Damaged {
        path: path.to_owned(),
        why: format!("damaged: {error}; it tells how far a restore was"),
    })
}
