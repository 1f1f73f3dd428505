//! How far the copy of the metadata in the bucket is.

use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

use super::{Error, Volume, litestream};
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
}

/// Asks Litestream how far it is.
pub async fn ask(volume: &Volume) -> Result<Answer, Error> {
    let (address, bucket) = litestream::address(volume)?;
    let silent = |error: reqwest::Error| Error::Silent(error.without_url().to_string());
    let url = format!("http://{address}/metrics");
    let url = reqwest::Url::parse(&url).map_err(|error| Error::Silent(error.to_string()))?;
    let client = http::client(&url).timeout(ANSWER).build();
    let answer = client.map_err(silent)?.get(url).send().await;
    let text = answer.map_err(silent)?.text().await.map_err(silent)?;
    if !text.contains("litestream_") {
        return Err(Error::Silent("something else does".to_owned()));
    }
    let left = left(&text);
    Ok(Answer { bucket, left })
}

/// How many bytes it has read of the database's log, and not sent; none = it has not read it yet,
/// which takes it a second. The log has parts: it has sent up to some place of one, and read up to the end of one.
fn left(metrics: &str) -> Option<u64> {
    let value = |name: &str| {
        let mut lines = metrics.lines();
        let line = lines.find(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('{'))
        })?;
        line.rsplit_once(' ')?.1.parse::<f64>().ok()
    };
    if value("litestream_sync_count")? == 0.0 {
        return None;
    }
    let read = value("litestream_shadow_wal_index")?;
    let end = value("litestream_shadow_wal_size")?;
    let sent = value("litestream_replica_wal_index").unwrap_or(-1.0);
    let place = value("litestream_replica_wal_offset").unwrap_or_default();
    let left = if sent < read { end } else { end - place };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number of bytes, as a metric"
    )]
    Some(left.max(0.0) as u64)
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
            Ok(Answer { bucket, left }) => {
                let since = self.behind_since.take().unwrap_or_else(clock::now);
                *self = Self {
                    bucket,
                    bytes_left: left,
                    behind_since: (left != Some(0)).then_some(since),
                    error: None,
                };
            }
            // It may have been behind before, and then still is.
            Err(error) => {
                self.bytes_left = None;
                self.error = Some(error.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(read: (u64, u64), sent: Option<(u64, u64)>) -> String {
        let shadow = format!(
            "litestream_sync_count{{db=\"/m.db\"}} 1\n# TYPE litestream_shadow_wal_index gauge\nlitestream_shadow_wal_index{{db=\"/m.db\"}} {}\n\
             litestream_shadow_wal_size{{db=\"/m.db\"}} {}\n",
            read.0, read.1
        );
        let replica = sent.map(|(index, offset)| {
            format!(
                "litestream_replica_wal_index{{db=\"/m.db\",name=\"bucket\"}} {index}\n\
                 litestream_replica_wal_offset{{db=\"/m.db\",name=\"bucket\"}} {offset}\n"
            )
        });
        shadow + &replica.unwrap_or_default()
    }

    #[test]
    fn what_is_left_is_what_was_read_and_not_sent() {
        let not_yet = said((0, 0), Some((0, 0))).replace("} 1\n", "} 0\n");
        assert_eq!(left(&not_yet), None);
        assert_eq!(left(&said((0, 350_232), Some((0, 333_752)))), Some(16_480));
        assert_eq!(left(&said((2, 4_152), Some((2, 4_152)))), Some(0));
        // In another part of the log, and nothing sent at all.
        assert_eq!(left(&said((2, 4_152), Some((1, 1_000_000)))), Some(4_152));
        assert_eq!(left(&said((0, 1_200_000), None)), Some(1_200_000));
    }

    #[test]
    fn what_cannot_be_asked_is_still_behind() {
        let mut report = MetadataReplication::default();
        let answer = |left| {
            Ok(Answer {
                bucket: "s3://bucket/key".to_owned(),
                left,
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
