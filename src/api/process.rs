//! `POST /process/{start,stop,restart,signal}`: the main process.

use axum::Json;
use axum::extract::State;
use machines::system;
use serde_json::{Value, json};

use super::Shared;
use super::body::RawBody;
use super::problem::Problem;
use super::settle::{self, Verb, Wait};
use crate::supervise::{Status, Who};

/// Starts, stops or restarts the main process; everything else goes on.
pub async fn control(shared: Shared, wait: Wait, verb: Verb) -> Result<Json<Value>, Problem> {
    let (event, doing) = match verb {
        Verb::Start => (system::Event::StartProcess, "started"),
        Verb::Stop => (system::Event::StopProcess, "stopped"),
        Verb::Restart => (system::Event::RestartProcess, "restarted"),
    };
    let patience = wait.patience()?;
    let before = shared.handle.status().borrow().process.starts;
    shared.handle.request(event, None).await?;
    let Some(patience) = patience else {
        let message = format!("The main process is being {doing}");
        return Ok(Json(json!({"status": "accepted", "message": message})));
    };
    let outcome = |status: &Status| {
        let part = &status.process;
        match verb {
            Verb::Start if part.state == "Up > Running" => Some(Ok(())),
            Verb::Stop => status.state.ends_with("Parked").then_some(Ok(())),
            Verb::Start | Verb::Restart => part.outcome_since(before),
        }
    };
    settle::wait(&shared, patience, "the main process", outcome).await?;
    let part = shared.handle.status().borrow().process.clone();
    Ok(Json(json!({"status": "done", "process": part})))
}

/// Sends a signal to the main process's group.
pub async fn signal(State(shared): State<Shared>, body: RawBody) -> Result<Json<Value>, Problem> {
    let pid = shared.handle.status().borrow().process.pid;
    settle::signal(&shared, Who::Process, "the main process", pid, &body).await
}
