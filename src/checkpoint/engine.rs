//! Does each piece of work that the operation's chart asks for.

mod job;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use machines::operation::{Effect, Event};

pub use self::job::Job;
use super::driver::{Driver, Error, Interrupted};
use super::hooks::{Hook, Hooks};
use super::order::Request;
use super::replication::Replication;

/// How often it is told how far a step is.
const MEASURED: Duration = Duration::from_millis(100);

/// What a step is called that may take long; none for all others.
const fn phase(effect: Effect) -> Option<&'static str> {
    Some(match effect {
        Effect::PreCopy => "pre_copy",
        Effect::Capture => "capture",
        Effect::Seal => "seal",
        Effect::Replicate => "replicate",
        Effect::Fetch => "fetch",
        Effect::Save => "save",
        Effect::Swap => "swap",
        Effect::Verify => "verify",
        Effect::RollBack => "roll_back",
        _ => return None,
    })
}

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
    mount: Option<PathBuf>,
}

impl Engine {
    /// With a `freezer`, everything is held while the instant is taken. With `mount`, the newest
    /// checkpoints are shown there once they are open.
    #[must_use]
    pub fn new(
        driver: Arc<dyn Driver>,
        hooks: Hooks,
        freezer: Option<Arc<dyn Freezer>>,
        mount: Option<PathBuf>,
    ) -> Self {
        Self {
            driver,
            hooks,
            freezer,
            mount,
        }
    }

    /// Makes ready for use, before anything else; what a crash has cut off.
    pub async fn open(&self) -> Result<Option<Interrupted>, Error> {
        let (driver, mount) = (Arc::clone(&self.driver), self.mount.clone());
        let opening = tokio::task::spawn_blocking(move || {
            let interrupted = driver.open()?;
            // Nobody's environment depends on it.
            if let Some(at) = mount
                && let Err(error) = Arc::clone(&driver).mount(&at)
            {
                tracing::warn!("the checkpoints are not mounted: {error}");
            }
            Ok(interrupted)
        });
        opening.await.unwrap_or_else(|panic| Err(failed(&panic)))
    }

    /// Does what `effect` asks for; returns the event that tells of it.
    pub async fn perform(&self, effect: Effect, job: Arc<Job>) -> Event {
        let begun = Instant::now();
        let done = self.measured(effect, &job, self.attempt(effect, &job));
        match done.await {
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

    /// Tells how far `work` is while it is done, if somebody wants to know.
    async fn measured<T>(&self, effect: Effect, job: &Job, work: impl Future<Output = T>) -> T {
        let (progress, meter) = (&job.order.progress, self.driver.meter());
        meter.want(progress.is_measured());
        let Some(phase) = phase(effect).filter(|_| progress.is_measured()) else {
            return work.await;
        };
        meter.begin(None, None);
        let mut ticks = tokio::time::interval(MEASURED);
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => {
                    progress.measure(phase, meter.read());
                    return done;
                }
                _ = ticks.tick() => progress.measure(phase, meter.read()),
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
                self.tidy();
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
                self.tidy();
                Event::Verified
            }
            Effect::RollBack => {
                progress.warning("The restore failed; the environment is put back as it was");
                job.found().is_half_done = true;
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
                job.found().is_half_done = false;
                self.tidy();
                Event::RolledBack
            }
            Effect::Discard => {
                self.blocking(job, |driver, _| driver.discard()).await?;
                self.tidy();
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
        let Request::Checkpoint {
            comment, automatic, ..
        } = job.order.request.clone()
        else {
            return Err(Error::Unusable("no checkpoint was asked for".to_owned()));
        };
        let begun = self.blocking(job, move |driver, _| driver.begin(comment, automatic));
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
        let meter = self.driver.meter();
        let arrived = |report: &Replication| {
            meter.left(report.bytes_left);
            report.has(sequence) || report.is_fenced()
        };
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

    /// Removes automatic checkpoints whose time is over, and what else is to be done once there is
    /// another, or what was put off for an operation that came to nothing. Nobody waits for it.
    fn tidy(&self) {
        let driver = Arc::clone(&self.driver);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = driver.tidy() {
                tracing::warn!("cannot remove old automatic checkpoints: {error}");
            }
        });
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
            .unwrap_or_else(|panic| Err(failed(&panic)))
    }
}

fn failed(panic: &tokio::task::JoinError) -> Error {
    Error::Unusable(format!("the work failed: {panic}"))
}
