//! `GET /components`, `POST /components/{name}/{start,stop,restart,signal}`.

use std::collections::{BTreeMap, HashMap};

use axum::Json;
use axum::extract::{Path, Query, State};
use machines::system;
use serde_json::{Value, json};

use super::Shared;
use super::body::RawBody;
use super::problem::Problem;
use super::settle::{self, Wait, Wanted};
use crate::supervise::Who;
use crate::supervise::status::Part;

/// The parameters of a path. Below `/v1/sprites/{name}` there are two.
type Parameters = Path<HashMap<String, String>>;

/// All of them.
pub async fn list(State(shared): State<Shared>) -> Json<BTreeMap<String, Part>> {
    Json(shared.handle.status().borrow().components.clone())
}

/// One of them.
pub async fn get(
    State(shared): State<Shared>,
    Path(parameters): Parameters,
) -> Result<Json<Part>, Problem> {
    let (_, _, part) = find(&shared, &parameters)?;
    Ok(Json(part))
}

/// Starts one that is down.
pub async fn start(
    State(shared): State<Shared>,
    Path(parameters): Parameters,
    Query(wait): Query<Wait>,
) -> Result<Json<Value>, Problem> {
    request(
        &shared,
        &parameters,
        system::Event::StartComponent,
        Wanted::Up,
        &wait,
    )
    .await
}

/// Stops one; everything else goes on.
pub async fn stop(
    State(shared): State<Shared>,
    Path(parameters): Parameters,
    Query(wait): Query<Wait>,
) -> Result<Json<Value>, Problem> {
    request(
        &shared,
        &parameters,
        system::Event::StopComponent,
        Wanted::Down,
        &wait,
    )
    .await
}

/// Stops one and starts it again; one that has a schedule runs at once.
pub async fn restart(
    State(shared): State<Shared>,
    Path(parameters): Parameters,
    Query(wait): Query<Wait>,
) -> Result<Json<Value>, Problem> {
    request(
        &shared,
        &parameters,
        system::Event::RestartComponent,
        Wanted::Anew,
        &wait,
    )
    .await
}

/// Sends a signal to its process group.
pub async fn signal(
    State(shared): State<Shared>,
    Path(parameters): Parameters,
    body: RawBody,
) -> Result<Json<Value>, Problem> {
    let (id, name, part) = find(&shared, &parameters)?;
    let what = format!("the component \"{name}\"");
    settle::signal(&shared, Who::Component(id), &what, part.pid, &body).await
}

async fn request(
    shared: &Shared,
    parameters: &HashMap<String, String>,
    event: impl Fn(usize) -> system::Event,
    wanted: Wanted,
    wait: &Wait,
) -> Result<Json<Value>, Problem> {
    let patience = wait.patience()?;
    let (id, name, before) = find(shared, parameters)?;
    shared.handle.request(event(id), None).await?;
    let Some(patience) = patience else {
        let message = format!("The component \"{name}\" is told");
        return Ok(Json(json!({"status": "accepted", "message": message})));
    };
    let outcome = |status: &crate::supervise::Status| {
        let part = status.components.get(&name)?;
        let is_up = ["Up > Ready", "Completed", "Scheduled"].contains(&part.state.as_str());
        let is_down = ["Stopped", "Failed"].contains(&part.state.as_str());
        match wanted {
            Wanted::Up if is_up => Some(Ok(())),
            Wanted::Anew if is_up && part.starts > before.starts => Some(Ok(())),
            Wanted::Down if is_down => Some(Ok(())),
            Wanted::Up | Wanted::Anew if part.state == "Failed" => Some(Err(())),
            _ => None,
        }
    };
    settle::wait(
        shared,
        patience,
        &format!("the component \"{name}\""),
        outcome,
    )
    .await?;
    let (_, _, part) = find(shared, parameters)?;
    Ok(Json(json!({"status": "done", "component": part})))
}

/// Its number, its name and how it does.
fn find(
    shared: &Shared,
    parameters: &HashMap<String, String>,
) -> Result<(usize, String, Part), Problem> {
    let name = parameters.get("component").map(String::as_str);
    let name = name.unwrap_or_default();
    let status = shared.handle.status();
    let status = status.borrow();
    // Components are numbered in the order of their names, as they are listed.
    let mut parts = status.components.iter().enumerate();
    let found = parts.find(|(_, (known, _))| *known == name);
    let (id, (name, part)) = found.ok_or_else(|| {
        let names: Vec<_> = status.components.keys().map(String::as_str).collect();
        let known = match names.as_slice() {
            [] => "there are none".to_owned(),
            names => format!("there are {}", names.join(", ")),
        };
        Problem::not_found(format!("there is no component \"{name}\"; {known}"))
    })?;
    Ok((id, name.clone(), part.clone()))
}
