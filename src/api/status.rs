//! `GET /status`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::Shared;
use super::checkpoints::{metadata_replication, replication};
use crate::checkpoint::juicefs::MetadataReplication;
use crate::checkpoint::{Manifest, Replication};
use crate::supervise::Status;

/// The answer.
#[derive(Debug, Serialize)]
pub struct Body {
    #[serde(flatten)]
    status: Status,
    /// How many commands run.
    sessions: usize,
    /// How checkpoints are kept, if they are on.
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint_driver: Option<&'static str>,
    /// How their instant is taken: `precopy`, `reflink`, `btrfs` or `clone`.
    #[serde(skip_serializing_if = "Option::is_none")]
    capture_source: Option<&'static str>,
    /// How far the copy of the checkpoints in a bucket is, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    replication: Option<Replication>,
    /// How far the copy of a JuiceFS volume's metadata there is, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata_replication: Option<MetadataReplication>,
    /// What should be otherwise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    version: &'static str,
}

/// So many entries are too many for JuiceFS: what concerns all of them takes seconds.
const MANY_ENTRIES: u64 = 5_000;

/// Everything about the machines and their children.
pub async fn get(State(shared): State<Shared>) -> Json<Body> {
    let warnings = warnings(&shared).await;
    Json(Body {
        warnings,
        status: shared.handle.status().borrow().clone(),
        sessions: shared.runner.sessions().count(),
        checkpoint_driver: shared.driver.as_ref().map(|driver| driver.name()),
        capture_source: shared.driver.as_ref().and_then(|it| it.capture_source()),
        replication: replication(&shared),
        metadata_replication: metadata_replication(&shared),
        version: env!("CARGO_PKG_VERSION"),
    })
}

async fn warnings(shared: &Shared) -> Vec<String> {
    let config = Arc::clone(&shared.reloader.live().borrow());
    let volume = config.storage.as_ref().and_then(|it| it.juicefs.as_ref());
    let is_tree = volume.is_some_and(|volume| volume.image.is_none());
    let Some(driver) = shared.driver.clone().filter(|_| is_tree) else {
        return Vec::new();
    };
    let newest = move || driver.list(true).ok()?.into_iter().next();
    let newest = tokio::task::spawn_blocking(newest).await;
    let newest = newest.ok().flatten();
    let many = newest.filter(|newest| newest.entries > MANY_ENTRIES);
    let sentence = |newest: Manifest| {
        format!(
            "the environment has {} entries (checkpoint {}), and JuiceFS has every one of them in \
             its metadata: above {MANY_ENTRIES}, give a new volume \"juicefs\": {{\"layout\": \
             \"image\"}}",
            newest.entries, newest.id
        )
    };
    many.map(sentence).into_iter().collect()
}
