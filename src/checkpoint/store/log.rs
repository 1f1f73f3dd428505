//! The commit log: the records that say which checkpoints exist.
//!
//! `log/<sequence number, 12 digits>.json`, each made once and never changed. Only a
//! record makes something exist: what it names was brought to stable storage before.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::super::driver::{Context as _, Error};
use super::super::durable;
use super::super::manifest::Manifest;
use super::catalog::{Catalog, Owner};
use super::cipher::{Cipher, Place};
use super::{ENCRYPTED, directories};
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
    /// A random name of the run of the program that wrote it: no two programs write the
    /// same record.
    #[serde(default)]
    pub run: String,
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
    /// Packs were written anew, and others are no longer needed.
    Collect {
        /// The packs that were written.
        added: Vec<String>,
        /// The packs that are needed no longer.
        removed: Vec<String>,
    },
    /// Another program's store went on with this log.
    Takeover {
        /// Whose it is now.
        owner: Owner,
    },
    /// All that the records before this one come to; they are removed.
    Summary {
        /// What they come to.
        catalog: Box<Catalog>,
    },
}

/// The log.
#[derive(Clone, Debug)]
pub struct Log {
    dir: PathBuf,
    work: PathBuf,
    run: String,
    cipher: Cipher,
}

/// A record that is encrypted.
#[derive(Serialize, Deserialize)]
struct Sealed {
    format: u32,
    sequence: u64,
    /// The record, in base64.
    encrypted: String,
}

/// What all records come to.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Which checkpoints there are.
    pub catalog: Catalog,
    /// How many records there are since the last summary.
    pub records: usize,
    /// What could not be read.
    pub lost: Vec<Error>,
}

impl Log {
    /// The log in `dir`; records in the making are in `work`.
    #[must_use]
    pub fn new(dir: PathBuf, work: PathBuf, cipher: Cipher) -> Self {
        let run = format!("{:016x}", fastrand::u64(..));
        Self {
            dir,
            work,
            run,
            cipher,
        }
    }

    /// How the records are encrypted.
    #[must_use]
    pub const fn cipher(&self) -> &Cipher {
        &self.cipher
    }

    /// The random name of this run of the program.
    #[must_use]
    pub fn run(&self) -> &str {
        &self.run
    }

    fn path(&self, sequence: u64) -> PathBuf {
        self.dir.join(name(sequence))
    }

    /// The numbers of the records that are there, in order.
    pub fn sequences(&self) -> Result<Vec<u64>, Error> {
        let mut sequences = Vec::new();
        for entry in fs::read_dir(&self.dir).context("read", &self.dir)? {
            let name = entry.context("read", &self.dir)?.file_name();
            sequences.extend(name.to_str().and_then(number));
        }
        sequences.sort_unstable();
        Ok(sequences)
    }

    /// The bytes of a record; none if there is no such record.
    pub fn bytes(&self, sequence: u64) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path(sequence);
        match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            result => result.context("read", &path).map(Some),
        }
    }

    /// What all records come to. A record of a newer format is an error.
    pub fn read(&self) -> Result<Replayed, Error> {
        let mut catalog = Catalog::default();
        let mut lost = Vec::new();
        let mut records = 0;
        for sequence in &self.sequences()? {
            let path = self.path(*sequence);
            let expected = std::mem::replace(&mut catalog.next, *sequence + 1);
            records += 1;
            let change = match self.read_record(&path) {
                Ok(record) => record.change,
                Err(error @ Error::Damaged { .. }) => {
                    catalog.skip_number();
                    lost.push(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            // A summary stands for all before it, of which a crash may have left some.
            let summary = matches!(change, Change::Summary { .. });
            if summary {
                records = 0;
                lost.clear();
            } else if *sequence != expected {
                catalog.skip_number();
                lost.push(Error::Damaged {
                    path,
                    why: "damaged: the record before it is missing".to_owned(),
                });
            }
            catalog.apply(change);
            catalog.next = *sequence + 1;
        }
        Ok(Replayed {
            catalog,
            records,
            lost,
        })
    }

    /// A record as it is written.
    pub fn encode(&self, sequence: u64, change: &Change) -> Result<Vec<u8>, Error> {
        let format = directories::version(&self.cipher);
        let record = Record {
            format,
            sequence,
            time: now(),
            run: self.run.clone(),
            change: change.clone(),
        };
        let unfit = |error: serde_json::Error| Error::Damaged {
            path: self.path(sequence),
            why: error.to_string(),
        };
        let text = serde_json::to_vec_pretty(&record).map_err(unfit)?;
        if !self.cipher.is_on() {
            return Ok(text);
        }
        let sealed = Sealed {
            format,
            sequence,
            encrypted: self.cipher.seal_text(Place::Record(sequence), &text)?,
        };
        serde_json::to_vec_pretty(&sealed).map_err(unfit)
    }

    fn read_record(&self, path: &Path) -> Result<Record, Error> {
        self.decode(path, &fs::read(path).context("read", path)?)
    }

    /// The record with these bytes, which are at `path`.
    pub fn decode(&self, path: &Path, text: &[u8]) -> Result<Record, Error> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let damaged = |why: &dyn std::fmt::Display| Error::Damaged {
            path: path.to_owned(),
            why: format!("damaged: {why}"),
        };
        let version: Version = serde_json::from_slice(text).map_err(|error| damaged(&error))?;
        if version.format > ENCRYPTED {
            return Err(Error::Unusable(format!(
                "{} has format {}, which is newer than this program's {ENCRYPTED}; the store was \
                 left untouched",
                path.display(),
                version.format
            )));
        }
        if !self.cipher.is_on() {
            return serde_json::from_slice(text).map_err(|error| damaged(&error));
        }
        let sealed: Sealed = serde_json::from_slice(text).map_err(|error| damaged(&error))?;
        let place = Place::Record(sealed.sequence);
        let text = self.cipher.open_text(place, &sealed.encrypted);
        let text = text.map_err(|error| damaged(&error))?;
        serde_json::from_slice(&text).map_err(|error| damaged(&error))
    }

    /// Writes records that somebody else has made: the log is empty and nobody uses it.
    pub fn adopt(&self, records: &[(u64, Bytes)]) -> Result<(), Error> {
        for (sequence, bytes) in records {
            let path = self.path(*sequence);
            let mut file = File::create(&path).context("create", &path)?;
            file.write_all(bytes).context("write", &path)?;
            file.sync_all().context("flush", &path)?;
        }
        durable::sync_directory(&self.dir)
    }

    /// Adds a record with this number. When this returns, what it says has happened.
    pub fn append(&self, sequence: u64, change: &Change) -> Result<(), Error> {
        let path = self.path(sequence);
        let text = self.encode(sequence, change)?;
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

    /// Removes a record.
    pub fn remove(&self, sequence: u64) -> Result<(), Error> {
        durable::remove_file(&self.path(sequence))
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

/// The name of the record with this number.
#[must_use]
pub fn name(sequence: u64) -> String {
    format!("{sequence:012}.json")
}

/// The number of the record with this name.
#[must_use]
pub fn number(name: &str) -> Option<u64> {
    name.strip_suffix(".json")?.parse().ok()
}
