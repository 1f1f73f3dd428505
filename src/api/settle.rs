//! What requests have in common that start, stop, restart or signal something.

use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use super::body::RawBody;
use super::problem::Problem;
use crate::config::signal;
use crate::config::value::{FromText as _, GoDuration, format_duration, parse_duration};
use crate::supervise::{Status, Who};

/// The query `?wait=30s`.
#[derive(Clone, Debug, Deserialize)]
pub struct Wait {
    /// As it was written; none = not at all.
    pub wait: Option<String>,
}

/// What somebody wants of the main process or of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// That it is up.
    Start,
    /// That it is down.
    Stop,
    /// That it is started again.
    Restart,
}

impl Wait {
    /// How long the answer may wait for the outcome; none = not at all.
    pub fn patience(&self) -> Result<Option<Duration>, Problem> {
        let Some(text) = &self.wait else {
            return Ok(None);
        };
        let why = || {
            let expected = GoDuration::EXPECTED;
            Problem::bad_request(format!("wait: \"{text}\" is not {expected}"))
        };
        parse_duration(text).map(Some).ok_or_else(why)
    }
}

/// Waits until `outcome` is there: well, or not.
pub async fn wait(
    shared: &Shared,
    patience: Duration,
    what: &str,
    outcome: impl Fn(&Status) -> Option<Result<(), ()>> + Send,
) -> Result<(), Problem> {
    let mut status = shared.handle.status();
    let settled = status.wait_for(|status| outcome(status).is_some());
    let found = match tokio::time::timeout(patience, settled).await {
        Ok(Ok(status)) => outcome(&status),
        Ok(Err(_)) => return Err(Problem::unavailable("the system is going down")),
        Err(_) => return Err(late(&format!("{what} is told"), patience)),
    };
    if found == Some(Ok(())) {
        return Ok(());
    }
    let why = shared.handle.status().borrow().last_failure.clone();
    let why = why.map_or_else(String::new, |why| format!(": {why}"));
    Err(Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "failed",
        format!("{what} does not come up{why}"),
    ))
}

/// That something goes on, but has taken longer than `patience`.
pub fn late(told: &str, patience: Duration) -> Problem {
    let detail = format!(
        "{told}, but it is not done within {}; GET /status tells how far it is",
        format_duration(patience)
    );
    Problem::new(StatusCode::GATEWAY_TIMEOUT, "timeout", detail)
}

#[derive(Deserialize)]
struct SignalBody {
    signal: SignalName,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum SignalName {
    Name(String),
    Number(i64),
}

/// Sends the signal that `body` names to the process group of `who`, which `pid` leads.
pub async fn signal(
    shared: &Shared,
    who: Who,
    what: &str,
    pid: Option<i32>,
    body: &RawBody,
) -> Result<Json<Value>, Problem> {
    let body: SignalBody = body.json("{\"signal\": \"HUP\"}")?;
    let name = match body.signal {
        SignalName::Name(name) => name,
        SignalName::Number(number) => number.to_string(),
    };
    let number = signal::parse(&name);
    let number =
        number.ok_or_else(|| Problem::bad_request(format!("signal: \"{name}\" is no signal")))?;
    if pid.is_none() {
        return Err(Problem::conflict(format!("{what} does not run")));
    }
    shared.handle.signal(who, number).await;
    let message = format!("Signal {number} is sent to {what}");
    Ok(Json(json!({"status": "accepted", "message": message})))
}
