//! `/checkpoints/{id}/export`, `/checkpoints/import`: checkpoints as archives.

use std::io::{self, Write};

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::Shared;
use super::checkpoints::{Checkpoint, blocking, replication};
use super::id::Id;
use super::problem::Problem;

/// How many parts of an archive may wait for the client.
const PARTS: usize = 8;
/// So many are written at once; each has a thread for as long as its client takes.
static EXPORTS: Semaphore = Semaphore::const_new(4);

/// What `POST /checkpoints/import` may be asked.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Wanted {
    comment: Option<String>,
}

/// Sends on what is written to it.
struct Parts(mpsc::Sender<io::Result<Bytes>>);

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = Ok(Bytes::copy_from_slice(bytes));
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.blocking_send(part).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `GET /checkpoints/{id}/export`
pub async fn export(State(shared): State<Shared>, Id(id): Id) -> Result<Response, Problem> {
    let found = blocking(&shared, move |driver| driver.find(&id)).await?;
    let name = format!("{}-{}.tar.zst", shared.sprite_name, found.id);
    let name: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    let turn = EXPORTS.acquire().await;
    let (to, parts) = mpsc::channel(PARTS);
    tokio::spawn(async move {
        let _turn = turn;
        let failed = to.clone();
        let written = blocking(&shared, move |driver| {
            driver.export(&found.id, &mut Parts(to))
        });
        if let Err(problem) = written.await {
            // The client sees that its answer is cut off.
            let error = io::Error::other(problem.to_string());
            let _ = failed.send(Err(error)).await;
        }
    });
    let headers = [
        (header::CONTENT_TYPE, "application/zstd".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    Ok((headers, Body::from_stream(ReceiverStream::new(parts))).into_response())
}

/// `POST /checkpoints/import?comment=`: the body is an archive, of any length.
pub async fn import(
    State(shared): State<Shared>,
    Query(wanted): Query<Wanted>,
    request: Request,
) -> Result<(StatusCode, Json<Checkpoint>), Problem> {
    let spool = blocking(&shared, |driver| driver.spool()).await?;
    let mut spool = tokio::fs::File::from_std(spool);
    let mut body = request.into_body().into_data_stream();
    while let Some(part) = body.next().await {
        let part =
            part.map_err(|error| Problem::bad_request(format!("cannot read the body: {error}")))?;
        spool.write_all(&part).await.map_err(|error| full(&error))?;
    }
    spool.flush().await.map_err(|error| full(&error))?;
    let spool = spool.into_std().await;
    let made = blocking(&shared, move |driver| driver.import(spool, wanted.comment)).await?;
    let made = Checkpoint::new(made, replication(&shared).as_ref());
    Ok((StatusCode::CREATED, Json(made)))
}

fn full(error: &io::Error) -> Problem {
    Problem::new(
        StatusCode::INSUFFICIENT_STORAGE,
        "no_space",
        format!("cannot keep the archive while it arrives: {error}; nothing was imported"),
    )
}
