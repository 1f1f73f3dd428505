//! The sessions: which there are, and `POST /exec/{id}/kill`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::query::{Query, parse_seconds};
use crate::api::Shared;
use crate::api::body::RawBody;
use crate::api::id::Id;
use crate::api::problem::Problem;
use crate::api::stream::ndjson;
use crate::clock::now;
use crate::config::signal;
use crate::exec::Session;

/// How long a command may take to go before it is killed, unless told otherwise.
const GRACE: Duration = Duration::from_secs(10);

/// One session in the list.
#[derive(Serialize)]
struct Entry {
    id: String,
    command: String,
    workdir: String,
    created: String,
    bytes_per_second: f64,
    is_active: bool,
    last_activity: String,
    tty: bool,
}

/// The answer of `GET /exec` without an upgrade.
pub fn list(shared: &Shared) -> Response {
    let sessions: Vec<_> = shared.runner.sessions().list().iter().map(entry).collect();
    Json(json!({"count": sessions.len(), "sessions": sessions})).into_response()
}

fn entry(session: &Arc<Session>) -> Entry {
    let facts = &session.facts;
    let activity = session.activity();
    let created = Timestamp::from_second(facts.created).unwrap_or_default();
    Entry {
        id: facts.id.clone(),
        command: facts.command.join(" "),
        workdir: facts.working_dir.clone(),
        created: created.to_string(),
        bytes_per_second: activity.bytes_per_second,
        is_active: activity.is_active,
        last_activity: activity.last,
        tty: facts.tty,
    }
}

/// The session of that id.
pub fn find(shared: &Shared, id: &str) -> Result<Arc<Session>, Problem> {
    let found = shared.runner.sessions().find(id);
    found.ok_or_else(|| {
        Problem::not_found(format!(
            "session not found: {id}; GET /exec lists those that run"
        ))
    })
}

/// What may also stand in the body of a kill.
#[derive(Debug, Default, Deserialize)]
struct Body {
    signal: Option<String>,
    timeout: Option<f64>,
}

/// One line of the answer.
#[derive(Default, Serialize)]
struct Line {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// The message once more: one client reads it here.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<u8>,
    time: String,
}

impl Line {
    fn new(kind: &'static str, message: Option<String>) -> Self {
        Self {
            kind,
            data: message.clone(),
            message,
            time: now(),
            ..Self::default()
        }
    }
}

/// Signals a session's command, and tells how it ends.
pub async fn kill(
    State(shared): State<Shared>,
    Id(id): Id,
    RawQuery(query): RawQuery,
    body: RawBody,
) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref());
    let body: Body = body.json_or_default("{\"signal\": \"SIGTERM\", \"timeout\": 10}")?;
    let session = find(&shared, &id)?;
    let name = query.get("signal").map(str::to_owned).or(body.signal);
    let name = name.unwrap_or_else(|| "SIGTERM".to_owned());
    let number = signal::parse(&name).ok_or_else(|| {
        Problem::bad_request(format!(
            "\"signal\" is \"{name}\": give a name such as TERM or SIGTERM, or a number"
        ))
    })?;
    let grace = match (query.get("timeout"), body.timeout) {
        (Some(text), _) => parse_seconds(text),
        (None, Some(seconds)) => Duration::try_from_secs_f64(seconds).ok(),
        (None, None) => Some(GRACE),
    };
    let grace = grace.ok_or_else(|| {
        Problem::bad_request("\"timeout\" must be a duration such as \"10s\", or 0")
    })?;
    let pid = session.signal(number).map_err(|_ended| {
        Problem::new(
            StatusCode::GONE,
            "already_exited",
            format!("session {} has ended", session.facts.id),
        )
    })?;
    let sent = Line {
        signal: Some(format!("SIG{}", signal::name(number))),
        pid,
        ..Line::new("signal", Some(format!("sent SIG{}", signal::name(number))))
    };
    let rest = stream::unfold(Progress::Sent, move |progress| {
        next(Arc::clone(&session), grace, progress)
    });
    let lines = stream::StreamExt::chain(stream::iter([sent]), rest);
    Ok(ndjson(lines))
}

/// How far a kill is.
enum Progress {
    Sent,
    TimedOut,
    Gone(Option<u8>),
    Over,
}

async fn next(
    session: Arc<Session>,
    grace: Duration,
    progress: Progress,
) -> Option<(Line, Progress)> {
    let mut exit = session.exit();
    let code = match progress {
        Progress::Sent if grace.is_zero() => return Some(over(None)),
        Progress::Sent => {
            let gone = exit.wait_for(Option::is_some);
            let Ok(code) = tokio::time::timeout(grace, gone).await else {
                let why = "the process did not go in time".to_owned();
                return Some((Line::new("timeout", Some(why)), Progress::TimedOut));
            };
            code.ok().and_then(|code| *code)
        }
        Progress::TimedOut => {
            let _ = session.signal(libc::SIGKILL);
            let code = exit.wait_for(Option::is_some).await;
            let code = code.ok().and_then(|code| *code);
            let killed = Line::new("killed", Some("sent SIGKILL".to_owned()));
            return Some((killed, Progress::Gone(code)));
        }
        Progress::Gone(code) => return Some(over(code)),
        Progress::Over => return None,
    };
    let exited = Line::new("exited", Some("process exited".to_owned()));
    Some((exited, Progress::Gone(code)))
}

fn over(exit_code: Option<u8>) -> (Line, Progress) {
    let line = Line {
        exit_code,
        ..Line::new("complete", None)
    };
    (line, Progress::Over)
}
