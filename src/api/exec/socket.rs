//! `GET /exec` and `GET /exec/{id}` with an upgrade: a command, or a session that runs
//! already, over a WebSocket. Without one: the list of sessions.

use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc;

use super::conversation::{Dialect, Listener, speak};
use super::query::Query;
use super::sessions;
use crate::api::Shared;
use crate::api::id::Id;
use crate::api::problem::Problem;
use crate::exec::Attachment;
use crate::network::Ports;

/// The largest message that is taken.
pub const LARGEST: usize = 16 * 1024 * 1024;
/// What each connection reads into: what most of what clients send fits in, and small,
/// since a thousand of them may be idle.
const READ_BUFFER: usize = 8 * 1024;
/// How many messages may wait for a client; the command waits beyond that.
pub const QUEUE: usize = 8;
/// How long one message may take to be written before the client is given up.
const STUCK: Duration = Duration::from_secs(30);
/// How long the client's close is waited for after ours. Some never send one.
const FAREWELL: Duration = Duration::from_millis(300);
/// What the client may ask of an exec socket beyond frames.
const CAPABILITIES: (HeaderName, HeaderValue) = (
    HeaderName::from_static("x-sprite-capabilities"),
    HeaderValue::from_static("signal"),
);

/// An upgrade, or why it is none.
pub type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// A new command, an attach by `id`, or the list.
pub async fn get(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
    upgrade: Upgrade,
) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref());
    if let Some(id) = query.session() {
        return attach_to(&shared, id, &query, upgrade).await;
    }
    let Ok(upgrade) = upgrade else {
        if query.is_command() {
            return Err(no_upgrade());
        }
        return Ok(sessions::list(&shared));
    };
    let spec = query.spec()?;
    shared.hold_for_commands().await?;
    let attachment = shared.runner.start(&spec)?;
    let ports = shared.ports.clone();
    Ok(accept(
        upgrade,
        (attachment, ports),
        true,
        Dialect::default(),
    ))
}

/// An attach by path.
pub async fn attach(
    State(shared): State<Shared>,
    Id(id): Id,
    RawQuery(query): RawQuery,
    upgrade: Upgrade,
) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref());
    attach_to(&shared, &id, &query, upgrade).await
}

async fn attach_to(
    shared: &Shared,
    id: &str,
    query: &Query,
    upgrade: Upgrade,
) -> Result<Response, Problem> {
    shared.hold().await?;
    let session = sessions::find(shared, id)?;
    let upgrade = upgrade.map_err(|_| no_upgrade())?;
    let dialect = Dialect {
        drops_first_end: !query.flag("tty").unwrap_or(false),
        ..Dialect::default()
    };
    let watched = (session.attach(), shared.ports.clone());
    Ok(accept(upgrade, watched, false, dialect))
}

/// That a request should have been an upgrade.
pub fn no_upgrade() -> Problem {
    Problem::new(
        axum::http::StatusCode::UPGRADE_REQUIRED,
        "upgrade_required",
        "this is a WebSocket endpoint: send an upgrade",
    )
}

/// A WebSocket that takes messages as large as clients send them.
pub fn upgraded<F, R>(upgrade: WebSocketUpgrade, serve: F) -> Response
where
    F: FnOnce(WebSocket) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    upgrade
        .read_buffer_size(READ_BUFFER)
        .max_message_size(LARGEST)
        .max_frame_size(LARGEST)
        .on_upgrade(serve)
        .into_response()
}

fn accept(
    upgrade: WebSocketUpgrade,
    watched: (Attachment, Ports),
    is_owner: bool,
    dialect: Dialect,
) -> Response {
    let mut response = upgraded(upgrade, move |socket| {
        serve(socket, watched, is_owner, dialect)
    });
    response.headers_mut().extend([CAPABILITIES]);
    response
}

async fn serve(
    socket: WebSocket,
    (mut attachment, ports): (Attachment, Ports),
    is_owner: bool,
    dialect: Dialect,
) {
    let (sink, mut stream) = socket.split();
    let (out, queue) = mpsc::channel(QUEUE);
    let mut listener = Listener::new(attachment.session(), dialect);
    let speaking = async {
        let tty = attachment.session().facts.tty;
        if let Some(code) = speak(&mut attachment, is_owner, &ports, &out).await {
            let _ = out.send(farewell(code, tty)).await;
        }
        drop(out);
    };
    let listening = async {
        while let Some(message) = next(&mut stream).await {
            listener.hear(message).await;
        }
    };
    let ended = tokio::select! {
        _ = async { tokio::join!(speaking, write(sink, queue)) } => true,
        () = listening => false,
    };
    if ended {
        // Closing TCP before the client has read everything could take it away again.
        let goodbye = async { while next(&mut stream).await.is_some() {} };
        let _ = tokio::time::timeout(FAREWELL, goodbye).await;
    }
}

/// The next message; none when the client closes or is gone.
pub async fn next(stream: &mut SplitStream<WebSocket>) -> Option<Message> {
    match stream.next().await? {
        Ok(Message::Close(_)) => None,
        Ok(message) => Some(message),
        // A client may leave without a word: some always do.
        Err(error) => {
            tracing::debug!(%error, "a WebSocket ended");
            None
        }
    }
}

/// Writes what is queued, to the end of the queue or of the client's patience.
pub async fn write(mut sink: SplitSink<WebSocket, Message>, mut queue: mpsc::Receiver<Message>) {
    while let Some(message) = queue.recv().await {
        // What waits already goes with it.
        let writing = async {
            sink.feed(message).await?;
            while let Ok(message) = queue.try_recv() {
                sink.feed(message).await?;
            }
            sink.flush().await
        };
        match tokio::time::timeout(STUCK, writing).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => {
                tracing::debug!("a client that does not read is given up");
                return;
            }
        }
    }
}

/// The close after the exit. One client knows of a terminal's exit only whether the close
/// was a normal one.
fn farewell(code: u8, tty: bool) -> Message {
    let (status, reason) = if tty && code != 0 {
        (4000 + u16::from(code), format!("exit {code}"))
    } else {
        (1000, String::new())
    };
    Message::Close(Some(CloseFrame {
        code: status,
        reason: reason.into(),
    }))
}
