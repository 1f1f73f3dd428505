//! The commit log: the records that say which checkpoints exist.
//!
//! `log/<sequence number, 12 digits>.json`, each made once and never changed. Only a
//! record makes something exist: what it names was brought to stable storage before.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::driver::{Context as _, Error};
use super::super::durable;
use super::super::manifest::Manifest;
use super::FORMAT;
use super::catalog::Catalog;
use crate::clock::now;

/// A record of the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The version of the store's format.
    pub format: u32,
    /// Its number; records follow one another without a gap.
    pub sequence: u64,
    /// When it was written: RFC 3339, UTC.
    pub time: String,
    /// What has happened.
    #[serde(flatten)]
    pub change: Change,
}

/// What has happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// A checkpoint was made.
    Checkpoint {
        /// What is known of it.
        manifest: Box<Manifest>,
        /// The packs that were written for it.
        packs: Vec<String>,
    },
    /// A checkpoint was restored: the live tree descends from it now.
    Restore {
        /// Its id.
        id: String,
    },
    /// A checkpoint was removed.
    Delete {
        /// Its id.
        id: String,
    },
    /// All that the records before this one come to; they are removed.
    Summary {
        /// What they come to.
        catalog: Box<Catalog>,
    },
}

/// The log.
#[derive(Debug)]
pub struct Log {
    dir: PathBuf,
    work: PathBuf,
}

impl Log {
    /// The log in `dir`; records in the making are in `work`.
    #[must_use]
    pub fn new(dir: PathBuf, work: PathBuf) -> Self {
        Self { dir, work }
    }

    fn path(&self, sequence: u64) -> PathBuf {
        self.dir.join(format!("{sequence:012}.json"))
    }

    /// The numbers of the records that are there, in order.
    fn sequences(&self) -> Result<Vec<u64>, Error> {
        let mut sequences = Vec::new();
        for entry in fs::read_dir(&self.dir).context("read", &self.dir)? {
            let name = entry.context("read", &self.dir)?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".json"));
            sequences.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        sequences.sort_unstable();
        Ok(sequences)
    }

    /// What all records come to, how many they are, and what could not be read. A record
    /// of a newer format is an error.
    pub fn read(&self) -> Result<(Catalog, usize, Vec<Error>), Error> {
        let sequences = self.sequences()?;
        let mut catalog = Catalog::default();
        let mut lost = Vec::new();
        for sequence in &sequences {
            let path = self.path(*sequence);
            let expected = std::mem::replace(&mut catalog.next, *sequence + 1);
            let change = match read_record(&path) {
                Ok(record) => record.change,
                Err(error @ Error::Damaged { .. }) => {
                    catalog.skip_number();
                    lost.push(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            // A summary stands for all before it.
            let gap = *sequence != expected && !matches!(change, Change::Summary { .. });
            if gap {
                catalog.skip_number();
                lost.push(Error::Damaged {
                    path,
                    why: "damaged: the record before it is missing".to_owned(),
                });
            }
            catalog.apply(change);
            catalog.next = *sequence + 1;
        }
        Ok((catalog, sequences.len(), lost))
    }

    /// Adds a record with this number. When this returns, what it says has happened.
    pub fn append(&self, sequence: u64, change: &Change) -> Result<(), Error> {
        let record = Record {
            format: FORMAT,
            sequence,
            time: now(),
            change: change.clone(),
        };
        let path = self.path(sequence);
        let text = serde_json::to_vec_pretty(&record).map_err(|error| Error::Damaged {
            path: path.clone(),
            why: error.to_string(),
        })?;
        let temporary = self.work.join("record.tmp");
        let mut file = File::create(&temporary).context("create", &temporary)?;
        file.write_all(&text).context("write", &temporary)?;
        file.sync_all().context("flush", &temporary)?;
        // A link, not a rename: it fails if somebody else has written the record.
        match fs::hard_link(&temporary, &path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(Error::Damaged {
                    path,
                    why: "was written by somebody else; this program must be restarted".to_owned(),
                });
            }
            result => result.context("create", &path)?,
        }
        durable::sync_directory(&self.dir)?;
        let _ = fs::remove_file(&temporary);
        Ok(())
    }

    /// Removes the records before `sequence`, the oldest first.
    pub fn remove_before(&self, sequence: u64) -> Result<(), Error> {
        for old in self.sequences()?.into_iter().filter(|old| *old < sequence) {
            let path = self.path(old);
            fs::remove_file(&path).context("remove", &path)?;
        }
        durable::sync_directory(&self.dir)
    }
}

fn read_record(path: &Path) -> Result<Record, Error> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let text = fs::read(path).context("read", path)?;
    let damaged = |why: String| Error::Damaged {
        path: path.to_owned(),
        why,
    };
    let newer = |format: u32| {
        Error::Unusable(format!(
            "{} has format {format}, which is newer than this program's {FORMAT}; the store was \
             left untouched",
            path.display()
        ))
    };
    let version: Version =
        serde_json::from_slice(&text).map_err(|error| damaged(format!("damaged: {error}")))?;
    if version.format > FORMAT {
        return Err(newer(version.format));
    }
    serde_json::from_slice(&text).map_err(|error| damaged(format!("damaged: {error}")))
}
