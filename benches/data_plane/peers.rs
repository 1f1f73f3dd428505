//! What the daemon is measured against: the same work by programs that do nothing else.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;

/// A program; killed when dropped.
pub struct Peer {
    child: Child,
    /// Where it listens.
    pub port: u16,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

/// A port that nobody has.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn start(mut command: Command, port: u16) -> Option<Peer> {
    let child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let peer = Peer { child, port };
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::yield_now();
    }
    Some(peer)
}

/// nginx, serving `dir`; none if it is not installed.
pub fn nginx(dir: &Path) -> Option<Peer> {
    let port = free_port();
    let config = dir.join("nginx.conf");
    let text = format!(
        "daemon off; pid {dir}/nginx.pid; error_log /dev/null; worker_processes 1;\n\
         events {{}}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; default_type application/octet-stream;\n\
         server {{ listen 127.0.0.1:{port}; root {dir}; }} }}\n\
         {user}",
        dir = dir.display(),
        user = if rustix::process::getuid().is_root() {
            "user root;"
        } else {
            ""
        },
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-c").arg(config);
    start(command, port)
}

/// socat, passing on to `target`; none if it is not installed.
pub fn socat(target: u16) -> Option<Peer> {
    let port = free_port();
    let mut command = Command::new("socat");
    command.args([
        format!("TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr"),
        format!("TCP:127.0.0.1:{target}"),
    ]);
    start(command, port)
}

/// A bare tokio-tungstenite server: it echoes what comes; asked by a text for a number of
/// bytes, it sends them in messages of `chunk` bytes.
pub fn websocket(chunk: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                tokio::spawn(serve(stream, chunk));
            }
        });
    });
    address
}

async fn serve(stream: tokio::net::TcpStream, chunk: usize) {
    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else {
        return;
    };
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Text(count) => {
                let mut left: usize = count.parse().unwrap();
                while left > 0 {
                    let size = chunk.min(left);
                    left -= size;
                    if socket
                        .send(Message::Binary(vec![0; size].into()))
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            }
            Message::Binary(_) if socket.send(message).await.is_err() => return,
            _ => {}
        }
    }
}
