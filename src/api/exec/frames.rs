//! `POST /exec?cmd=…`: the command's output as frames, its input from the request's body.
//!
//! Frames have no length: each is an HTTP chunk of its own, and clients take one read for
//! one frame. So frames are small, each is flushed, and the exit comes a little later.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;

use super::conversation::EXIT;
use super::query::Query;
use crate::api::Shared;
use crate::api::problem::Problem;
use crate::api::silence::Silence;
use crate::exec::session::{Stream, frame};
use crate::exec::{Attachment, Input, Linger, Output, Session, Spec};

/// The longest frame, its first byte included.
const LONGEST: usize = 8 * 1024;
/// How long nothing may be sent: then an empty frame is.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How long the exit is kept back, so that it is not read together with output.
const EXIT_DELAY: Duration = Duration::from_millis(15);

/// Runs the command of `query`. If the client leaves, it is killed.
pub async fn post(shared: Shared, query: &Query, body: Body) -> Result<Response, Problem> {
    if query.has("tty") {
        return Err(Problem::bad_request("TTY not supported on POST /exec"));
    }
    if ["id", "detachable", "cc"]
        .iter()
        .any(|name| query.get(name).is_some())
    {
        return Err(Problem::bad_request(
            "Unsupported parameters for POST /exec: id, detachable and cc need a WebSocket",
        ));
    }
    let spec = Spec {
        linger: Linger::Kill,
        ..query.spec()?
    };
    shared.hold_for_commands().await?;
    let takes_input = spec.stdin;
    let attachment = shared.runner.start(&spec)?;
    if takes_input {
        tokio::spawn(feed(attachment.session().clone(), body));
    }
    let frames =
        stream::unfold(Some((attachment, Silence::of(KEEP_ALIVE))), next).flat_map(stream::iter);
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, Body::from_stream(frames.map(Ok::<_, Infallible>))).into_response())
}

/// The body is the command's standard input, to its end. A body that was cut off is no
/// end: the command must not take it for whole.
async fn feed(session: std::sync::Arc<Session>, body: Body) {
    let mut parts = body.into_data_stream();
    while let Some(part) = parts.next().await {
        let Ok(part) = part else {
            let _ = session.signal(libc::SIGKILL);
            return;
        };
        if !session.input(Input::Data(part)).await {
            return;
        }
    }
    session.input(Input::End).await;
}

/// A client's place in the session, and how long it has heard nothing.
type Hearing = (Attachment, Silence);

/// The next frames, and the way to those that follow, unless it was the exit.
async fn next(hearing: Option<Hearing>) -> Option<(Vec<Bytes>, Option<Hearing>)> {
    let (mut attachment, mut silence) = hearing?;
    let output = tokio::select! {
        biased;
        output = attachment.next() => output?,
        // A client that left while its input waits is noticed when it is written to.
        () = silence.lasts() => {
            let nothing = frame(Stream::Stdout.frame_kind(), &[]);
            return Some((vec![nothing], Some((attachment, silence))));
        }
    };
    silence.broken();
    let (kind, bytes) = match output {
        Output::Exit(code) => {
            tokio::time::sleep(EXIT_DELAY).await;
            return Some((vec![frame(EXIT, &[code])], None));
        }
        Output::Data(stream, piece) => (stream.frame_kind(), piece.payload()),
        Output::Failed(why) => (Stream::Stderr.frame_kind(), Bytes::from(why + "\n")),
    };
    let frames = bytes.chunks(LONGEST - 1).map(|piece| frame(kind, piece));
    Some((frames.collect(), Some((attachment, silence))))
}
