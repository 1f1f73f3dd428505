//! A WebSocket client that says exactly what a test wants said.

use std::net::TcpStream;

use tungstenite::client::IntoClientRequest as _;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

use super::http::Client;
use super::{PATIENCE, TOKEN, Value};

/// An open connection.
pub struct Socket {
    socket: WebSocket<TcpStream>,
    /// The headers of the answer to the upgrade.
    pub headers: tungstenite::http::HeaderMap,
}

/// Something that came.
#[derive(Clone, Debug, PartialEq)]
pub enum Came {
    Text(Value),
    /// A text that is no JSON.
    Words(String),
    Bytes(Vec<u8>),
    Close(u16),
    /// The connection ended without a close.
    End,
}

impl Client {
    /// Opens a WebSocket; the status if it is refused.
    pub fn socket(&self, path: &str) -> Result<Socket, u16> {
        self.socket_as(path, "a test")
    }

    /// As a client of that name.
    pub fn socket_as(&self, path: &str, agent: &str) -> Result<Socket, u16> {
        let address = self.base().strip_prefix("http://").unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut request = format!("ws://{address}{path}")
            .into_client_request()
            .unwrap();
        let headers = request.headers_mut();
        headers.insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
        headers.insert("user-agent", agent.parse().unwrap());
        match tungstenite::client(request, stream) {
            Ok((socket, response)) => Ok(Socket {
                socket,
                headers: response.headers().clone(),
            }),
            Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response))) => {
                Err(response.status().as_u16())
            }
            Err(error) => panic!("{error}"),
        }
    }
}

impl Socket {
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.socket
            .send(Message::Binary(bytes.to_vec().into()))
            .unwrap();
    }

    pub fn text(&mut self, text: &str) {
        self.socket.send(Message::Text(text.into())).unwrap();
    }

    pub fn json(&mut self, value: &Value) {
        self.text(&value.to_string());
    }

    /// What comes next; pings and empty messages are passed over.
    pub fn next(&mut self) -> Came {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    let words = || Came::Words(text.to_string());
                    return serde_json::from_str(&text).map_or_else(|_| words(), Came::Text);
                }
                Ok(Message::Binary(bytes)) if bytes.is_empty() => {}
                Ok(Message::Binary(bytes)) => return Came::Bytes(bytes.to_vec()),
                Ok(Message::Close(frame)) => {
                    let code = frame.map_or(CloseCode::Status, |frame| frame.code);
                    return Came::Close(code.into());
                }
                Ok(_) => {}
                Err(_) => return Came::End,
            }
        }
    }

    /// The first message: about the session.
    pub fn info(&mut self) -> Value {
        match self.next() {
            Came::Text(info) if info["type"] == "session_info" => info,
            other => panic!("{other:?} came first"),
        }
    }

    /// Everything to the exit of a command without a terminal: standard output, standard
    /// error, exit code. The close comes right after.
    pub fn until_exit(&mut self) -> (Vec<u8>, Vec<u8>, u8) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        loop {
            match self.next() {
                Came::Bytes(frame) => match frame[0] {
                    1 => out.extend_from_slice(&frame[1..]),
                    2 => err.extend_from_slice(&frame[1..]),
                    3 => {
                        assert_eq!(frame.len(), 2);
                        assert_eq!(self.next(), Came::Close(1000));
                        return (out, err, frame[1]);
                    }
                    other => panic!("a frame of kind {other}"),
                },
                other => panic!("{other:?} before the exit; until then {out:?} {err:?}"),
            }
        }
    }

    /// Reads a terminal until it shows `needle`; returns all that it showed.
    pub fn until(&mut self, needle: &str) -> String {
        let mut shown = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&shown).into_owned();
            if text.contains(needle) {
                return text;
            }
            match self.next() {
                Came::Bytes(bytes) => shown.extend(bytes),
                other => panic!("{other:?}; until then {text:?}"),
            }
        }
    }

    /// Leaves without a word, as a client does that crashes.
    pub fn vanish(self) {
        drop(self);
    }

    pub fn close(mut self) {
        let _ = self.socket.close(None);
        while self.next() != Came::End {}
    }
}
