//! Sends what is new to the bucket, record by record, for as long as the program runs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::super::super::driver::{Context as _, Error};
use super::super::super::replication::{Phase, Replication};
use super::super::log::{Change, Record};
use super::super::objects::source_name;
use super::bucket::Made;
use super::lease::Lease;
use super::{Local, Remote, blocking, config, lock, pack, pack_key, record_key};

/// How many packs are sent at once. Each is in memory meanwhile.
const AT_ONCE: usize = 3;
/// The first pause after a failure, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// A record that is to be sent.
struct Pending {
    sequence: u64,
    bytes: Bytes,
    record: Record,
    /// How many bytes its packs have.
    size: u64,
}

/// Sends what is new until somebody else has taken over.
pub async fn run(remote: Arc<Remote>) {
    let mut pause = PAUSES.0;
    loop {
        let before = remote.report.borrow().next;
        let Err(error) = remote.replicate().await;
        let fenced = matches!(error, Error::Fenced(_) | Error::Unusable(_));
        if fenced {
            tracing::error!("{error}");
        } else {
            tracing::warn!("{error}; trying again");
        }
        let phase = if fenced {
            Phase::Fenced
        } else {
            Phase::Waiting
        };
        remote.tell_of_failure(phase, &error).await;
        if fenced {
            return;
        }
        if remote.report.borrow().next > before {
            pause = PAUSES.0;
        }
        // Many that wait for the same service must not come back all at once.
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = PAUSES.1.min(pause * 2);
    }
}

impl Remote {
    async fn replicate(&self) -> Result<std::convert::Infallible, Error> {
        let local = self.local()?;
        let connected = lock(&self.connected).take();
        let mut next = match connected {
            Some(next) => next,
            None => self.connect().await?,
        };
        let mut swept = false;
        let mut kept = local.identity.sent;
        let mut beat = 0;
        let mut other = None;
        loop {
            let waiting = self.wake.notified();
            while let Some(pending) = blocking(local, move |local| pending(local, next)).await? {
                self.tell(next, &pending, Phase::Replicating);
                for (place, record) in pending.iter().enumerate() {
                    self.send(local, record).await?;
                    next = record.sequence + 1;
                    let left = pending.get(place + 1..).unwrap_or_default();
                    self.tell(next, left, Phase::Replicating);
                }
            }
            self.tell(next, &[], Phase::Idle);
            if kept != next {
                blocking(local, move |local| local.keep(next)).await?;
                kept = next;
            }
            if !swept {
                self.sweep(local, next).await?;
                swept = true;
            }
            if self.mode == config::Lease::Off {
                waiting.await;
                continue;
            }
            if tokio::time::timeout(self.ttl / 3, waiting).await.is_err() {
                beat += 1;
                self.renew(local, next, beat, &mut other).await?;
            }
        }
    }

    fn tell(&self, next: u64, pending: &[Pending], phase: Phase) {
        let is_checkpoint =
            |pending: &&Pending| matches!(pending.record.change, Change::Checkpoint { .. });
        self.report.send_modify(|report| {
            *report = Replication {
                bucket: std::mem::take(&mut report.bucket),
                phase,
                checkpoints_left: pending.iter().filter(is_checkpoint).count(),
                bytes_left: pending.iter().map(|pending| pending.size).sum(),
                behind_since: pending.first().map(|pending| pending.record.time.clone()),
                error: None,
                next,
            };
        });
    }

    async fn tell_of_failure(&self, phase: Phase, error: &Error) {
        let next = self.report.borrow().next;
        if let Ok(local) = self.local()
            && let Ok(Some(pending)) = blocking(local, move |local| pending(local, next)).await
        {
            self.tell(next, &pending, phase);
        }
        self.report.send_modify(|report| {
            report.phase = phase;
            report.error = Some(error.to_string());
        });
    }

    /// Sends a record, after all that it names.
    async fn send(&self, local: &Arc<Local>, pending: &Pending) -> Result<(), Error> {
        let mut packs = packs_of(&pending.record);
        if packs.len() > 1 {
            // As a rule all those of a summary are there, and those that were sent before a failure.
            let there: BTreeSet<String> = self.bucket.list("packs").await?.into_iter().collect();
            packs.retain(|name| !there.contains(&source_name(name)));
        }
        let sent = futures_util::stream::iter(packs)
            .map(async |name: String| self.send_pack(local, &name).await);
        sent.buffer_unordered(AT_ONCE)
            .try_for_each(async |()| Ok(()))
            .await?;
        let key = record_key(pending.sequence);
        match self.bucket.put_new(&key, pending.bytes.clone()).await? {
            Made::New => {}
            Made::Exists(there) if there == pending.bytes => {}
            Made::Exists(there) => return Err(self.fence(pending.sequence, &there)),
        }
        tracing::debug!(key, "replicated");
        self.clear_after(local, &pending.record).await
    }

    async fn send_pack(&self, local: &Arc<Local>, name: &str) -> Result<(), Error> {
        let path = local.packs.join(source_name(name));
        let checked = blocking(local, move |local| {
            let bytes = Bytes::from(fs::read(&path).context("read", &path)?);
            // What is spoilt here must not be durable.
            pack::check(&path, &bytes, bytes.len() as u64, local.log.cipher())?;
            Ok(bytes)
        });
        match checked.await {
            Ok(bytes) => self.bucket.put(&pack_key(name), bytes).await,
            // A later record says that it is needed no longer.
            Err(_) if !lock(&self.named).contains(name) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes what is no longer needed now that the bucket has this record.
    async fn clear_after(&self, local: &Arc<Local>, record: &Record) -> Result<(), Error> {
        match &record.change {
            Change::Collect { removed, .. } => {
                for name in removed {
                    self.bucket.delete(&pack_key(name)).await?;
                }
                let removed = removed.clone();
                blocking(local, move |local| {
                    local.remove_packs(&removed);
                    Ok(())
                })
                .await?;
            }
            Change::Summary { .. } => {
                let sequence = record.sequence;
                blocking(local, move |local| local.log.remove_before(sequence)).await?;
                for old in self.sequences().await? {
                    if old < record.sequence {
                        self.bucket.delete(&record_key(old)).await?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Removes packs that crashes have left in the bucket and on this machine.
    async fn sweep(&self, local: &Arc<Local>, next: u64) -> Result<(), Error> {
        let there = self.bucket.list("packs").await?;
        // Only after the list: as nobody has taken over by now, all of it is ours.
        self.check_ours(next).await?;
        let named = lock(&self.named).clone();
        let wanted: BTreeSet<String> = named.iter().map(|name| source_name(name)).collect();
        for name in there.iter().filter(|name| !wanted.contains(*name)) {
            self.bucket.delete(&format!("packs/{name}")).await?;
        }
        let garbage = std::mem::take(&mut *lock(&self.garbage));
        tracing::debug!(here = garbage.len(), "swept");
        blocking(local, move |local| {
            local.remove_packs(&garbage);
            Ok(())
        })
        .await
    }

    /// Fails if somebody else has added a record.
    async fn check_ours(&self, next: u64) -> Result<(), Error> {
        let Some(last) = self.sequences().await?.last().copied() else {
            return Ok(());
        };
        if last < next {
            return Ok(());
        }
        let there = self.bucket.get(&record_key(last)).await?;
        Err(self.fence(last, &there.unwrap_or_default()))
    }

    /// Shows that we live, and sees whether somebody else has come. `other` is the lease of
    /// somebody else that was there the last time.
    async fn renew(
        &self,
        local: &Arc<Local>,
        next: u64,
        beat: u64,
        other: &mut Option<Lease>,
    ) -> Result<(), Error> {
        let there = Lease::read(&self.bucket).await?;
        let there = there.filter(|lease| lease.run != local.log.run());
        if there.is_some() {
            self.check_ours(next).await?;
        }
        let there = there.filter(|lease| lease.owner != local.identity.id);
        // One that changes is of somebody who lives. It stays: the log will tell which of us is
        // out, and over ours the other one could not give it up when it stops.
        let lives = there.is_some() && there != *other;
        *other = there;
        if lives {
            return Ok(());
        }
        self.show_life(local, beat).await
    }
}

/// The records from `next` on; none if there is none.
fn pending(local: &Local, next: u64) -> Result<Option<Vec<Pending>>, Error> {
    let mut pending = Vec::new();
    let mut sequence = next;
    while let Some(bytes) = local.log.bytes(sequence)? {
        let record = local.log.decode(Path::new(&record_key(sequence)), &bytes)?;
        let size = |name: &String| {
            let path = local.packs.join(source_name(name));
            fs::metadata(path).map_or(0, |meta| meta.len())
        };
        pending.push(Pending {
            sequence,
            size: packs_of(&record).iter().map(size).sum(),
            record,
            bytes: bytes.into(),
        });
        sequence += 1;
    }
    Ok((!pending.is_empty()).then_some(pending))
}

/// The packs that must be in the bucket before this record is.
fn packs_of(record: &Record) -> Vec<String> {
    match &record.change {
        Change::Checkpoint { packs, .. } => packs.clone(),
        Change::Collect { added, .. } => added.clone(),
        Change::Summary { catalog } => catalog.packs.iter().cloned().collect(),
        Change::Restore { .. } | Change::Delete { .. } | Change::Takeover { .. } => Vec::new(),
    }
}
