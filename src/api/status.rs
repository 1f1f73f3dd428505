//! `GET /status`

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::Shared;
use super::checkpoints::{metadata_replication, replication};
use crate::checkpoint::Replication;
use crate::checkpoint::juicefs::MetadataReplication;
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
    /// How their instant is taken: `precopy`, `reflink` or `btrfs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    capture_source: Option<&'static str>,
    /// How far the copy of the checkpoints in a bucket is, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    replication: Option<Replication>,
    /// How far the copy of a JuiceFS volume's metadata there is, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata_replication: Option<MetadataReplication>,
    version: &'static str,
}

/// Everything about the machines and their children.
pub async fn get(State(shared): State<Shared>) -> Json<Body> {
    Json(Body {
        status: shared.handle.status().borrow().clone(),
        sessions: shared.runner.sessions().count(),
        checkpoint_driver: shared.driver.as_ref().map(|driver| driver.name()),
        capture_source: shared.driver.as_ref().and_then(|it| it.capture_source()),
        replication: replication(&shared),
        metadata_replication: metadata_replication(&shared),
        version: env!("CARGO_PKG_VERSION"),
    })
}
