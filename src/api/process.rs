//! `POST /process/start`: the main process again, after it was left parked.

use axum::Json;
use axum::extract::State;
use machines::system;
use serde_json::{Value, json};

use super::Shared;
use super::problem::Problem;

/// Starts the main process.
pub async fn start(State(shared): State<Shared>) -> Result<Json<Value>, Problem> {
    shared
        .handle
        .request(system::Event::StartProcess, None)
        .await?;
    Ok(Json(
        json!({"status": "accepted", "message": "The main process is being started"}),
    ))
}
