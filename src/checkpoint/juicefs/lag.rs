//! How far the copy of the metadata in the bucket is.

use std::cmp::Ordering;
use std::fs;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

use super::{Error, STATE, Volume, litestream};
use crate::{clock, http};

/// How often Litestream is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long its answer may take.
const ANSWER: Duration = Duration::from_secs(2);

/// How far the copy of the metadata in the bucket is: what `/status` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MetadataReplication {
    /// Where it is: `s3://BUCKET/KEY`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bucket: String,
    /// How many bytes of changes are still to be sent; none = that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_left: Option<u64>,
    /// Since when there have been any: RFC 3339, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind_since: Option<String>,
    /// Why it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What Litestream says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Where the copy is.
    pub bucket: String,
    /// How many bytes are in what it has read, but not in the bucket; none = it has not read
    /// anything yet.
    pub left: Option<u64>,
    /// How often it has read the log.
    pub readings: u64,
    /// What it calls the series of logs that it copies.
    pub generation: String,
    /// How far it has read.
    pub read: Position,
    /// How far what it has read is in the bucket.
    pub sent: Position,
}

impl Answer {
    /// Whether it has sent anything.
    pub fn has_sent(&self) -> bool {
        self.sent > Position::default()
    }
}

/// A place in the logs of one generation: the number of a part, and where in it.
pub type Position = (u64, u64);

/// Asks Litestream how far it is.
pub async fn ask(volume: &Volume) -> Result<Answer, Error> {
    let there = volume.clone();
    let (address, bucket) = read(move || litestream::address(&there)).await??;
    let silent = |error: reqwest::Error| Error::Silent(error.without_url().to_string());
    let url = format!("http://{address}/metrics");
    let url = reqwest::Url::parse(&url).map_err(|error| Error::Silent(error.to_string()))?;
    let client = http::client(&url).timeout(ANSWER).build();
    let answer = client.map_err(silent)?.get(url).send().await;
    let text = answer.map_err(silent)?.text().await.map_err(silent)?;
    if !text.contains("litestream_") {
        return Err(Error::Silent("something else does".to_owned()));
    }
    // Afterwards: all is there that it has read by then.
    let there = volume.clone();
    let (generation, parts) = read(move || parts(&there)).await?;
    let sent = ["replica_wal_index", "replica_wal_offset"].map(|name| number(&text, name));
    let readings = number(&text, "sync_count");
    Ok(Answer {
        bucket,
        left: left(&text, &parts),
        readings: readings.saturating_sub(number(&text, "sync_error_count")),
        generation,
        read: parts.iter().max().copied().unwrap_or_default(),
        sent: sent.into(),
    })
}

/// Reads from the disk, where that does not hold others up.
async fn read<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    let read = tokio::task::spawn_blocking(work).await;
    read.map_err(|panic| Error::Silent(panic.to_string()))
}

/// One of its metrics, of the one database that it has.
fn value(metrics: &str, name: &str) -> Option<f64> {
    let start = format!("litestream_{name}{{");
    let line = metrics.lines().find(|line| line.starts_with(&start))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

/// The same, if it is the number of something; 0 if it is not there.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of bytes, parts or times, as a metric"
)]
fn number(metrics: &str, name: &str) -> u64 {
    value(metrics, name).unwrap_or_default() as u64
}

/// The generation that it copies, and the parts of the database's log that it has read of it and
/// keeps: their numbers and lengths. The metric of their size is that of all of them.
fn parts(volume: &Volume) -> (String, Vec<Position>) {
    let state = volume.dir.join(STATE);
    let generation = fs::read_to_string(state.join("generation")).unwrap_or_default();
    let generation = generation.trim().to_owned();
    let parts = state.join("generations").join(&generation).join("wal");
    let found = fs::read_dir(parts).into_iter().flatten().flatten();
    let part = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let number = u64::from_str_radix(name.strip_suffix(".wal")?, 16).ok()?;
        Some((number, entry.metadata().ok()?.len()))
    };
    (generation, found.filter_map(part).collect())
}

/// How many bytes of these it has not sent; none = it has not read the log yet, which takes it a
/// second.
fn left(metrics: &str, parts: &[(u64, u64)]) -> Option<u64> {
    if value(metrics, "sync_count")? == 0.0 {
        return None;
    }
    let sent = |name| number(metrics, name);
    let (number, place) = (sent("replica_wal_index"), sent("replica_wal_offset"));
    let left = parts.iter().map(|(part, length)| match part.cmp(&number) {
        Ordering::Less => 0,
        Ordering::Equal => length.saturating_sub(place),
        Ordering::Greater => *length,
    });
    Some(left.sum())
}

/// Asks it from now on.
#[must_use]
pub fn watch(volume: Volume) -> watch::Receiver<MetadataReplication> {
    let (report, watched) = watch::channel(MetadataReplication::default());
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !report.is_closed() {
            ticks.tick().await;
            let now = ask(&volume).await;
            report.send_modify(|report| report.tell(now));
        }
    });
    watched
}

impl MetadataReplication {
    fn tell(&mut self, answer: Result<Answer, Error>) {
        match answer {
            Ok(Answer { bucket, left, .. }) => {
                let since = self.behind_since.take().unwrap_or_else(clock::now);
                *self = Self {
                    bucket,
                    bytes_left: left,
                    behind_since: (left != Some(0)).then_some(since),
                    error: None,
                };
            }
            // Nothing is sent meanwhile.
            Err(error) => {
                self.bytes_left = None;
                self.behind_since.get_or_insert_with(clock::now);
                self.error = Some(error.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(syncs: u64, sent: Option<(u64, u64)>) -> String {
        let syncs = format!("litestream_sync_count{{db=\"/m.db\"}} {syncs}\n");
        let replica = sent.map(|(index, offset)| {
            format!(
                "# TYPE litestream_replica_wal_index gauge\n\
                 litestream_replica_wal_index{{db=\"/m.db\",name=\"bucket\"}} {index}\n\
                 litestream_replica_wal_offset{{db=\"/m.db\",name=\"bucket\"}} {offset}\n"
            )
        });
        syncs + &replica.unwrap_or_default()
    }

    #[test]
    fn what_is_left_is_what_was_read_and_not_sent() {
        assert_eq!(left(&said(0, Some((0, 0))), &[]), None);
        let parts = [(0, 350_232)];
        assert_eq!(left(&said(1, Some((0, 333_752))), &parts), Some(16_480));
        assert_eq!(left(&said(1, Some((0, 350_232))), &parts), Some(0));
        // In another part of the log, and nothing sent at all.
        let parts = [(1, 1_000_000), (2, 4_152)];
        assert_eq!(left(&said(1, Some((1, 900_000))), &parts), Some(104_152));
        assert_eq!(left(&said(1, Some((2, 4_152))), &parts), Some(0));
        assert_eq!(left(&said(1, None), &parts), Some(1_004_152));
    }

    #[test]
    fn what_cannot_be_asked_is_still_behind() {
        let mut report = MetadataReplication::default();
        let answer = |left| {
            Ok(Answer {
                bucket: "s3://bucket/key".to_owned(),
                left,
                ..Answer::default()
            })
        };
        report.tell(answer(Some(10)));
        let since = report.behind_since.clone();
        assert!(since.is_some());
        report.tell(Err(Error::Silent("no".to_owned())));
        report.tell(answer(Some(20)));
        assert_eq!(
            (report.behind_since.clone(), report.bytes_left),
            (since, Some(20))
        );
        report.tell(answer(Some(0)));
        assert_eq!((report.behind_since, report.error), (None, None));
    }
}
