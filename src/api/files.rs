//! `/fs/…`: the environment's files.

pub mod change;
pub mod read;
pub mod watch;
pub mod write;

use std::path::PathBuf;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use rustix::io::Errno;
use serde_json::{Value, json};

use super::Shared;
use super::exec::query::Query;
use super::problem::Problem;
use crate::files::{Error, Files};

/// Why a request for a file was not fulfilled.
#[derive(Debug)]
pub enum Failure {
    /// Something with a file: told as clients of files want it.
    File(Error),
    /// Something with the request: told as everywhere.
    Request(Problem),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::File(error)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Request(problem)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let error = match self {
            Self::File(error) => error,
            Self::Request(problem) => return problem.into_response(),
        };
        let status = match error.errno {
            Errno::NOENT => StatusCode::NOT_FOUND,
            Errno::ACCESS | Errno::PERM | Errno::ROFS => StatusCode::FORBIDDEN,
            Errno::EXIST | Errno::NOTEMPTY | Errno::BUSY => StatusCode::CONFLICT,
            Errno::NOSPC => StatusCode::INSUFFICIENT_STORAGE,
            _ if ["EINVAL", "ENOTDIR", "EISDIR"].contains(&error.code()) => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let text = error.to_string();
        let body = json!({
            "error": text, "message": text, "code": error.code(), "path": error.path,
        });
        (status, Json(body)).into_response()
    }
}

/// Runs `act` where blocking is allowed.
async fn blocking<T: Send + 'static>(
    shared: &Shared,
    act: impl FnOnce(&Files) -> crate::files::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let files = shared.files.clone();
    let done = tokio::task::spawn_blocking(move || act(&files)).await;
    done.unwrap_or_else(|panic| {
        let error = std::io::Error::other(panic);
        Err(Error::io("work with", "files", &error))
    })
    .map_err(Failure::File)
}

/// The path that a query names.
fn path_of(what: &'static str, query: &Query) -> Result<PathBuf, Failure> {
    let path = query.get("path").unwrap_or_default();
    let directory = query.get("workingDir").unwrap_or("/");
    Ok(Files::absolute(what, directory, path)?)
}

/// `GET /fs/list`
pub async fn list(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Failure> {
    let query = Query::parse(query.as_deref());
    shared.hold().await?;
    let path = path_of("list", &query)?;
    let recursive = query.flag("recursive").unwrap_or(false);
    let pattern = query.get("pattern").map(str::to_owned);
    let text = path.display().to_string();
    let listing = blocking(&shared, move |files| {
        files.list(&path, recursive, pattern.as_deref())
    });
    let entries = listing.await?;
    Ok(Json(
        json!({"path": text, "count": entries.len(), "entries": entries}),
    ))
}

/// That what follows is bytes of no known kind.
const BYTES: (header::HeaderName, &str) = (header::CONTENT_TYPE, "application/octet-stream");
