//! Signs of life in the bucket, for whoever waits for the end of this start.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use super::super::super::store::{Bucket, Lease};
use super::super::blocks::{self, Blocks};
use super::super::{Error, Volume};
use super::{Known, check_in, file};
use crate::config;

/// A sign of life of the start `run` in the bucket; `owner` is who we are there.
fn sign(owner: String, run: String, ttl: Duration) -> Lease {
    Lease {
        owner,
        run,
        beat: 0,
        ttl: ttl.as_secs(),
    }
}

/// Shows it, and waits until it is to be shown again.
async fn beat(lease: &mut Lease, bucket: &Bucket, ttl: Duration) {
    // What is not seen is only waited for less.
    if let Err(error) = lease.write(bucket).await {
        tracing::warn!("{error}");
    }
    tokio::time::sleep(ttl / 3).await;
    lease.beat += 1;
}

/// Shows that this start lives while its metadata are fetched.
pub async fn show_life(blocks: &Blocks, run: &str) -> Result<Infallible, Error> {
    if blocks.lease == config::Lease::Off {
        return std::future::pending().await;
    }
    let bucket = blocks.checkpoints()?;
    let mut lease = sign(blocks.identity()?, run.to_owned(), blocks.lease_ttl);
    loop {
        beat(&mut lease, &bucket, blocks.lease_ttl).await;
    }
}

/// The same from there on, for the daemon, which has the `bucket`'s keys; until another has taken
/// the volume over.
pub async fn show_life_of_daemon(
    volume: Volume,
    settings: config::Bucket,
) -> Result<Infallible, Error> {
    let (bucket, beside) = (Bucket::new(&settings)?, beside(&settings)?);
    let (owner, run) = who_we_are(volume.clone()).await?;
    let mut lease = sign(owner, run, settings.lease_ttl);
    loop {
        check_in(&volume, &beside).await?;
        beat(&mut lease, &bucket, settings.lease_ttl).await;
    }
}

/// Gives the lease up that the daemon has shown: nobody needs to wait for its end. That of another
/// stays.
pub async fn release(volume: Volume, settings: config::Bucket) -> Result<(), Error> {
    check_in(&volume, &beside(&settings)?).await?;
    let (_, run) = who_we_are(volume).await?;
    Ok(Lease::release(&Bucket::new(&settings)?, &run).await?)
}

/// What is beside the blocks in this bucket.
fn beside(settings: &config::Bucket) -> Result<Bucket, Error> {
    let prefix = blocks::beside(&settings.prefix);
    Ok(Bucket::new(&config::Bucket {
        prefix,
        ..settings.clone()
    })?)
}

/// Who we are in the bucket, and the name of this start.
async fn who_we_are(volume: Volume) -> Result<(String, String), Error> {
    let found = tokio::task::spawn_blocking(move || {
        let known = Known::read(&file(&volume))?.unwrap_or_default();
        let run = known.starts.last().map(|start| start.run.clone());
        let blocks = volume.blocks.as_ref();
        let owner = blocks.map(Blocks::identity).transpose()?;
        Ok((owner.unwrap_or_default(), run.unwrap_or_default()))
    });
    found
        .await
        .map_err(|panic| Error::Runtime(io::Error::other(panic)))?
}
