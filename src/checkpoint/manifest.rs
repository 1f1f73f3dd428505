//! What is known of one checkpoint: `manifest.json` in its directory.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::driver::{Context as _, Error};
use super::durable;

/// The version of the store's format that this program writes and reads.
pub const FORMAT: u32 = 1;
/// The manifest's name in a checkpoint's directory.
pub const FILE: &str = "manifest.json";

/// What is known of one checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the format.
    pub format: u32,
    /// The checkpoint's id.
    pub id: String,
    /// When its instant was: RFC 3339, UTC.
    pub create_time: String,
    /// The checkpoint that the environment came from: the one made or restored last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source_id: Option<String>,
    /// What its maker says about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub comment: Option<String>,
    /// The checkpoints that it descends from, oldest first.
    #[serde(default)]
    pub history: Vec<String>,
    /// Whether a restore made it, to keep what it replaced.
    #[serde(default)]
    pub is_auto: bool,
    /// How many entries the tree has, its root not counted; none if not counted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub entries: Option<u64>,
    /// How many bytes its files have; none if not counted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bytes: Option<u64>,
    /// What could not be captured, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<String>,
}

impl Manifest {
    /// Reads the manifest in `dir`; none if there is no checkpoint.
    pub fn read(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(FILE);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            result => result.context("read", &path)?,
        };
        let damaged = |why: String| Error::Damaged {
            path: path.clone(),
            why,
        };
        let manifest: Self =
            serde_json::from_str(&text).map_err(|error| damaged(format!("damaged: {error}")))?;
        if manifest.format > FORMAT {
            return Err(damaged(format!(
                "has format {}, which is newer than this program's {FORMAT}; it was left untouched",
                manifest.format
            )));
        }
        Ok(Some(manifest))
    }

    /// Writes the manifest into `dir`.
    pub fn write(&self, dir: &Path) -> Result<(), Error> {
        durable::write_json(&dir.join(FILE), self)
    }
}
