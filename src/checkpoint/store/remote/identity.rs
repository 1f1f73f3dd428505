//! Who we are in the bucket.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::super::driver::{Context as _, Error};
use super::super::super::durable;

/// Its file in the store's directory.
pub const FILE: &str = "bucket.json";

/// What a local store knows of its place in the bucket: `bucket.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// A random name of this local store.
    pub id: String,
    /// Whether it has the bucket's log, or had none to get. Until then its own log is
    /// worth nothing.
    pub joined: bool,
    /// All records before this one were in the bucket when we last knew.
    #[serde(default)]
    pub sent: u64,
}

impl Identity {
    /// That of the store in `dir`, which need not be open, nor be there.
    pub fn of_store(dir: &Path) -> Result<Self, Error> {
        fs::create_dir_all(dir).context("create", dir)?;
        let mut records = fs::read_dir(dir.join("log")).into_iter().flatten();
        Self::open(&dir.join(FILE), records.next().is_some())
    }

    /// Reads it, or makes it: a store that `is_used` has something of its own.
    pub fn open(path: &Path, is_used: bool) -> Result<Self, Error> {
        match fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let identity = Self {
                    id: format!("{:032x}", fastrand::u128(..)),
                    joined: is_used,
                    sent: 0,
                };
                identity.write(path)?;
                Ok(identity)
            }
            text => {
                let text = text.context("read", path)?;
                serde_json::from_slice(&text).map_err(|error| Error::Damaged {
                    path: path.to_owned(),
                    why: format!("damaged: {error}; it tells who we are in the bucket"),
                })
            }
        }
    }

    /// Writes it durably.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        durable::write_json(path, self)
    }
}
