//! The durable record of a restore under way: with it, the next start can finish or
//! undo what a crash cut off.

use std::fs;
use std::path::Path;

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
}

impl Intent {
    /// The intent to restore this checkpoint, from now on.
    #[must_use]
    pub fn of(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            auto_id: automatic_id(),
            rolling_back: false,
        }
    }

    /// Reads the record; none if no restore is under way.
    pub fn read(path: &Path) -> Result<Option<Self>, Error> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            result => result.context("read", path)?,
        };
        let intent = serde_json::from_str(&text).map_err(|error| Error::Damaged {
            path: path.to_owned(),
            why: format!("damaged: {error}; it tells how far a restore was"),
        })?;
        Ok(Some(intent))
    }

    /// Writes the record durably.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        durable::write_json(path, self)
    }
}
