//! `/checkpoint`, `/checkpoints`, `/restore`.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use machines::system;
use serde::{Deserialize, Serialize};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::Shared;
use super::body::RawBody;
use super::id::Id;
use super::problem::Problem;
use super::serve::OnSocket;
use super::stream::{NDJSON, ndjson};
use crate::checkpoint::juicefs::MetadataReplication;
use crate::checkpoint::{
    self, Collected, Driver, Manifest, Order, Progress, Replication, Request, Verified,
};
use crate::clock::now;
use crate::supervise::status::Phase;

/// A checkpoint, as clients see it.
#[derive(Debug, Serialize)]
pub struct Checkpoint {
    id: String,
    create_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    history: Vec<String>,
    is_auto: bool,
    durability: Durability,
    /// Whether something could not be read, and is not in it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    incomplete: bool,
    /// What is not in it, and why; not in lists.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    skipped: Vec<String>,
}

impl Checkpoint {
    /// As far as `replication` is.
    pub(super) fn new(manifest: Manifest, replication: Option<&Replication>) -> Self {
        let is_durable = replication.is_some_and(|it| it.has(manifest.sequence));
        Self {
            durability: if is_durable {
                Durability::Durable
            } else {
                Durability::Sealed
            },
            incomplete: manifest.is_incomplete(),
            skipped: manifest.skipped,
            id: manifest.id,
            create_time: manifest.create_time,
            source_id: manifest.source_id,
            comment: manifest.comment,
            history: manifest.history,
            is_auto: manifest.is_auto,
        }
    }
}

/// The body of `POST /checkpoint`; it may be empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct NewCheckpoint {
    comment: Option<String>,
    wait: Option<Durability>,
}

/// What a checkpoint survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Durability {
    /// A crash.
    Sealed,
    /// The loss of the machine.
    Durable,
}

/// The body of `POST /checkpoints/verify`; it may be empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Verify {
    read_data: bool,
}

/// The body of `POST /restore`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    checkpoint_id: String,
}

/// What `GET /checkpoints` may be asked.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Filter {
    history: Option<String>,
    #[serde(rename = "includeAuto")]
    include_auto: Option<String>,
}

/// One line of progress.
#[derive(Debug, Default, Serialize)]
struct Line {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint_id: Option<String>,
    /// Whether something could not be read, and is not in the checkpoint.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    incomplete: bool,
    #[serde(flatten)]
    step: Option<Step>,
    time: String,
}

/// How far a step is.
#[derive(Debug, Serialize)]
struct Step {
    phase: &'static str,
    files_done: u64,
    bytes_done: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    files_total: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_total: Option<u64>,
}

/// What an operation may be asked besides.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Wish {
    /// Whether lines tell how far each step is.
    progress: bool,
}

/// `POST /checkpoint`
pub async fn create(
    State(shared): State<Shared>,
    Query(wish): Query<Wish>,
    body: RawBody,
) -> Result<Response, Problem> {
    let new: NewCheckpoint = body.json_or_default("{\"comment\": \"before the upgrade\"}")?;
    let until_durable = new.wait == Some(Durability::Durable);
    if driver(&shared)?.replication().is_none() && until_durable {
        return Err(Problem::bad_request(
            "wait: there is no bucket, so no checkpoint becomes durable; configure s3, or wait \
             for \"sealed\"",
        ));
    }
    let request = Request::Checkpoint {
        comment: new.comment,
        until_durable,
        automatic: false,
    };
    operate(&shared, system::Event::Checkpoint, request, wish).await
}

/// `GET /checkpoints`
pub async fn list(
    State(shared): State<Shared>,
    Query(filter): Query<Filter>,
) -> Result<Json<Vec<Checkpoint>>, Problem> {
    let auto = filter.include_auto.as_deref();
    let include_auto = matches!(auto, Some("true" | "1"));
    let found = blocking(&shared, move |driver| driver.list(include_auto)).await?;
    let replication = replication(&shared);
    let wanted = |manifest: &Manifest| match &filter.history {
        Some(ancestor) => manifest.history.contains(ancestor),
        None => true,
    };
    Ok(Json(
        found
            .into_iter()
            .filter(wanted)
            .map(|manifest| Checkpoint::new(manifest, replication.as_ref()))
            .map(|checkpoint| Checkpoint {
                skipped: Vec::new(),
                ..checkpoint
            })
            .collect(),
    ))
}

/// `GET /checkpoints/{id}`
pub async fn get(State(shared): State<Shared>, Id(id): Id) -> Result<Json<Checkpoint>, Problem> {
    let found = blocking(&shared, move |driver| driver.find(&id)).await?;
    Ok(Json(Checkpoint::new(found, replication(&shared).as_ref())))
}

/// How far the copy elsewhere is.
pub(super) fn replication(shared: &Shared) -> Option<Replication> {
    let report = shared.driver.as_ref()?.replication()?;
    let report = report.borrow().clone();
    Some(report)
}

/// How far the copy of a JuiceFS volume's metadata in the bucket is, if there is one.
pub(super) fn metadata_replication(shared: &Shared) -> Option<MetadataReplication> {
    let report = shared.metadata_replication.as_ref()?;
    let report = report.borrow().clone();
    Some(report)
}

/// Fails if something else is under way.
fn check_idle(shared: &Shared) -> Result<(), Problem> {
    let phase = shared.handle.status().borrow().phase;
    if matches!(phase, Phase::Operating | Phase::Busy) {
        let busy = checkpoint::Error::Busy("a checkpoint or restore");
        return Err(Problem::from(busy));
    }
    Ok(())
}

/// `POST /checkpoints/gc`
pub async fn collect_garbage(State(shared): State<Shared>) -> Result<Json<Collected>, Problem> {
    check_idle(&shared)?;
    Ok(Json(
        blocking(&shared, |driver| driver.collect_garbage()).await?,
    ))
}

/// `DELETE /checkpoints/{id}`
pub async fn delete(State(shared): State<Shared>, Id(id): Id) -> Result<StatusCode, Problem> {
    check_idle(&shared)?;
    blocking(&shared, move |driver| driver.delete(&id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /checkpoints/verify`
pub async fn verify(
    State(shared): State<Shared>,
    body: RawBody,
) -> Result<Json<Verified>, Problem> {
    let wanted: Verify = body.json_or_default("{\"read_data\": true}")?;
    let verified = blocking(&shared, move |driver| driver.verify_store(wanted.read_data));
    Ok(Json(verified.await?))
}

/// `POST /checkpoints/{id}/restore`
///
/// On a unix socket, whoever does not ask for a stream is told only that it has begun: a client
/// within the environment ends with it.
pub async fn restore(
    State(shared): State<Shared>,
    Query(wish): Query<Wish>,
    socket: Option<Extension<OnSocket>>,
    headers: HeaderMap,
    Id(id): Id,
) -> Result<Response, Problem> {
    // An unknown id is answered before anything happens.
    let found = blocking(&shared, move |driver| driver.find(&id)).await?;
    let id = found.id.clone();
    let request = Request::Restore { id: found.id };
    let stream = operate(&shared, system::Event::Restore, request, wish).await?;
    let accepts = headers.get(header::ACCEPT).map(HeaderValue::to_str);
    let wants_stream = accepts.is_some_and(|accepts| accepts.is_ok_and(|it| it.contains(NDJSON)));
    if socket.is_none() || wants_stream {
        return Ok(stream);
    }
    let accepted = serde_json::json!({
        "status": "accepted",
        "checkpoint_id": id,
        "message": "Restore initiated. Environment will restart shortly.",
    });
    Ok((StatusCode::ACCEPTED, Json(accepted)).into_response())
}

/// `POST /restore`
pub async fn restore_by_body(
    state: State<Shared>,
    wish: Query<Wish>,
    socket: Option<Extension<OnSocket>>,
    headers: HeaderMap,
    body: RawBody,
) -> Result<Response, Problem> {
    let body: Restore = body.json("{\"checkpoint_id\": \"v1\"}")?;
    restore(state, wish, socket, headers, Id(body.checkpoint_id)).await
}

async fn operate(
    shared: &Shared,
    event: system::Event,
    request: Request,
    wish: Wish,
) -> Result<Response, Problem> {
    shared.hold().await?;
    let (progress, lines) = Progress::channel();
    let progress = progress.measured(wish.progress);
    let order = Order { request, progress };
    shared.handle.request(event, Some(order)).await?;
    Ok(ndjson(ReceiverStream::new(lines).map(line)))
}

fn line(line: checkpoint::Line) -> Line {
    let text = |kind, data| Line {
        kind,
        data: Some(data),
        ..Line::default()
    };
    let line = match line {
        checkpoint::Line::Info(data) => text("info", data),
        checkpoint::Line::Measured { phase, measured } => Line {
            kind: "progress",
            step: Some(Step {
                phase,
                files_done: measured.files,
                bytes_done: measured.bytes,
                files_total: measured.files_total,
                bytes_total: measured.bytes_total,
            }),
            ..Line::default()
        },
        checkpoint::Line::Warning(data) => text("warning", data),
        checkpoint::Line::Complete {
            text: data,
            id,
            incomplete,
        } => Line {
            checkpoint_id: Some(id),
            incomplete,
            ..text("complete", data)
        },
        checkpoint::Line::Error(error) => Line {
            kind: "error",
            error: Some(error),
            ..Line::default()
        },
    };
    Line {
        time: now(),
        ..line
    }
}

fn driver(shared: &Shared) -> Result<Arc<dyn Driver>, Problem> {
    shared.driver.clone().ok_or_else(|| {
        Problem::unavailable(
            "checkpoints are off: start with SPRITE_WRITE_DIR, or with storage.dir and \
             checkpoint.dir in the configuration",
        )
    })
}

pub(super) async fn blocking<T: Send + 'static>(
    shared: &Shared,
    work: impl FnOnce(&dyn Driver) -> Result<T, checkpoint::Error> + Send + 'static,
) -> Result<T, Problem> {
    let driver = driver(shared)?;
    shared.hold_until_open().await?;
    let done = tokio::task::spawn_blocking(move || work(&*driver)).await;
    let done = done.map_err(|panic| Problem::internal(format!("the work failed: {panic}")))?;
    Ok(done?)
}
