//! `GET /components`, `POST /components/{name}/{start,stop,restart,signal}`.

use std::collections::{BTreeMap, HashMap};

use axum::Json;
use axum::extract::{Path, State};
use machines::system;
use serde_json::{Value, json};

use super::Shared;
use super::body::RawBody;
use super::problem::Problem;
use super::settle::{self, Verb, Wait};
use crate::supervise::status::Part;
use crate::supervise::{Status, Who};

/// The parameters of a path. Below `/v1/sprites/{name}` there are two.
pub type Parameters = Path<HashMap<String, String>>;

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

/// Starts, stops or restarts one; everything else goes on. One that has a schedule is
/// restarted by a run at once.
pub async fn control(
    shared: Shared,
    Path(parameters): Parameters,
    wait: Wait,
    verb: Verb,
) -> Result<Json<Value>, Problem> {
    let patience = wait.patience()?;
    let (id, name, before) = find(&shared, &parameters)?;
    let event = match verb {
        Verb::Start => system::Event::StartComponent(id),
        Verb::Stop => system::Event::StopComponent(id),
        Verb::Restart => system::Event::RestartComponent(id),
    };
    shared.handle.request(event, None).await?;
    let Some(patience) = patience else {
        let message = format!("The component \"{name}\" is told");
        return Ok(Json(json!({"status": "accepted", "message": message})));
    };
    let outcome = |status: &Status| {
        let part = status.components.get(&name)?;
        let is_in = |states: &[&str]| states.contains(&part.state.as_str());
        let is_up = is_in(&["Up > Ready", "Completed", "Scheduled"]);
        match verb {
            Verb::Start if is_up => Some(Ok(())),
            Verb::Restart if is_up && part.starts > before.starts => Some(Ok(())),
            Verb::Stop if is_in(&["Stopped", "Failed"]) => Some(Ok(())),
            Verb::Start | Verb::Restart if is_in(&["Failed"]) => Some(Err(())),
            _ => None,
        }
    };
    let what = format!("the component \"{name}\"");
    settle::wait(&shared, patience, &what, outcome).await?;
    let (_, _, part) = find(&shared, &parameters)?;
    Ok(Json(json!({"status": "done", "component": part})))
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
