//! The lease: a sign of life in the bucket, so that nobody takes over from a program that
//! lives.
//!
//! It only spares people a mistake. What is right is decided by the log: a record is made
//! once, and whoever finds another's in the place of its own is out. So the clocks of two
//! machines need not agree: whoever waits sees for itself that the lease does not change.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::super::super::driver::Error;
use super::bucket::Bucket;

const KEY: &str = "lease.json";
/// How often within its time to live a lease is looked at by one who waits for its end.
const LOOKS: u32 = 10;

/// What is in the bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The name of the store that it belongs to.
    pub owner: String,
    /// The name of the run of the program.
    pub run: String,
    /// How often it was renewed.
    pub beat: u64,
    /// After how many seconds without a change it has ended.
    pub ttl: u64,
}

impl Lease {
    /// The lease that is there; none if there is none, or nothing that can be read.
    pub async fn read(bucket: &Bucket) -> Result<Option<Self>, Error> {
        let found = bucket.get(KEY).await?;
        Ok(found.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Puts it into the bucket.
    pub async fn write(&self, bucket: &Bucket) -> Result<(), Error> {
        let text = serde_json::to_vec(self).unwrap_or_default();
        bucket.put(KEY, Bytes::from(text)).await
    }

    /// Gives it up, if it is still that of this run.
    pub async fn release(bucket: &Bucket, run: &str) -> Result<(), Error> {
        let is_ours = Self::read(bucket).await?.is_some_and(|it| it.run == run);
        if is_ours {
            bucket.delete(KEY).await
        } else {
            Ok(())
        }
    }

    /// Waits until the lease of anybody else has ended; returns that of one who lives.
    pub async fn wait_for_end(
        bucket: &Bucket,
        owner: &str,
        ttl: Duration,
    ) -> Result<Option<Self>, Error> {
        let read = async || -> Result<Option<Self>, Error> {
            let found = Self::read(bucket).await?;
            Ok(found.filter(|lease| lease.owner != owner))
        };
        let Some(first) = read().await? else {
            return Ok(None);
        };
        // Whoever wrote it knows best how often it is renewed.
        let ttl = ttl.max(Duration::from_secs(first.ttl.min(600)));
        tracing::info!(
            "waiting up to {ttl:?} to see whether {} still uses {}",
            first.owner,
            bucket.shown()
        );
        let end = Instant::now() + ttl;
        while Instant::now() < end {
            tokio::time::sleep(ttl / LOOKS).await;
            match read().await? {
                None => return Ok(None),
                Some(now) if now != first => return Ok(Some(now)),
                Some(_) => {}
            }
        }
        Ok(None)
    }
}
