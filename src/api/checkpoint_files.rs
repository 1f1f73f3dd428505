//! `/checkpoints/{id}/files`, `/checkpoints/{id}/diff/{other}`: looking into checkpoints.

use std::collections::HashMap;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::checkpoints::blocking;
use super::id::Id;
use super::problem::Problem;
use crate::checkpoint::{Difference, Listed, Look};

/// How many differences one answer has.
const MOST: usize = 100_000;

/// What `GET /checkpoints/{id}/files` may be asked.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Wanted {
    path: String,
}

/// What is in a directory of a checkpoint.
#[derive(Debug, Serialize)]
struct Listing {
    #[serde(flatten)]
    own: Listed,
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<Vec<Listed>>,
}

/// What differs between two checkpoints.
#[derive(Debug, Serialize)]
pub struct Differences {
    differences: Vec<Difference>,
    /// Whether there are more, which are left out.
    truncated: bool,
}

/// `GET /checkpoints/{id}/files?path=`: a file's bytes, or JSON that lists a directory or
/// tells of anything else.
pub async fn get(
    State(shared): State<Shared>,
    Id(id): Id,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let path = wanted.path;
    let found = blocking(&shared, move |driver| driver.look(&id, &path)).await?;
    let (own, entries) = match found {
        Look::Directory(own, entries) => (own, Some(entries)),
        Look::Other(own) => (own, None),
        Look::File(_, file) => {
            let length = file.size;
            let parts = stream::try_unfold(0, move |offset| {
                let (shared, file) = (shared.clone(), file.clone());
                async move {
                    let read = blocking(&shared, move |driver| driver.read(&file, offset)).await;
                    let bytes =
                        read.map_err(|problem| std::io::Error::other(problem.to_string()))?;
                    let next = offset + bytes.len() as u64;
                    Ok::<_, std::io::Error>((!bytes.is_empty()).then(|| (Bytes::from(bytes), next)))
                }
            });
            let headers = [
                (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
                (header::CONTENT_LENGTH, length.to_string()),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
            ];
            return Ok((headers, Body::from_stream(parts)).into_response());
        }
    };
    Ok(Json(Listing { own, entries }).into_response())
}

/// `GET /checkpoints/{id}/diff/{other}`
pub async fn diff(
    State(shared): State<Shared>,
    Path(mut names): Path<HashMap<String, String>>,
) -> Result<Json<Differences>, Problem> {
    let mut name = |key| names.remove(key).unwrap_or_default();
    let (old, new) = (name("id"), name("other"));
    let found = blocking(&shared, move |driver| driver.diff(&old, &new, MOST)).await?;
    let (differences, truncated) = found;
    Ok(Json(Differences {
        differences,
        truncated,
    }))
}
