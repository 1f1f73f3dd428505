//! `GET /exec` and `GET /exec/{id}` with an upgrade: a command, or a session that runs
//! already, over a WebSocket. Without one: the list of sessions.

use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::SplitStream;
use futures_util::{Sink, SinkExt as _, StreamExt as _};
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
/// How many messages are handed to the kernel together, at most.
const TOGETHER: usize = 4;
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

/// Writes what is queued, to the end of the queue or of the client's patience. What waits
/// already goes together.
pub async fn write(sink: impl Sink<Message> + Unpin, queue: mpsc::Receiver<Message>) {
    write_within(STUCK, sink, queue).await;
}

async fn write_within(
    patience: Duration,
    mut sink: impl Sink<Message> + Unpin,
    mut queue: mpsc::Receiver<Message>,
) {
    while let Some(message) = queue.recv().await {
        let mut next = Some(message);
        let mut room = TOGETHER;
        while let Some(message) = next {
            if !in_time(patience, sink.feed(message)).await {
                return;
            }
            room -= 1;
            next = (room > 0).then(|| queue.try_recv().ok()).flatten();
        }
        if !in_time(patience, sink.flush()).await {
            return;
        }
    }
}

/// Whether a part was written. A slow client may take long for all of them.
async fn in_time<E>(patience: Duration, writing: impl Future<Output = Result<(), E>>) -> bool {
    let Ok(written) = tokio::time::timeout(patience, writing).await else {
        tracing::debug!("a client that does not read is given up");
        return false;
    };
    written.is_ok()
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    /// It takes longer for all than its patience, from a command that never waits.
    #[tokio::test]
    async fn a_slow_client_gets_everything() {
        let (out, queue) = mpsc::channel(QUEUE);
        let taken = std::cell::Cell::new(0);
        let sink = futures_util::sink::unfold((), |(), _: Message| async {
            tokio::time::sleep(PATIENCE / 10).await;
            taken.set(taken.get() + 1);
            Ok::<_, Infallible>(())
        });
        let speaking = async {
            for _ in 0..20 {
                let _ = out.send(Message::Binary("more".into())).await;
            }
            drop(out);
        };
        tokio::join!(speaking, write_within(PATIENCE, Box::pin(sink), queue));
        assert_eq!(taken.get(), 20);
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (out, queue) = mpsc::channel(QUEUE);
        let sink = futures_util::sink::unfold((), |(), _: Message| {
            std::future::pending::<Result<(), Infallible>>()
        });
        for _ in 0..3 {
            let _ = out.send(Message::Binary("more".into())).await;
        }
        // It ends though the queue does not.
        write_within(PATIENCE / 10, Box::pin(sink), queue).await;
        drop(out);
    }
}
