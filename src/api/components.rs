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
    let (_, part) = find(&shared, &parameters)?;
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
    let (name, before) = find(&shared, &parameters)?;
    let number = before.number;
    let event = match verb {
        Verb::Start => system::Event::StartComponent(number),
        Verb::Stop => system::Event::StopComponent(number),
        Verb::Restart => system::Event::RestartComponent(number),
    };
    shared.handle.request(event, None).await?;
    let Some(patience) = patience else {
        let message = format!("The component \"{name}\" is told");
        return Ok(Json(json!({"status": "accepted", "message": message})));
    };
    let outcome = |status: &Status| {
        let part = status.components.get(&name)?;
        match verb {
            Verb::Start if part.is_up() => Some(Ok(())),
            Verb::Restart if part.is_up() && part.starts > before.starts => Some(Ok(())),
            Verb::Stop if part.is_down() => Some(Ok(())),
            Verb::Start | Verb::Restart if part.state == "Failed" => Some(Err(())),
            _ => None,
        }
    };
    let what = format!("the component \"{name}\"");
    settle::wait(&shared, patience, &what, outcome).await?;
    let (_, part) = find(&shared, &parameters)?;
    Ok(Json(json!({"status": "done", "component": part})))
}

/// Sends a signal to its process group.
pub async fn signal(
    State(shared): State<Shared>,
    Path(parameters): Parameters,
    body: RawBody,
) -> Result<Json<Value>, Problem> {
    let (name, part) = find(&shared, &parameters)?;
    let what = format!("the component \"{name}\"");
    let who = Who::Component(part.number);
    settle::signal(&shared, who, &what, part.pid, &body).await
}

/// Its name and how it does.
fn find(shared: &Shared, parameters: &HashMap<String, String>) -> Result<(String, Part), Problem> {
    let name = parameters.get("component").map(String::as_str);
    let name = name.unwrap_or_default();
    let status = shared.handle.status();
    let status = status.borrow();
    let part = status.components.get(name).ok_or_else(|| {
        let names: Vec<_> = status.components.keys().map(String::as_str).collect();
        let known = match names.as_slice() {
            [] => "there are none".to_owned(),
            names => format!("there are {}", names.join(", ")),
        };
        Problem::not_found(format!("there is no component \"{name}\"; {known}"))
    })?;
    Ok((name.to_owned(), part.clone()))
}
