//! One operation: what was asked for, what its steps have found out, and what is told of
//! it in the end.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::super::driver::{Cancel, Draft, Error, Restoration};
use super::super::manifest::Manifest;
use super::super::order::{Line, Order, Request};

/// How many things that could not be captured are named one by one. The lines of an
/// operation must fit into its channel.
const SKIPPED: usize = 100;

/// One operation from its order to its result.
#[derive(Debug)]
pub struct Job {
    pub(super) order: Order,
    pub(super) cancel: Cancel,
    found: Mutex<Found>,
}

/// What the steps of an operation have found out.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) draft: Option<Draft>,
    pub(super) restoration: Option<Restoration>,
    pub(super) manifest: Option<Manifest>,
    pub(super) durable: bool,
    pub(super) error: Option<String>,
    /// Whether a restore is being undone, and is not yet.
    pub(super) is_half_done: bool,
    /// When everything began to be held, and how long it was.
    pub(super) held_since: Option<Instant>,
    pub(super) pause: Duration,
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

    /// Whether a restore has failed and is not undone.
    #[must_use]
    pub fn is_half_done(&self) -> bool {
        self.found().is_half_done
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
            (Request::Checkpoint { .. }, Some(manifest), _)
                if found
                    .draft
                    .as_ref()
                    .is_some_and(|draft| draft.id != manifest.id) =>
            {
                progress.info(format!("Nothing has changed since {}", manifest.id));
            }
            (Request::Checkpoint { .. }, Some(manifest), _) => {
                for skipped in manifest.skipped.iter().take(SKIPPED) {
                    progress.warning(format!("Not captured: {skipped}"));
                }
                if let Some(more @ 1..) = manifest.skipped.len().checked_sub(SKIPPED) {
                    progress.warning(format!(
                        "Not captured: {more} more; GET /checkpoints/{} names them",
                        manifest.id
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
                    incomplete: manifest.is_incomplete(),
                });
            }
            (_, _, Some(restoration)) => {
                progress.info("Container components started successfully");
                progress.send(Line::Complete {
                    text: format!("Restore from {} complete", restoration.id),
                    id: restoration.id.clone(),
                    incomplete: false,
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

    /// What its steps have found out so far.
    pub(super) fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The checkpoint in the making.
    pub(super) fn draft(&self) -> Result<Draft, Error> {
        let draft = self.found().draft.clone();
        draft.ok_or_else(|| Error::Unusable("no checkpoint is under way".to_owned()))
    }
}
