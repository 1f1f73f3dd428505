//! `/v1/sprites`: the one environment that there is, as clients that manage many see it.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use super::body::RawBody;
use super::problem::Problem;

/// What is asked for with a new environment, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Create {
    name: String,
}

/// The environment.
fn object(shared: &Shared) -> Value {
    json!({
        "id": format!("sprite-{}", shared.sprite_name),
        "name": shared.sprite_name,
        "organization": "local",
        "org_slug": "local",
        "status": "running",
        "config": {},
        "environment": {},
        "labels": [],
        "created_at": shared.since,
        "updated_at": shared.since,
        "version": env!("CARGO_PKG_VERSION"),
        "environment_version": env!("CARGO_PKG_VERSION"),
    })
}

/// `GET /v1/sprites`
pub async fn list(State(shared): State<Shared>) -> Json<Value> {
    let counts = json!({
        "name": "local", "running": 1, "warm": 0, "cold": 0, "running_limit": 1, "warm_limit": 0,
    });
    let mut answer = json!({
        "sprites": [object(&shared)], "has_more": false, "next_continuation_token": null,
        "org": counts,
    });
    if let (Some(answer), Value::Object(counts)) = (answer.as_object_mut(), counts) {
        answer.extend(counts);
    }
    Json(answer)
}

/// `POST /v1/sprites`: the environment of that name, if it is this one.
pub async fn create(State(shared): State<Shared>, body: RawBody) -> Result<Response, Problem> {
    let wanted: Create = body.json("{\"name\": \"demo\"}")?;
    if wanted.name != shared.sprite_name {
        return Err(Problem::bad_request(format!(
            "this server has one environment, \"{}\", and cannot create \"{}\"; its name is \
             sprite_name in the configuration",
            shared.sprite_name, wanted.name
        )));
    }
    Ok((StatusCode::CREATED, Json(object(&shared))).into_response())
}

/// `GET /v1/sprites/{name}`
pub async fn get(
    State(shared): State<Shared>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Problem> {
    shared.check_name(&name)?;
    Ok(Json(object(&shared)))
}

/// `GET /v1/sprites/{name}/check`
pub async fn check(State(shared): State<Shared>) -> Json<Value> {
    let status = shared.handle.status().borrow().clone();
    Json(json!({
        "sprite_name": shared.sprite_name,
        "sprite_id": format!("sprite-{}", shared.sprite_name),
        "status": if status.is_ready() { "healthy" } else { "unhealthy" },
        "reason": status.state,
        "checked_at": crate::clock::now(),
    }))
}

/// `DELETE /v1/sprites/{name}`
pub async fn delete() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "an environment cannot delete itself: stop sprite-env and remove its directories",
    )
}

/// What this server does not do yet: it does not pretend to.
pub async fn not_yet() -> Problem {
    Problem::new(
        StatusCode::NOT_IMPLEMENTED,
        "not_implemented",
        "policies, suspend and sync are not built yet; nothing was changed",
    )
}

/// What an environment that is the only one cannot do.
pub async fn not_built() -> Problem {
    Problem::new(
        StatusCode::NOT_IMPLEMENTED,
        "not_implemented",
        "this server has one environment, which cannot be changed, restarted or upgraded over \
         the API",
    )
}
