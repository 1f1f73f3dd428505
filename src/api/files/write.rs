//! `PUT /fs/write`

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Failure, blocking, path_of};
use crate::api::Shared;
use crate::api::exec::query::Query;
use crate::api::problem::Problem;
use crate::files::write::Options;
use crate::files::{Error, Result as FileResult};

/// How many pieces of the body may wait for the disk.
const QUEUE: usize = 8;

/// Writes the body to a file.
pub async fn write(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Json<Value>, Failure> {
    let query = Query::parse(query.as_deref());
    let path = path_of("write", &query)?;
    let mode = query.get("mode").map(octal).transpose();
    let mode = mode.map_err(|why| Error::invalid("write", &path.display().to_string(), why))?;
    let parents = query.flag("mkdirParents").or_else(|| query.flag("mkdir"));
    let options = Options {
        mode,
        parents: parents.unwrap_or(false),
        as_root: query.flag("asRoot").unwrap_or(false),
    };
    shared.hold_for_commands().await?;
    let (pieces, mut queue) = mpsc::channel::<Bytes>(QUEUE);
    let (whole, is_whole) = tokio::sync::oneshot::channel();
    let writing = blocking(&shared, move |files| -> FileResult<Option<_>> {
        let mut draft = files.write(&path, options)?;
        while let Some(piece) = queue.blocking_recv() {
            draft.append(&piece)?;
        }
        // A body that was cut off leaves everything as it was.
        match is_whole.blocking_recv() {
            Ok(()) => draft.keep().map(Some),
            Err(_) => Ok(None),
        }
    });
    let reading = async move {
        let mut parts = body.into_data_stream();
        while let Some(part) = parts.next().await {
            let part = part.map_err(|error| format!("cannot read the body: {error}"))?;
            if pieces.send(part).await.is_err() {
                // It could not be written; the other side says why.
                return Ok(());
            }
        }
        drop(pieces);
        let _ = whole.send(());
        Ok::<_, String>(())
    };
    let (written, read) = tokio::join!(writing, reading);
    if let Err(why) = read {
        return Err(Problem::bad_request(why).into());
    }
    match written? {
        Some((path, size, mode)) => Ok(Json(
            json!({"path": path, "size": size, "mode": format!("{mode:04o}")}),
        )),
        None => Err(Problem::bad_request("the body was cut off").into()),
    }
}

/// Permissions, as octal text.
pub fn octal(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .map(|mode| mode & 0o7777)
        .map_err(|_| format!("the mode \"{text}\" is not octal, such as 0644"))
}
