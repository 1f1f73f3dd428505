//! `GET /control`: one WebSocket for one operation after another, each like a connection
//! of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::ws::{Message, WebSocket};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::Shared;
use super::exec::conversation::{Dialect, Listener, speak};
use super::exec::query::Query;
use super::exec::sessions;
use super::exec::socket::{QUEUE, Upgrade, next, no_upgrade, upgraded, write};
use super::problem::Problem;
use super::proxy::{self, Incoming};
use crate::exec::Attachment;
use crate::network::{Namespace, Ports};

/// What makes a text message an envelope.
const PREFIX: &str = "control:";
/// This client reads its own answers away: it works over direct connections only, and
/// goes there by itself when there is no `/control`.
const WITHOUT_CONTROL: &str = "sprites-go-sdk/";

/// An envelope from a client.
#[derive(Debug, Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    op: String,
    #[serde(default)]
    args: Map<String, Value>,
}

/// Opens a control connection. A query may start the first operation.
pub async fn get(
    State(shared): State<Shared>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    upgrade: Upgrade,
) -> Result<Response, Problem> {
    let agent = headers.get(header::USER_AGENT);
    let agent = agent
        .and_then(|agent| agent.to_str().ok())
        .unwrap_or_default();
    if agent.starts_with(WITHOUT_CONTROL) {
        return Err(Problem::not_found(
            "control connections do not work with this client; it uses direct ones instead",
        ));
    }
    let upgrade = upgrade.map_err(|_| no_upgrade())?;
    shared.hold_for_commands().await?;
    let query = Query::parse(query.as_deref());
    Ok(upgraded(upgrade, move |socket| {
        serve(socket, shared, query)
    }))
}

async fn serve(socket: WebSocket, shared: Shared, query: Query) {
    let (sink, mut stream) = socket.split();
    let (out, queue) = mpsc::channel(QUEUE);
    let talking = async {
        let mut control = Control {
            shared,
            out,
            running: None,
        };
        if let Some(op) = query.get("op").map(str::to_owned) {
            control.start(String::new(), &op, &query).await;
        }
        while let Some(message) = control.next(&mut stream).await {
            control.take(message).await;
        }
    };
    tokio::select! {
        () = write(sink, queue) => {}
        () = talking => {}
    }
}

/// One connection.
struct Control {
    shared: Shared,
    out: mpsc::Sender<Message>,
    running: Option<Running>,
}

/// The operation under way.
struct Running {
    data: mpsc::Sender<Message>,
    /// Whether its last envelope is on its way: whoever has seen that may start another.
    is_over: Arc<AtomicBool>,
    task: AbortOnDropHandle<()>,
}

impl Control {
    /// The next message of the client. Meanwhile an operation may end.
    async fn next(
        &mut self,
        stream: &mut futures_util::stream::SplitStream<WebSocket>,
    ) -> Option<Message> {
        loop {
            let Some(running) = &mut self.running else {
                return next(stream).await;
            };
            tokio::select! {
                biased;
                _ = &mut running.task => self.running = None,
                message = next(stream) => return message,
            }
        }
    }

    async fn take(&mut self, message: Message) {
        if let Some(running) = &mut self.running
            && running.is_over.load(Ordering::Acquire)
        {
            let _ = (&mut running.task).await;
            self.running = None;
        }
        if let Message::Text(text) = &message
            && let Some(envelope) = text.strip_prefix(PREFIX)
            && let Ok(envelope) = serde_json::from_str::<Envelope>(envelope)
        {
            return self.envelope(envelope).await;
        }
        if !matches!(message, Message::Text(_) | Message::Binary(_)) {
            return;
        }
        match &mut self.running {
            Some(running) => {
                let ended = tokio::select! {
                    sent = running.data.send(message) => sent.is_err(),
                    _ = &mut running.task => true,
                };
                if ended {
                    self.running = None;
                }
            }
            None if is_release(&message) => {}
            None => {
                let why = "no operation active; send control:op.start";
                self.error("", "", "op.not_active", why).await;
            }
        }
    }

    async fn envelope(&mut self, envelope: Envelope) {
        // Others may be invented that we need not know.
        if envelope.kind != "op.start" || envelope.op.is_empty() {
            return;
        }
        if self.running.is_some() {
            let why = "operation already running";
            return self.error(&envelope.id, &envelope.op, "op.busy", why).await;
        }
        let mut pairs = Vec::new();
        for (name, value) in envelope.args {
            match value {
                Value::Array(values) => {
                    pairs.extend(values.iter().map(|value| (name.clone(), text(value))));
                }
                value => pairs.push((name, text(&value))),
            }
        }
        let query = Query::of(pairs);
        self.start(envelope.id, &envelope.op, &query).await;
    }

    async fn start(&mut self, id: String, op: &str, query: &Query) {
        let (data, inbox) = mpsc::channel(QUEUE);
        let is_over = Arc::new(AtomicBool::new(false));
        let end = End {
            id: id.clone(),
            out: self.out.clone(),
            is_over: Arc::clone(&is_over),
        };
        let task = match op {
            "exec" => match self.exec(query).await {
                Ok((attachment, dialect, is_owner)) => {
                    let ports = self.shared.ports.clone();
                    tokio::spawn(exec(end, (attachment, ports), dialect, is_owner, inbox))
                }
                Err(problem) => {
                    return self.error(&id, op, "op.failed", problem.detail()).await;
                }
            },
            "proxy" => {
                let target = query.get("host").zip(query.get("port"));
                let target = target.map(|(host, port)| (host.to_owned(), port.to_owned()));
                let namespace = self.shared.namespace.clone();
                tokio::spawn(proxied(end, namespace, target, inbox))
            }
            _ => {
                let why = format!("there is no operation \"{op}\"; there are exec and proxy");
                return self.error(&id, op, "op.not_found", &why).await;
            }
        };
        self.running = Some(Running {
            data,
            is_over,
            task: AbortOnDropHandle::new(task),
        });
    }

    async fn exec(&self, query: &Query) -> Result<(Attachment, Dialect, bool), Problem> {
        let mut dialect = Dialect {
            raw_input: query.has("path"),
            binary_messages: !query.has("path"),
            drops_first_end: false,
        };
        if let Some(id) = query.session() {
            dialect.drops_first_end = !query.flag("tty").unwrap_or(false);
            let session = sessions::find(&self.shared, id)?;
            return Ok((session.attach(), dialect, false));
        }
        self.shared.hold_for_commands().await?;
        let attachment = self.shared.runner.start(&query.spec()?)?;
        Ok((attachment, dialect, true))
    }

    async fn error(&self, id: &str, op: &str, code: &str, why: &str) {
        let envelope = json!({
            "type": "op.error", "id": id, "op": op,
            "args": {"code": code, "message": why, "error": why},
        });
        let _ = self.out.send(enveloped(&envelope)).await;
    }
}

/// Another client says so, without a prefix, when it puts a connection aside.
fn is_release(message: &Message) -> bool {
    let Message::Text(text) = message else {
        return false;
    };
    serde_json::from_str::<Value>(text)
        .is_ok_and(|value| value.get("type").and_then(Value::as_str) == Some("release"))
}

/// A command, until its exit.
async fn exec(
    end: End,
    (mut attachment, ports): (Attachment, Ports),
    dialect: Dialect,
    is_owner: bool,
    mut inbox: mpsc::Receiver<Message>,
) {
    let mut listener = Listener::new(attachment.session(), dialect);
    let code = {
        let listening = async {
            while let Some(message) = inbox.recv().await {
                listener.hear(message).await;
            }
            std::future::pending().await
        };
        tokio::select! {
            code = speak(&mut attachment, is_owner, &ports, &end.out) => code,
            never = listening => never,
        }
    };
    let mut args = match code {
        Some(code) => json!({"ok": true, "exitCode": code}),
        None => json!({"ok": false, "exitCode": 255, "error": "the client did not read"}),
    };
    end.complete(&mut args, &mut inbox).await;
}

/// A connection to a port, until one side closes it.
async fn proxied(
    end: End,
    namespace: Namespace,
    target: Option<(String, String)>,
    inbox: mpsc::Receiver<Message>,
) {
    let mut incoming = Incoming::Inbox(inbox);
    let mut args = match proxy::run(&namespace, target, &mut incoming, &end.out).await {
        Ok(()) => json!({"ok": true}),
        Err(failure) => json!({"ok": false, "error": failure.why}),
    };
    if let Incoming::Inbox(mut inbox) = incoming {
        end.complete(&mut args, &mut inbox).await;
    }
}

/// How an operation ends.
struct End {
    id: String,
    out: mpsc::Sender<Message>,
    is_over: Arc<AtomicBool>,
}

impl End {
    /// Tells that the operation is over, and how much of what the client sent came too late.
    async fn complete(self, args: &mut Value, inbox: &mut mpsc::Receiver<Message>) {
        inbox.close();
        let mut dropped = 0_u32;
        while inbox.try_recv().is_ok() {
            dropped += 1;
        }
        if dropped > 0 {
            args["dropped"] = dropped.into();
        }
        let envelope = json!({"type": "op.complete", "id": self.id, "args": args});
        self.is_over.store(true, Ordering::Release);
        let _ = self.out.send(enveloped(&envelope)).await;
    }
}

fn enveloped(envelope: &Value) -> Message {
    Message::Text(format!("{PREFIX}{envelope}").into())
}

/// A value as it would stand in a query.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
