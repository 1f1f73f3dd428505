//! `POST /config/reload`: the configuration is read again.

use std::time::Instant;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use super::problem::Problem;
use super::settle::{self, Wait};
use crate::supervise::Status;
use crate::supervise::reload::Reloaded;
use crate::supervise::status::Part;

/// How it is to be done. What is not known is refused: a misspelt `dry_run` must not be none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    dry_run: Option<String>,
    wait: Option<String>,
}

/// Reloads, or tells what a reload would do.
pub async fn reload(
    State(shared): State<Shared>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(wanted) = wanted.map_err(|error| Problem::bad_request(error.body_text()))?;
    let patience = Wait { wait: wanted.wait }.patience()?;
    let is_dry = match wanted.dry_run.as_deref() {
        None | Some("0" | "false") => false,
        Some("1" | "true") => true,
        Some(other) => {
            let why = format!("dry_run: \"{other}\" is neither 1 nor 0");
            return Err(Problem::bad_request(why));
        }
    };
    if is_dry {
        let changes = shared.reloader.plan().await?;
        return Ok(Json(json!({"status": "planned", "changes": changes})));
    }
    let begun = Instant::now();
    // It goes on whether or not anybody waits for it.
    let reloading = shared.reloader.reload();
    let Some(patience) = patience else {
        let changes = reloading.await?.changes;
        return Ok(Json(json!({"status": "accepted", "changes": changes})));
    };
    let reloaded = tokio::time::timeout(patience, reloading).await;
    let reloaded = reloaded.map_err(|_| settle::late("the reload goes on", patience))??;
    let outcome = |status: &Status| outcome(&reloaded, status);
    let left = patience.saturating_sub(begun.elapsed());
    settle::wait(&shared, left, "what has changed", outcome).await?;
    let changes = reloaded.changes;
    Ok(Json(json!({"status": "done", "changes": changes})))
}

/// Whether all that was started is up, or one of it failed.
fn outcome(reloaded: &Reloaded, status: &Status) -> Option<Result<(), ()>> {
    let started = reloaded.started.iter();
    let mut parts = started.filter_map(|name| status.components.get(name));
    let process = match reloaded.process {
        None => Some(Ok(())),
        Some(before) => status.process.outcome_since(before),
    };
    if process == Some(Err(())) || parts.clone().any(|part| part.state == "Failed") {
        return Some(Err(()));
    }
    (process.is_some() && parts.all(Part::is_up)).then_some(Ok(()))
}
