//! Who uses a volume in the bucket: each start leaves a record there, under a number that only
//! one can have (a fencing token). Whoever finds a higher one than its own is out.
//!
//! The records tell three things apart: the newest is of this machine, so the metadata here are
//! the newest; it is of another, so those here are older, or missing; or the bucket has none.
//!
//! Each start copies the metadata to a line of its own, which has its number: what the one before
//! still sends, if it lives, spoils nothing, and which copy is the newest is told by no clock.

mod life;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use life::{release, show_life, show_life_of_daemon};

use super::super::driver::{self, Context as _};
use super::super::durable;
use super::super::store::{Bucket, Lease, Made};
use super::blocks::Blocks;
use super::{Error, Volume};
use crate::clock;
use crate::config;

/// The directory of the records.
const RECORDS: &str = "starts";
/// The directory of the logs in one, which come after the database.
const LOGS: &str = "/wal/";
/// The directory of the lines.
const LINES_OF_METADATA: &str = "metadata";
/// So many of the newest are kept.
const KEPT: u64 = 8;
/// So many lines are kept, with that of the start.
const LINES: usize = 4;

/// A start, in the bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// A random name of it.
    run: String,
    /// When it was.
    time: String,
    /// The lines that there are, its own first, which has nothing yet.
    lines: Vec<u64>,
}

/// A start of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Start {
    number: u64,
    run: String,
}

/// What this machine knows of its starts: `starts.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    /// Where the blocks are.
    blocks: String,
    /// The last start, and one that may not have come to it.
    starts: Vec<Start>,
    /// Whether the bucket has newer metadata than there are here.
    behind: bool,
    /// The line that the metadata here are copied to, once they are.
    line: Option<u64>,
    /// The start that has fetched them: blocks that were cached before are of others.
    cache: Option<u64>,
    /// When the machine was started that uses them, and none if everything was written when it
    /// last stopped: what a machine that lost its power had not written is in the bucket.
    boot: Option<String>,
}

/// What a start has found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The name of this start.
    pub run: String,
    /// Whether the newest metadata are here.
    pub are_here: bool,
    /// The lines that they are in else, the newest first.
    pub sources: Vec<u64>,
    /// The line that they are copied to from now on: its number.
    pub line: u64,
}

fn file(volume: &Volume) -> PathBuf {
    volume.dir.join("starts.json")
}

fn key(number: u64) -> String {
    format!("{RECORDS}/{number:020}.json")
}

fn line_key(line: u64) -> String {
    format!("{LINES_OF_METADATA}/{line}")
}

impl Known {
    fn read(path: &Path) -> Result<Option<Self>, Error> {
        let text = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.context("read", path)?,
        };
        let known = serde_json::from_slice(&text).map_err(|error| driver::Error::Damaged {
            path: path.to_owned(),
            why: format!("damaged: {error}; it tells whether the metadata here are the newest"),
        })?;
        Ok(Some(known))
    }

    fn has(&self, number: u64, record: &Record) -> bool {
        let mut starts = self.starts.iter();
        starts.any(|start| start.number == number && start.run == record.run)
    }
}

/// Claims the volume for this start: waits until nobody else uses it.
pub async fn claim(volume: &Volume, blocks: &Blocks) -> Result<Claim, Error> {
    let bucket = blocks.beside()?;
    bucket.check_conditional(blocks.lease).await?;
    let path = file(volume);
    let shown = blocks.shown();
    let known = Known::read(&path)?;
    if let Some(known) = known.as_ref().filter(|known| known.blocks != shown) {
        return Err(Error::Elsewhere {
            dir: volume.dir.clone(),
            has: known.blocks.clone(),
            wanted: shown,
            hint: "configure that bucket and prefix, or move the directory away",
        });
    }
    let mut known = known.unwrap_or_default();
    known.blocks = shown;
    let boot = boot_id()?;
    if known.boot.as_ref().is_some_and(|last| *last != boot) {
        known.behind = true;
    }
    known.boot = Some(boot);
    loop {
        let newest = newest(&bucket).await?;
        let ours = newest.as_ref().filter(|(n, it)| known.has(*n, it));
        if newest.is_none() && known.line.is_some() {
            return Err(Error::LostInBucket {
                blocks: known.blocks,
            });
        }
        if ours.is_none() && newest.is_some() {
            wait_for_end(blocks).await?;
            if self::newest(&bucket).await? != newest {
                continue;
            }
            known.behind = true;
        }
        let number = newest.as_ref().map_or(1, |(number, _)| number + 1);
        let mut lines = vec![number];
        for line in newest.iter().flat_map(|(_, record)| &record.lines) {
            // One that was cut off before it was whole is not to displace another: the log comes
            // after the database.
            let dir = line_key(*line);
            let has_log = bucket.has_any(&dir, |key| key.contains(LOGS));
            if lines.len() < LINES && has_log.await? {
                lines.push(*line);
            }
        }
        let run = format!("{:032x}", fastrand::u128(..));
        // Before it is in the bucket: a crash in between must not make us strangers.
        let start = Start {
            number,
            run: run.clone(),
        };
        let last = known
            .starts
            .iter()
            .filter(|start| Some(start.number) == ours.map(|it| it.0));
        known.starts = last.cloned().chain([start]).collect();
        durable::write_json(&path, &known)?;
        let record = Record {
            run: run.clone(),
            time: clock::now(),
            lines: lines.clone(),
        };
        let text = serde_json::to_vec(&record).unwrap_or_default();
        if bucket.put_new(&key(number), Bytes::from(text)).await? == Made::New {
            let dropped = newest.iter().flat_map(|(_, record)| &record.lines);
            let dropped = dropped.copied().filter(|line| !lines.contains(line));
            forget(&bucket, number, dropped.collect()).await;
            let are_here = ours.is_some() && !known.behind && volume.metadata().exists();
            lines.retain(|line| *line != number);
            return Ok(Claim {
                run,
                are_here,
                sources: lines,
                line: number,
            });
        }
        // Another has begun this very moment, and has shown no sign of life yet.
        if blocks.lease == config::Lease::Required {
            return Err(Error::InUse {
                dir: PathBuf::from(known.blocks),
                by: "another, which has just started".to_owned(),
            });
        }
    }
}

/// What tells one start of the machine from another.
fn boot_id() -> Result<String, Error> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let id = fs::read_to_string(path).context("read", path)?;
    Ok(id.trim().to_owned())
}

/// The newest start, with its number. One that vanishes meanwhile has others after it.
async fn newest(bucket: &Bucket) -> Result<Option<(u64, Record)>, Error> {
    loop {
        let names = bucket.list(RECORDS).await?;
        let numbers = names.iter().filter_map(|name| number(name));
        let Some(number) = numbers.max() else {
            return Ok(None);
        };
        if let Some(text) = bucket.get(&key(number)).await? {
            let record = serde_json::from_slice(&text);
            let record = record.map_err(|error| driver::Error::Damaged {
                path: PathBuf::from(format!("{}/{}", bucket.shown(), key(number))),
                why: format!("damaged: {error}"),
            })?;
            return Ok(Some((number, record)));
        }
    }
}

fn number(name: &str) -> Option<u64> {
    name.strip_suffix(".json")?.parse().ok()
}

/// Waits until nobody else uses the volume.
async fn wait_for_end(blocks: &Blocks) -> Result<(), Error> {
    if blocks.lease == config::Lease::Off {
        return Ok(());
    }
    let bucket = blocks.checkpoints()?;
    let alive = Lease::wait_for_end(&bucket, &blocks.identity()?, blocks.lease_ttl).await?;
    let Some(alive) = alive else {
        return Ok(());
    };
    if blocks.lease == config::Lease::Required {
        return Err(Error::InUse {
            dir: PathBuf::from(blocks.shown()),
            by: format!("another, which is alive (store {})", alive.owner),
        });
    }
    tracing::warn!(
        "another sprite-env uses {} and is alive; it is taken over",
        blocks.shown()
    );
    Ok(())
}

/// Removes what nobody needs. It is no reason not to start.
async fn forget(bucket: &Bucket, number: u64, lines: Vec<u64>) {
    let mut removed = Vec::new();
    for line in lines {
        removed.push(bucket.delete_all(&line_key(line)).await);
    }
    if let Some(old) = number.checked_sub(KEPT) {
        removed.push(bucket.delete(&key(old)).await);
    }
    for error in removed.into_iter().filter_map(Result::err) {
        tracing::warn!("{error}");
    }
}

/// Notes that the newest metadata are here, and are copied to this line; `fetched` = from the
/// bucket.
pub fn are_of(volume: &Volume, line: u64, fetched: bool) -> Result<(), Error> {
    let path = file(volume);
    let known = Known::read(&path)?.unwrap_or_default();
    let known = Known {
        behind: false,
        line: Some(line),
        cache: known.cache.filter(|_| !fetched).or(Some(line)),
        ..known
    };
    Ok(durable::write_json(&path, &known)?)
}

/// Notes that everything is written here, and in the bucket.
pub fn are_written(volume: &Volume) -> Result<(), Error> {
    let path = file(volume);
    let Some(known) = Known::read(&path)? else {
        return Ok(());
    };
    let known = Known {
        boot: None,
        ..known
    };
    Ok(durable::write_json(&path, &known)?)
}

/// The start that has fetched the metadata, which the cache belongs to.
pub fn cache(volume: &Volume) -> Result<Option<u64>, Error> {
    Ok(Known::read(&file(volume))?.and_then(|known| known.cache))
}

/// The line that the metadata here are copied to; none = there is no volume in a bucket.
pub fn line(volume: &Volume) -> Result<Option<u64>, Error> {
    Ok(Known::read(&file(volume))?.and_then(|known| known.line))
}

/// Fails if somebody else has started after us. Whether that is so may not be known, and then
/// nothing is wrong.
pub async fn check(volume: &Volume, blocks: &Blocks) -> Result<(), Error> {
    check_in(volume, &blocks.beside()?).await
}

async fn check_in(volume: &Volume, bucket: &Bucket) -> Result<(), Error> {
    let Some(known) = Known::read(&file(volume))? else {
        return Ok(());
    };
    let Some(ours) = known.starts.last() else {
        return Ok(());
    };
    let (own_key, next_key) = (key(ours.number), key(ours.number + 1));
    let (own, next) = tokio::join!(bucket.get(&own_key), bucket.get(&next_key));
    let at = match (own, next) {
        (_, Ok(Some(next))) => serde_json::from_slice::<Record>(&next).ok(),
        // So many came after it that it was removed, and the next too.
        (Ok(None), _) => None,
        _ => return Ok(()),
    };
    Err(Error::TakenOver {
        bucket: known.blocks,
        at: at.map_or_else(|| "some time".to_owned(), |record| record.time),
    })
}
