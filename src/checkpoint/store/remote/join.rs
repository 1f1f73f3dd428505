//! The first start on an empty disk: takes over what the bucket has.

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::super::super::driver::{Context as _, Error};
use super::super::super::durable;
use super::super::catalog::{Catalog, Owner};
use super::super::log::Change;
use super::super::objects::index_file;
use super::bucket::Made;
use super::lease::Lease;
use super::{Local, Remote, config, record_key};

/// How many records and indexes are read at once.
const AT_ONCE: usize = 16;
/// How often an empty disk asks a bucket that does not answer.
const TRIES: u32 = 3;
/// How long it waits in between.
const PAUSE: Duration = Duration::from_secs(2);
/// How often it may lose a race for the log before it gives up.
const RACES: u32 = 5;

impl Remote {
    /// Makes the log of this store that of the bucket, and the bucket ours. Returns whether
    /// there was anything.
    pub(super) async fn join(&self) -> Result<bool, Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_to_join().await {
                Err(error @ Error::Bucket { .. }) if tries < TRIES => {
                    tracing::warn!("{error}; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error @ Error::Bucket { .. }) => {
                    return Err(Error::Unusable(format!(
                        "{error}. There are no checkpoints on this machine, so the bucket is needed \
                         to start; SPRITE_LOCAL_MODE=true starts without it"
                    )));
                }
                result => return result,
            }
        }
    }

    async fn try_to_join(&self) -> Result<bool, Error> {
        let local = self.local()?;
        self.prepare().await?;
        for _ in 0..RACES {
            let records = self.records().await?;
            if records.is_empty() {
                return Ok(false);
            }
            for sequence in local.log.sequences()? {
                local.log.remove(sequence)?;
            }
            local.log.adopt(&records)?;
            let catalog = local.log.read()?.catalog;
            if self.take_over(local, &catalog).await? {
                self.fetch_indexes(local, &catalog).await?;
                self.show_life(local, 0).await?;
                return Ok(true);
            }
        }
        Err(Error::Fenced(format!(
            "several sprite-envs try to use {} at once; give each its own s3.prefix",
            self.bucket.shown()
        )))
    }

    /// All records, in order. One that vanishes meanwhile is in a summary that does not.
    async fn records(&self) -> Result<Vec<(u64, Bytes)>, Error> {
        let sequences = self.sequences().await?;
        let read = futures_util::stream::iter(sequences).map(async |sequence| {
            let bytes = self.bucket.get(&record_key(sequence)).await?;
            Ok(bytes.map(|bytes| (sequence, bytes)))
        });
        let read: Vec<_> = read.buffered(AT_ONCE).try_collect().await?;
        Ok(read.into_iter().flatten().collect())
    }

    /// Adds the record that makes the log ours. Says no if somebody else was faster.
    async fn take_over(&self, local: &Local, catalog: &Catalog) -> Result<bool, Error> {
        let id = &local.identity.id;
        if catalog.owner.as_ref().is_some_and(|owner| owner.id == *id) {
            return Ok(true);
        }
        if self.mode != config::Lease::Off
            && let Some(alive) = Lease::wait_for_end(&self.bucket, id, self.ttl).await?
        {
            let shown = self.bucket.shown();
            if self.mode == config::Lease::Required {
                return Err(Error::Fenced(format!(
                    "{shown} is in use by another sprite-env, which is alive (store {}); stop it \
                     first, or give this one another s3.prefix",
                    alive.owner
                )));
            }
            tracing::warn!("another sprite-env uses {shown} and is alive; it is taken over");
        }
        let owner = Owner {
            id: id.clone(),
            epoch: catalog.owner.as_ref().map_or(0, |owner| owner.epoch) + 1,
        };
        let sequence = catalog.next;
        let record = local.log.encode(sequence, &Change::Takeover { owner })?;
        let record = Bytes::from(record);
        match self
            .bucket
            .put_new(&record_key(sequence), record.clone())
            .await?
        {
            Made::New => {
                local.log.adopt(&[(sequence, record)])?;
                Ok(true)
            }
            Made::Exists(_) => Ok(false),
        }
    }

    /// Brings the index of each pack to this machine, so that all objects are known. The
    /// packs themselves come when they are needed.
    async fn fetch_indexes(&self, local: &Local, catalog: &Catalog) -> Result<(), Error> {
        let packs = &local.packs;
        let fetched = futures_util::stream::iter(&catalog.packs).map(async |name: &String| {
            match self.read_index(name).await {
                Ok(index) => {
                    let path = index_file(packs, name);
                    fs::write(&path, index).context("write", &path)
                }
                // It is told with the others that are damaged.
                Err(Error::Damaged { .. }) => Ok(()),
                Err(error) => Err(error),
            }
        });
        fetched
            .buffer_unordered(AT_ONCE)
            .try_for_each(async |()| Ok(()))
            .await?;
        durable::sync_directory(packs)
    }
}
