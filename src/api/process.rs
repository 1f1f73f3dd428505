//! `POST /process/{start,stop,restart,signal}`: the main process.

use axum::Json;
use axum::extract::{Query, State};
use machines::system;
use serde_json::{Value, json};

use super::Shared;
use super::body::RawBody;
use super::problem::Problem;
use super::settle::{self, Wait, Wanted};
use crate::supervise::Who;

/// Starts the main process, after it was stopped or left parked.
pub async fn start(
    State(shared): State<Shared>,
    Query(wait): Query<Wait>,
) -> Result<Json<Value>, Problem> {
    let message = "The main process is being started";
    request(
        &shared,
        system::Event::StartProcess,
        Wanted::Up,
        &wait,
        message,
    )
    .await
}

/// Stops the main process; everything else goes on.
pub async fn stop(
    State(shared): State<Shared>,
    Query(wait): Query<Wait>,
) -> Result<Json<Value>, Problem> {
    let message = "The main process is being stopped";
    request(
        &shared,
        system::Event::StopProcess,
        Wanted::Down,
        &wait,
        message,
    )
    .await
}

/// Stops the main process and starts it again.
pub async fn restart(
    State(shared): State<Shared>,
    Query(wait): Query<Wait>,
) -> Result<Json<Value>, Problem> {
    let message = "The main process is being restarted";
    request(
        &shared,
        system::Event::RestartProcess,
        Wanted::Anew,
        &wait,
        message,
    )
    .await
}

/// Sends a signal to the main process's group.
pub async fn signal(State(shared): State<Shared>, body: RawBody) -> Result<Json<Value>, Problem> {
    let pid = shared.handle.status().borrow().process.pid;
    settle::signal(&shared, Who::Process, "the main process", pid, &body).await
}

async fn request(
    shared: &Shared,
    event: system::Event,
    wanted: Wanted,
    wait: &Wait,
    message: &str,
) -> Result<Json<Value>, Problem> {
    let patience = wait.patience()?;
    let before = shared.handle.status().borrow().process.starts;
    shared.handle.request(event, None).await?;
    let Some(patience) = patience else {
        return Ok(Json(json!({"status": "accepted", "message": message})));
    };
    let outcome = |status: &crate::supervise::Status| {
        let part = &status.process;
        let is_up = part.state == "Up > Running";
        match wanted {
            Wanted::Up if is_up => Some(Ok(())),
            Wanted::Anew if is_up && part.starts > before => Some(Ok(())),
            Wanted::Down if status.state.ends_with("Parked") => Some(Ok(())),
            Wanted::Up | Wanted::Anew if part.starts > before && part.state.starts_with("Down") => {
                Some(Err(()))
            }
            _ => None,
        }
    };
    settle::wait(shared, patience, "the main process", outcome).await?;
    let part = shared.handle.status().borrow().process.clone();
    Ok(Json(json!({"status": "done", "process": part})))
}
