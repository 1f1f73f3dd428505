//! `GET /ports/watch`: which ports are listened on, over a WebSocket; and the messages of
//! a session about its own.

use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{Message, WebSocket};
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Shared;
use super::exec::socket::{QUEUE, Upgrade, next, no_upgrade, upgraded, write};
use super::problem::Problem;
use super::silence::Silence;
use crate::network::Port;
use crate::network::ports::Watch;

/// How long nothing may be sent to a client: then a ping is, which tells whether it is
/// still there.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Opens a connection on which ports are told. It is not held while the system starts:
/// what listens is of interest then too.
pub async fn get(State(shared): State<Shared>, upgrade: Upgrade) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|_| no_upgrade())?;
    let watch = shared.ports.watch();
    Ok(upgraded(upgrade, |socket| serve(socket, watch)))
}

async fn serve(socket: WebSocket, watch: Watch) {
    let (sink, mut stream) = socket.split();
    let (out, queue) = mpsc::channel(QUEUE);
    tokio::select! {
        () = write(sink, queue) => {}
        () = tell(watch, &out) => {}
        // Nothing that a client says is of meaning here, but that it goes is.
        () = async { while next(&mut stream).await.is_some() {} } => {}
    }
}

async fn tell(mut watch: Watch, out: &mpsc::Sender<Message>) {
    let mut is_first = true;
    let mut silence = Silence::of(KEEP_ALIVE);
    loop {
        let change = tokio::select! {
            change = watch.change() => change,
            () = silence.lasts() => {
                if out.send(Message::Ping(Bytes::new())).await.is_err() {
                    return;
                }
                continue;
            }
        };
        silence.broken();
        let Some(change) = change else { return };
        let messages = if std::mem::take(&mut is_first) {
            let ports: Vec<Value> = change.opened.iter().map(described).collect();
            vec![Message::Text(
                json!({"type": "port_list", "ports": ports})
                    .to_string()
                    .into(),
            )]
        } else {
            let closed = change.closed.iter().map(closed);
            closed.chain(change.opened.iter().map(opened)).collect()
        };
        for message in messages {
            if out.send(message).await.is_err() {
                return;
            }
        }
    }
}

/// That somebody listens on a port now.
pub fn opened(port: &Port) -> Message {
    notice("port_opened", port)
}

/// That nobody does any more.
pub fn closed(port: &Port) -> Message {
    notice("port_closed", port)
}

fn notice(kind: &str, port: &Port) -> Message {
    let mut notice = described(port);
    if let Value::Object(fields) = &mut notice {
        fields.insert("type".to_owned(), kind.into());
    }
    Message::Text(notice.to_string().into())
}

fn described(port: &Port) -> Value {
    json!({"port": port.port, "address": port.address, "pid": port.pid})
}
