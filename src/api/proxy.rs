//! `GET /proxy`: a TCP connection to a port in the environment, over a WebSocket.

use std::io;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::SplitStream;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::Shared;
use super::exec::socket::{QUEUE, Upgrade, next, no_upgrade, upgraded, write};
use super::problem::Problem;
use super::silence::Silence;
use crate::network::Namespace;

/// The most that is read from the target at once.
const PIECE: usize = 32 * 1024;
/// How long a target may take to answer.
const CONNECT: Duration = Duration::from_secs(30);
/// How long nothing may be sent to a client: then a ping is.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How long a client that still sends may take to read the rest and close.
const FAREWELL: Duration = Duration::from_secs(10);
/// WebSocket close codes.
const NORMAL: u16 = 1000;
const UNSUPPORTED: u16 = 1003;
const INTERNAL: u16 = 1011;

/// The first message: where to.
#[derive(Debug, Deserialize)]
struct Target {
    #[serde(default)]
    host: String,
    port: u32,
}

/// Why there is no connection, and the close code that says so.
#[derive(Debug)]
pub struct Failure {
    code: u16,
    /// A sentence.
    pub why: String,
}

/// Where a client's messages come from.
#[derive(Debug)]
pub enum Incoming {
    /// A WebSocket of its own.
    Socket(SplitStream<WebSocket>),
    /// An operation on a control connection.
    Inbox(mpsc::Receiver<Message>),
}

impl Incoming {
    async fn next(&mut self) -> Option<Message> {
        match self {
            Self::Socket(stream) => next(stream).await,
            Self::Inbox(inbox) => inbox.recv().await,
        }
    }
}

/// Opens a proxy connection.
pub async fn get(State(shared): State<Shared>, upgrade: Upgrade) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|_| no_upgrade())?;
    shared.hold_for_commands().await?;
    let namespace = shared.namespace.clone();
    Ok(upgraded(upgrade, |socket| serve(socket, namespace)))
}

async fn serve(socket: WebSocket, namespace: Namespace) {
    let (sink, stream) = socket.split();
    let (out, queue) = mpsc::channel(QUEUE);
    let mut incoming = Incoming::Socket(stream);
    let running = async {
        let (code, reason) = match run(&namespace, None, &mut incoming, &out).await {
            Ok(()) => (NORMAL, String::new()),
            Err(failure) => (failure.code, failure.why),
        };
        let reason: String = reason.chars().take(100).collect();
        let close = CloseFrame {
            code,
            reason: reason.into(),
        };
        let _ = out.send(Message::Close(Some(close))).await;
        drop(out);
    };
    tokio::select! {
        // A client that is gone ends it; otherwise this ends once all is written.
        () = write(sink, queue) => {}
        () = async { running.await; std::future::pending().await } => {}
    }
    // Closing TCP while the client still sends would take what it has not read away again.
    let goodbye = async { while incoming.next().await.is_some() {} };
    let _ = tokio::time::timeout(FAREWELL, goodbye).await;
}

/// Connects to `target`, or to what the first message names, in `namespace`, and passes on
/// bytes both ways until one side closes.
pub async fn run(
    namespace: &Namespace,
    target: Option<(String, String)>,
    incoming: &mut Incoming,
    out: &mpsc::Sender<Message>,
) -> Result<(), Failure> {
    let (host, port) = match target {
        Some((host, port)) => (host, checked_port(port.parse().ok())?),
        None => first_message(incoming).await?,
    };
    let host = if host.is_empty() {
        "localhost".to_owned()
    } else {
        host
    };
    let connecting = tokio::time::timeout(CONNECT, namespace.connect(&host, port)).await;
    let stream = match connecting.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(stream) => stream,
        Err(error) => {
            let why = format!(
                "Failed to connect to target: {}: {error}",
                name(&host, port)
            );
            let status = json!({"status": "error", "error": why});
            let _ = out.send(Message::Text(status.to_string().into())).await;
            let code = INTERNAL;
            return Err(Failure { code, why });
        }
    };
    let _ = stream.set_nodelay(true);
    let status = json!({"status": "connected", "target": name(&host, port)});
    if out
        .send(Message::Text(status.to_string().into()))
        .await
        .is_err()
    {
        return Ok(());
    }
    let (reader, writer) = stream.into_split();
    tokio::select! {
        () = from_target(reader, out) => {}
        () = to_target(writer, incoming) => {}
    }
    Ok(())
}

async fn first_message(incoming: &mut Incoming) -> Result<(String, u16), Failure> {
    let bad = |why: &str| Failure {
        code: UNSUPPORTED,
        why: why.to_owned(),
    };
    loop {
        match incoming.next().await {
            Some(Message::Text(text)) => {
                let target: Target = serde_json::from_str(&text)
                    .map_err(|_| bad("Invalid JSON in initialization message"))?;
                let port = u16::try_from(target.port).ok();
                return Ok((target.host, checked_port(port)?));
            }
            Some(Message::Ping(_) | Message::Pong(_)) => {}
            _ => return Err(bad("Expected JSON initialization message")),
        }
    }
}

fn checked_port(port: Option<u16>) -> Result<u16, Failure> {
    port.filter(|port| *port > 0).ok_or_else(|| Failure {
        code: UNSUPPORTED,
        why: "Invalid port number".to_owned(),
    })
}

fn name(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

async fn from_target(mut reader: OwnedReadHalf, out: &mpsc::Sender<Message>) {
    let mut buffer = BytesMut::new();
    let mut silence = Silence::of(KEEP_ALIVE);
    loop {
        buffer.reserve(PIECE);
        let read = tokio::select! {
            biased;
            read = reader.read_buf(&mut buffer) => read,
            // A client that left while the target does not read is noticed by writing to it.
            () = silence.lasts() => {
                if out.send(Message::Ping(Bytes::new())).await.is_err() {
                    return;
                }
                continue;
            }
        };
        match read {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                silence.broken();
                let piece = buffer.split().freeze();
                if out.send(Message::Binary(piece)).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn to_target(mut writer: OwnedWriteHalf, incoming: &mut Incoming) {
    while let Some(message) = incoming.next().await {
        // Texts are of no meaning any more.
        if let Message::Binary(bytes) = message
            && writer.write_all(&bytes).await.is_err()
        {
            return;
        }
    }
}
