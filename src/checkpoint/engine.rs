//! Does each piece of work that the operation's chart asks for.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use machines::operation::{Effect, Event};

use super::driver::{Cancel, Draft, Driver, Error, Restoration};
use super::hooks::{Hook, Hooks};
use super::manifest::Manifest;
use super::order::{Line, Order, Request};
use super::replication::Replication;

/// How many things that could not be captured are named one by one. The lines of an
/// operation must fit into its channel.
const SKIPPED: usize = 100;

/// Holds everything that could write, and lets it go.
pub trait Freezer: Send + Sync + std::fmt::Debug {
    /// Holds it; gives up when `keep_on` says no. May block.
    fn freeze(&self, keep_on: &dyn Fn() -> bool) -> io::Result<()>;
    /// The process ids of what is held.
    fn held(&self) -> Vec<i32>;
    /// Lets everything go that was held. May block, and cannot fail.
    fn thaw(&self);
}

/// Does the work.
#[derive(Clone, Debug)]
pub struct Engine {
    driver: Arc<dyn Driver>,
    hooks: Hooks,
    freezer: Option<Arc<dyn Freezer>>,
}

/// One operation from its order to its result.
#[derive(Debug)]
pub struct Job {
    order: Order,
    cancel: Cancel,
    found: Mutex<Found>,
}

/// What the steps of an operation have found out.
#[derive(Debug, Default)]
struct Found {
    draft: Option<Draft>,
    restoration: Option<Restoration>,
    manifest: Option<Manifest>,
    durable: bool,
    error: Option<String>,
    /// When everything began to be held, and how long it was.
    held_since: Option<Instant>,
    pause: Duration,
}

impl Job {
    /// Begins `order`.
    #[must_use]
    pub fn new(order: Order) -> Self {
        Self {
            order,
            cancel: Cancel::default(),
            found: Mutex::default(),
        }
    }

    /// Whether a checkpoint is taken, not restored.
    #[must_use]
    pub const fn is_checkpoint(&self) -> bool {
        matches!(self.order.request, Request::Checkpoint { .. })
    }

    /// Tells the work under way to end soon.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Notes why it fails. The first reason counts.
    pub fn fail(&self, why: impl Into<String>) {
        self.found().error.get_or_insert_with(|| why.into());
    }

    /// Why it failed, if it did.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        self.found().error.clone()
    }

    /// Sends the last lines of a success.
    pub fn complete(&self) {
        let progress = &self.order.progress;
        let found = self.found();
        match (&self.order.request, &found.manifest, &found.restoration) {
            (
                Request::Checkpoint {
                    until_durable: true,
                    ..
                },
                Some(manifest),
                _,
            ) if !found.durable => {
                let why = found.error.as_deref().unwrap_or("the system stops");
                progress.send(Line::Error(format!(
                    "Checkpoint {} is sealed, but not durable: {why}",
                    manifest.id
                )));
            }
            (Request::Checkpoint { .. }, Some(manifest), _) => {
                for skipped in manifest.skipped.iter().take(SKIPPED) {
                    progress.warning(format!("Not captured: {skipped}"));
                }
                if let Some(more @ 1..) = manifest.skipped.len().checked_sub(SKIPPED) {
                    progress.warning(format!(
                        "Not captured: {more} more; the manifest names them"
                    ));
                }
                let time = manifest.create_time.replace('T', " ");
                let time = time.split('.').next().unwrap_or_default();
                progress.info("Checkpoint created successfully");
                progress.info("\nCheckpoint Details:");
                progress.info(format!("  ID: {}", manifest.id));
                progress.info(format!("  Created: {time}"));
                progress.info(format!("  Path: checkpoints/{}", manifest.id));
                let pause = found.pause.as_secs_f64() * 1e3;
                progress.info(format!("  Pause: {pause:.1} ms"));
                let (files, bytes) = (manifest.entries, manifest.bytes);
                progress.info(format!("  Content: {files} entries, {bytes} bytes"));
                let durability = if found.durable { "durable" } else { "sealed" };
                progress.info(format!("  Durability: {durability}"));
                progress.info("\nTo restore from this checkpoint:");
                progress.info(format!("  POST /checkpoints/{}/restore", manifest.id));
                progress.send(Line::Complete {
                    text: format!("Checkpoint {} created successfully", manifest.id),
                    id: manifest.id.clone(),
                });
            }
            (_, _, Some(restoration)) => {
                progress.info("Container components started successfully");
                progress.send(Line::Complete {
                    text: format!("Restore from {} complete", restoration.id),
                    id: restoration.id.clone(),
                });
            }
            _ => progress.send(Line::Error("the operation left no result".to_owned())),
        }
    }

    /// Sends the last line of a failure; `what` says what it means.
    pub fn give_up(&self, what: &str) {
        let why = self
            .error()
            .map_or_else(String::new, |why| format!(": {why}"));
        self.order
            .progress
            .send(Line::Error(format!("{what}{why}")));
    }

    fn found(&self) -> std::sync::MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draft(&self) -> Result<Draft, Error> {
        let draft = self.found().draft.clone();
        draft.ok_or_else(|| Error::Unusable("no checkpoint is under way".to_owned()))
    }
}

impl Engine {
    /// With a `freezer`, everything is held while the instant is taken.
    #[must_use]
    pub fn new(driver: Arc<dyn Driver>, hooks: Hooks, freezer: Option<Arc<dyn Freezer>>) -> Self {
        Self {
            driver,
            hooks,
            freezer,
        }
    }

    /// Does what `effect` asks for; returns the event that tells of it.
    pub async fn perform(&self, effect: Effect, job: Arc<Job>) -> Event {
        let begun = Instant::now();
        match self.attempt(effect, &job).await {
            Ok(event) => {
                tracing::debug!(?effect, elapsed = ?begun.elapsed(), "done");
                event
            }
            Err(error) => {
                tracing::debug!(?effect, %error, "a step of the operation failed");
                job.fail(error.to_string());
                // A thaw cannot fail; anything else may.
                Event::Failed
            }
        }
    }

    #[allow(
        clippy::too_many_lines,
        reason = "one line or two for each piece of work"
    )]
    async fn attempt(&self, effect: Effect, job: &Arc<Job>) -> Result<Event, Error> {
        let progress = &job.order.progress;
        Ok(match effect {
            Effect::Announce => {
                self.announce(job).await?;
                Event::Announced
            }
            Effect::PreCopy => {
                self.blocking(job, |driver, job| driver.pre_copy(&job.cancel))
                    .await?;
                Event::PreCopied
            }
            Effect::Freeze => {
                job.found().held_since = Some(Instant::now());
                self.freeze(job).await?;
                Event::Frozen
            }
            Effect::Capture => {
                let held = self.freezer.as_ref().map(|freezer| freezer.held());
                self.blocking(job, move |driver, job| {
                    driver.capture(held.as_deref(), &job.cancel)
                })
                .await?;
                Event::Captured
            }
            Effect::Thaw => {
                self.thaw().await;
                let mut found = job.found();
                found.pause = found
                    .held_since
                    .map_or(Duration::ZERO, |since| since.elapsed());
                Event::Thawed
            }
            Effect::Seal => {
                let manifest = self.blocking(job, |driver, _| driver.seal()).await?;
                job.found().manifest = Some(manifest);
                Event::Sealed
            }
            Effect::Replicate => {
                self.replicate(job).await?;
                Event::Replicated
            }
            Effect::Resolve => {
                self.resolve(job).await?;
                Event::Resolved
            }
            Effect::Fetch => {
                let Request::Restore { id } = job.order.request.clone() else {
                    return Err(Error::Unusable("nothing to restore was named".to_owned()));
                };
                let fetched = self.blocking(job, move |driver, job| driver.fetch(&id, &job.cancel));
                job.found().restoration = Some(fetched.await?);
                Event::Fetched
            }
            Effect::Save => {
                let restoration = job.found().restoration.clone();
                if let Some(r) = restoration {
                    let hook = Hook::Checkpoint;
                    self.hooks
                        .run(hook, &r.auto_id, &r.saved_dir, progress, &job.cancel)
                        .await?;
                }
                Event::Saved
            }
            Effect::Swap => {
                let r = self.blocking(job, |driver, _| driver.swap()).await?;
                job.found().restoration = Some(r.clone());
                self.hooks
                    .run(
                        Hook::Restore,
                        &r.id,
                        &r.components_dir,
                        progress,
                        &job.cancel,
                    )
                    .await?;
                Event::Swapped
            }
            Effect::Verify => {
                self.blocking(job, |driver, _| driver.verify()).await?;
                // Nobody waits for it.
                let driver = Arc::clone(&self.driver);
                tokio::task::spawn_blocking(move || {
                    if let Err(error) = driver.tidy() {
                        tracing::warn!("cannot remove old automatic checkpoints: {error}");
                    }
                });
                Event::Verified
            }
            Effect::RollBack => {
                progress.warning("The restore failed; the environment is put back as it was");
                let r = self.blocking(job, |driver, _| driver.roll_back()).await?;
                self.hooks
                    .run(
                        Hook::Restore,
                        &r.auto_id,
                        &r.saved_dir,
                        progress,
                        &job.cancel,
                    )
                    .await?;
                self.blocking(job, |driver, _| driver.rolled_back()).await?;
                Event::RolledBack
            }
            Effect::Discard => {
                self.blocking(job, |driver, _| driver.discard()).await?;
                Event::Discarded
            }
            Effect::Cancel
            | Effect::Hurry
            | Effect::SetTimer(_)
            | Effect::ClearTimer
            | Effect::ReportPrepared
            | Effect::ReportRollingBack
            | Effect::ReportRolledBack
            | Effect::ReportDone
            | Effect::ReportFailed => {
                return Err(Error::Unusable(format!("{effect:?} is no work")));
            }
        })
    }

    async fn announce(&self, job: &Arc<Job>) -> Result<(), Error> {
        let progress = &job.order.progress;
        progress.info("Creating checkpoint...");
        let Request::Checkpoint { comment, .. } = job.order.request.clone() else {
            return Err(Error::Unusable("no checkpoint was asked for".to_owned()));
        };
        let begun = self.blocking(job, move |driver, _| driver.begin(comment));
        job.found().draft = Some(begun.await?);
        let draft = job.draft()?;
        let hook = Hook::Checkpoint;
        self.hooks
            .run(
                hook,
                &draft.id,
                &draft.components_dir,
                progress,
                &job.cancel,
            )
            .await
    }

    /// Waits until the checkpoint is in the bucket, if that is wanted.
    async fn replicate(&self, job: &Arc<Job>) -> Result<(), Error> {
        let until_durable = matches!(
            job.order.request,
            Request::Checkpoint {
                until_durable: true,
                ..
            }
        );
        let Some(mut report) = self.driver.replication().filter(|_| until_durable) else {
            return Ok(());
        };
        let sealed = job.found().manifest.clone();
        let sequence = sealed.map_or(0, |manifest| manifest.sequence);
        job.order
            .progress
            .info("The checkpoint is sealed; waiting until it is durable");
        let arrived = |report: &Replication| report.has(sequence) || report.is_fenced();
        tokio::select! {
            found = report.wait_for(arrived) => {
                let lost = || Error::Unusable("the replicator has ended".to_owned());
                let found = found.map_err(|_| lost())?;
                if found.has(sequence) {
                    job.found().durable = true;
                    return Ok(());
                }
                Err(Error::Fenced(found.error.clone().unwrap_or_default()))
            }
            () = job.cancel.cancelled() => job.cancel.check(),
        }
    }

    async fn resolve(&self, job: &Arc<Job>) -> Result<(), Error> {
        let Request::Restore { id } = job.order.request.clone() else {
            return Err(Error::Unusable("nothing to restore was named".to_owned()));
        };
        job.order
            .progress
            .info(format!("Restoring from checkpoint {id}..."));
        self.blocking(job, move |driver, _| driver.find(&id))
            .await?;
        Ok(())
    }

    async fn freeze(&self, job: &Arc<Job>) -> Result<(), Error> {
        let Some(freezer) = self.freezer.clone() else {
            return Ok(());
        };
        let held = self.blocking(job, move |_, job| {
            let keep_on = || !job.cancel.is_cancelled();
            freezer.freeze(&keep_on).map_err(|source| {
                Error::Unusable(format!("cannot hold the running processes: {source}"))
            })
        });
        held.await
    }

    async fn thaw(&self) {
        if let Some(freezer) = self.freezer.clone() {
            let _ = tokio::task::spawn_blocking(move || freezer.thaw()).await;
        }
    }

    /// Runs `work` where blocking is allowed. A panic in it is an error like any other.
    async fn blocking<T: Send + 'static>(
        &self,
        job: &Arc<Job>,
        work: impl FnOnce(&dyn Driver, &Job) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (driver, job) = (Arc::clone(&self.driver), Arc::clone(job));
        tokio::task::spawn_blocking(move || work(&*driver, &job))
            .await
            .unwrap_or_else(|panic| Err(Error::Unusable(format!("the work failed: {panic}"))))
    }
}
