//! The daemon under measurement, and a client of it.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command};

use tungstenite::client::IntoClientRequest as _;
use tungstenite::{Message, WebSocket};

use crate::shared::{TOKEN, start_daemon, stop_daemon};

/// A daemon; killed when dropped.
pub struct Daemon {
    child: Child,
    address: String,
}

impl Daemon {
    /// Starts one whose main process does nothing, and waits until it listens.
    pub fn start(dir: &Path) -> Self {
        let config = dir.join("config.json");
        std::fs::write(&config, r#"{"limits": {"exec_sessions": 2000}}"#).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sprite-env"));
        command
            .args(["-listen", "127.0.0.1:0", "-config"])
            .arg(config)
            .args(["--", "sleep", "100000"])
            .env_remove("SPRITE_WRITE_DIR");
        let (child, address) = start_daemon(&mut command);
        Self { child, address }
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The headers that a plain HTTP request needs.
    pub fn headers() -> String {
        format!("Authorization: Bearer {TOKEN}\r\n")
    }

    pub fn socket(&self, path: &str) -> WebSocket<TcpStream> {
        socket(&self.address, path)
    }

    /// A field of `/proc/PID/smaps_rollup`, in KiB.
    pub fn memory(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let rollup = std::fs::read_to_string(path).unwrap();
        let line = rollup.lines().find(|line| line.starts_with(field));
        line.and_then(|line| line.split_ascii_whitespace().nth(1))
            .map_or(0, |number| number.parse().unwrap())
    }

    /// How many files are open.
    pub fn files(&self) -> usize {
        self.entries("fd")
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.entries("task")
    }

    fn entries(&self, of: &str) -> usize {
        std::fs::read_dir(format!("/proc/{}/{of}", self.child.id()))
            .unwrap()
            .count()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        stop_daemon(&mut self.child);
    }
}

/// Opens a WebSocket.
pub fn socket(address: &str, path: &str) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut request = format!("ws://{address}{path}")
        .into_client_request()
        .unwrap();
    let token = format!("Bearer {TOKEN}").parse().unwrap();
    request.headers_mut().insert("authorization", token);
    tungstenite::client(request, stream).unwrap().0
}

/// Reads a session without a terminal to its exit; the bytes of its output.
pub fn until_exit(socket: &mut WebSocket<TcpStream>) -> u64 {
    let mut bytes = 0;
    loop {
        match socket.read().unwrap() {
            Message::Binary(frame) if frame.first() == Some(&3) => return bytes,
            Message::Binary(frame) => bytes += (frame.len() as u64).saturating_sub(1),
            _ => {}
        }
    }
}
