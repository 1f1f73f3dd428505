//! What must be remembered between operations: `state.json`.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::checkpoint::driver::{Context as _, Error};
use crate::checkpoint::durable;

/// What must be remembered between operations.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// The number of the last checkpoint that was made; never used again.
    pub last: Option<u64>,
    /// The checkpoint that the live tree came from.
    pub base: Option<String>,
    /// The checkpoint that was restored last, if none was made since.
    pub restored: Option<String>,
}

impl State {
    /// Reads it; a store that is new has the default.
    pub fn read(path: &Path) -> Result<Self, Error> {
        match fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            result => serde_json::from_slice(&result.context("read", path)?).map_err(|error| {
                Error::Damaged {
                    path: path.to_owned(),
                    why: format!("damaged: {error}"),
                }
            }),
        }
    }

    /// Writes it durably.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        durable::write_json(path, self)
    }
}
