//! The bucket: a copy of the store that survives the loss of the machine.
//!
//! The bucket has the same layout as the store's directory, and its log is the same log:
//! the replicator puts each record there under its number, after the packs that it names,
//! and only if nobody else has put one there. Whoever finds another's record is fenced.

pub mod bucket;
mod connect;
pub mod identity;
mod join;
pub mod lease;
mod replicator;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use self::bucket::Bucket;
use self::identity::Identity;
use self::lease::Lease;
use super::super::driver::Error;
use super::super::replication::Replication;
use super::log::{self, Log};
use super::objects::{Source, remove_files, source_name};
use super::{directories, lock, pack};
use crate::config;

/// So many bytes at the end of a pack have the whole index of most.
const INDEX: u64 = 64 << 10;
/// The object that says how the others are to be understood.
const FORMAT: &str = "format.json";
/// How long a start waits for a bucket that it could do without.
const PATIENCE: Duration = Duration::from_secs(10);

/// The bucket, and how far it is.
#[derive(Debug)]
pub struct Remote {
    bucket: Bucket,
    mode: config::Lease,
    ttl: Duration,
    /// How long a stop waits for it.
    timeout: Duration,
    runtime: Handle,
    report: watch::Sender<Replication>,
    wake: Notify,
    /// The packs that the log names.
    named: Mutex<BTreeSet<String>>,
    /// Packs on this machine that no record names.
    garbage: Mutex<Vec<String>>,
    local: OnceLock<Arc<Local>>,
    /// The record that comes next, once somebody has found out.
    connected: Mutex<Option<u64>>,
}

/// What the bucket is a copy of.
#[derive(Debug)]
struct Local {
    /// Where `identity` is kept.
    file: PathBuf,
    identity: Identity,
    log: Log,
    packs: PathBuf,
}

impl Local {
    /// Notes for the next start that all records before `sent` are in the bucket.
    fn keep(&self, sent: u64) -> Result<(), Error> {
        let identity = Identity {
            id: self.identity.id.clone(),
            joined: true,
            sent,
        };
        identity.write(&self.file)
    }

    /// Removes packs and what is known of them.
    fn remove_packs(&self, names: &[String]) {
        // Garbage is no reason not to go on.
        if let Err(error) = remove_files(&self.packs, names) {
            tracing::warn!("{error}");
        }
    }
}

/// Does what may block where that is allowed. A panic in it is a failure like any other.
async fn blocking<T: Send + 'static>(
    local: &Arc<Local>,
    work: impl FnOnce(&Local) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let local = Arc::clone(local);
    let done = tokio::task::spawn_blocking(move || work(&local)).await;
    done.unwrap_or_else(|panic| Err(Error::Unusable(format!("the work failed: {panic}"))))
}

impl Remote {
    /// As `settings` says. Nothing is sent.
    pub fn new(settings: &config::Bucket, runtime: Handle) -> Result<Self, Error> {
        let bucket = Bucket::new(settings)?;
        let (report, _) = watch::channel(Replication {
            bucket: bucket.shown().to_owned(),
            ..Replication::default()
        });
        Ok(Self {
            bucket,
            mode: settings.lease,
            ttl: settings.lease_ttl,
            timeout: settings.replicate_timeout,
            runtime,
            report,
            wake: Notify::new(),
            named: Mutex::default(),
            garbage: Mutex::default(),
            local: OnceLock::new(),
            connected: Mutex::default(),
        })
    }

    /// Makes ready for the store in `dir` with this log: on an empty disk, fetches the log
    /// and the indexes of all packs. Returns whether it did; then [`Self::set_joined`] is
    /// to be called once all that follows from it is done.
    pub fn open(&self, dir: &Path, log: &Log) -> Result<bool, Error> {
        let file = dir.join(identity::FILE);
        let identity = Identity::open(&file, !log.sequences()?.is_empty())?;
        let is_new = !identity.joined;
        self.report
            .send_modify(|report| report.next = identity.sent);
        let local = Local {
            file,
            identity,
            log: log.clone(),
            packs: dir.join("packs"),
        };
        let _ = self.local.set(Arc::new(local));
        if is_new {
            if self.runtime.block_on(self.join())? {
                let next = log.sequences()?.last().map_or(0, |last| last + 1);
                self.report.send_modify(|report| report.next = next);
                *lock(&self.connected) = Some(next);
                return Ok(true);
            }
            self.set_joined()?;
        }
        let connecting = async { tokio::time::timeout(PATIENCE, self.connect()).await };
        match self.runtime.block_on(connecting) {
            Ok(Ok(next)) => *lock(&self.connected) = Some(next),
            Ok(Err(error @ (Error::Fenced(_) | Error::Unusable(_)))) => return Err(error),
            Ok(Err(error)) => tracing::warn!("{error}; checkpoints stay on this machine meanwhile"),
            Err(_) => tracing::warn!(
                "{} does not answer; checkpoints stay on this machine meanwhile",
                self.bucket.shown()
            ),
        }
        Ok(false)
    }

    /// Notes that this store has what the bucket has.
    pub fn set_joined(&self) -> Result<(), Error> {
        self.local()?.keep(self.report.borrow().next)
    }

    fn local(&self) -> Result<&Arc<Local>, Error> {
        let local = self.local.get();
        local.ok_or_else(|| Error::Unusable("the checkpoint store is not open".to_owned()))
    }

    /// How far it is.
    pub fn watch(&self) -> watch::Receiver<Replication> {
        self.report.subscribe()
    }

    /// Notes packs that a record is about to name.
    pub fn will_name(&self, packs: &[String]) {
        lock(&self.named).extend(packs.iter().cloned());
    }

    /// Notes which packs the log names.
    pub fn name_packs(&self, packs: &BTreeSet<String>) {
        lock(&self.named).clone_from(packs);
    }

    /// Notes which packs on this machine are not in the table. Records that are not in the
    /// bucket yet may name them; after that they can go.
    pub fn leave(&self, garbage: Vec<String>) {
        *lock(&self.garbage) = garbage;
    }

    /// Tells it that there is a new record, and whether that has made a checkpoint.
    pub fn wake(&self, is_checkpoint: bool) {
        let add = |report: &mut Replication| report.checkpoints_left += usize::from(is_checkpoint);
        self.report.send_modify(add);
        self.wake.notify_one();
    }

    /// Why nothing reaches the bucket any more, if somebody has taken over and that
    /// matters.
    pub fn fenced(&self) -> Option<String> {
        let report = self.report.borrow();
        let fenced = report.is_fenced() && self.mode == config::Lease::Required;
        fenced.then(|| report.error.clone().unwrap_or_default())
    }

    /// Waits until all records before `next` are in the bucket, as long as a stop may
    /// take, and gives up the lease.
    pub fn close(&self, next: u64) {
        let arrived = |report: &Replication| report.next >= next || report.is_fenced();
        self.runtime.block_on(async {
            let mut report = self.report.subscribe();
            let _ = tokio::time::timeout(self.timeout, report.wait_for(arrived)).await;
            if let Some(local) = self.local.get() {
                let released = Lease::release(&self.bucket, local.log.run());
                let _ = tokio::time::timeout(Duration::from_secs(2), released).await;
            }
        });
        let report = self.report.borrow().clone();
        if report.next < next {
            tracing::warn!(
                "{} checkpoints with {} bytes are on this machine only, not in {}: {}",
                report.checkpoints_left,
                report.bytes_left,
                report.bucket,
                report.error.as_deref().unwrap_or("there was no time"),
            );
        }
    }
}

impl Source for Remote {
    fn index(&self, name: &str) -> Result<Vec<u8>, Error> {
        self.runtime.block_on(self.read_index(name))
    }

    fn pack(&self, name: &str) -> Result<Bytes, Error> {
        let key = pack_key(name);
        let found = self.runtime.block_on(self.bucket.get(&key))?;
        found.ok_or_else(|| self.missing(&key))
    }
}

impl Remote {
    async fn read_index(&self, name: &str) -> Result<Vec<u8>, Error> {
        let key = pack_key(name);
        let path = Path::new(&key);
        let read = async |length| {
            let found = self.bucket.get_last(&key, length).await?;
            found.ok_or_else(|| self.missing(&key))
        };
        let mut tail = read(INDEX).await?;
        let length = pack::index_length(path, &tail, self.local()?.log.cipher())?;
        if tail.len() < length {
            tail = read(length as u64).await?;
        }
        let start = tail.len().checked_sub(length);
        let index = start.and_then(|start| tail.get(start..));
        Ok(index.unwrap_or_default().to_vec())
    }

    fn missing(&self, key: &str) -> Error {
        Error::Damaged {
            path: PathBuf::from(format!("{}/{key}", self.bucket.shown())),
            why: "is missing in the bucket".to_owned(),
        }
    }

    /// Refuses a bucket that cannot be used, and marks a new one. One that this program does not
    /// understand is left as it is.
    async fn prepare(&self) -> Result<(), Error> {
        let there = self.bucket.get(FORMAT).await?;
        if let Some(there) = &there {
            self.check_format(there)?;
        }
        self.bucket.check_conditional(self.mode).await?;
        if there.is_none() {
            let ours = directories::format(self.local()?.log.cipher())?;
            match self.bucket.put_new(FORMAT, Bytes::from(ours)).await? {
                bucket::Made::New => {}
                bucket::Made::Exists(there) => self.check_format(&there)?,
            }
        }
        Ok(())
    }

    /// Fails if this program does not understand a bucket with this `format.json`.
    fn check_format(&self, there: &[u8]) -> Result<(), Error> {
        let cipher = self.local()?.log.cipher();
        let path = PathBuf::from(format!("{}/{FORMAT}", self.bucket.shown()));
        // It is of no use until somebody has done something about it.
        let found = directories::read_format(&path, there, cipher);
        found.map_err(|error| Error::Unusable(error.to_string()))?;
        Ok(())
    }

    /// The numbers of the records in the bucket, in order.
    async fn sequences(&self) -> Result<Vec<u64>, Error> {
        let names = self.bucket.list("log").await?;
        let mut sequences: Vec<u64> = names.iter().filter_map(|name| log::number(name)).collect();
        sequences.sort_unstable();
        Ok(sequences)
    }

    /// Writes the lease of this run, if there is one.
    async fn show_life(&self, local: &Local, beat: u64) -> Result<(), Error> {
        if self.mode == config::Lease::Off {
            return Ok(());
        }
        let lease = Lease {
            owner: local.identity.id.clone(),
            run: local.log.run().to_owned(),
            beat,
            ttl: self.ttl.as_secs(),
        };
        lease.write(&self.bucket).await
    }

    /// That somebody else has written a record.
    fn fence(&self, sequence: u64, there: &[u8]) -> Error {
        let key = record_key(sequence);
        let record = self.local().ok();
        let record = record.and_then(|local| local.log.decode(Path::new(&key), there).ok());
        let time = record.map_or_else(|| "some time".to_owned(), |record| record.time);
        Error::Fenced(format!(
            "{}/{key} was written by another sprite-env at {time}, which uses the bucket now; this \
             one no longer replicates to it. Stop one of the two; to go on here from what is in \
             the bucket, start with an empty checkpoint.dir; to go on without it, give another \
             s3.prefix, or SPRITE_LOCAL_MODE=true",
            self.bucket.shown()
        ))
    }
}

fn pack_key(name: &str) -> String {
    format!("packs/{}", source_name(name))
}

fn record_key(sequence: u64) -> String {
    format!("log/{}", log::name(sequence))
}

/// Runs the replicator from now on; a panic in it is a failure like any other.
pub fn start(remote: &Arc<Remote>) {
    let remote = Arc::clone(remote);
    let runtime = remote.runtime.clone();
    runtime.spawn(async move {
        loop {
            let run = tokio::spawn(replicator::run(Arc::clone(&remote)));
            match run.await {
                Ok(()) => return,
                Err(panic) => {
                    tracing::error!("the replicator failed: {panic}; it begins again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    });
}
