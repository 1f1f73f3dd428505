//! The network namespace that the environment's programs live in: ours, or another one
//! that a file stands for (`/run/netns/NAME`, `/proc/PID/ns/net`).
//!
//! A socket belongs to the namespace of the thread that made it. Threads that enter
//! another namespace are made for that and end right after, so that none of the
//! runtime's is ever anywhere but at home.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::{TcpSocket, TcpStream};

/// A network namespace.
#[derive(Clone, Debug, Default)]
pub struct Namespace {
    path: Option<PathBuf>,
}

impl Namespace {
    /// The one that `path` stands for; ours without one. It is looked up at each use:
    /// what makes the namespace may be a component that is yet to start.
    #[must_use]
    pub const fn new(path: Option<PathBuf>) -> Self {
        Self { path }
    }

    /// Runs `work`, which may block, in the namespace.
    pub async fn run<T, F>(&self, work: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> io::Result<T> + Send + 'static,
    {
        let Some(path) = self.path.clone() else {
            return tokio::task::spawn_blocking(work)
                .await
                .map_err(io::Error::other)?;
        };
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let entered = move || {
            let inside = enter(&path).and_then(|()| work());
            // Nobody may wait any more.
            let _ = sender.send(inside);
        };
        std::thread::Builder::new()
            .name("namespace".to_owned())
            .spawn(entered)?;
        receiver.await.map_err(io::Error::other)?
    }

    /// Connects to `port` of `host`: a name, an IPv4 or an IPv6 address, with or without
    /// brackets; nothing means `localhost`. Names are looked up outside the namespace.
    pub async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses(host, port).await? {
            match self.connect_to(address).await {
                Ok(stream) => return Ok(stream),
                // What was tried first is what was meant.
                Err(error) if failed.kind() == io::ErrorKind::NotFound => failed = error,
                Err(_) => {}
            }
        }
        Err(failed)
    }

    async fn connect_to(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = move || {
            if address.is_ipv4() {
                TcpSocket::new_v4()
            } else {
                TcpSocket::new_v6()
            }
        };
        let socket = match self.path {
            None => socket()?,
            Some(_) => self.run(socket).await?,
        };
        socket.connect(address).await
    }
}

fn enter(path: &PathBuf) -> io::Result<()> {
    let cannot = |error: io::Error| {
        let why = format!(
            "cannot enter the network namespace {}: {error}",
            path.display()
        );
        io::Error::new(error.kind(), why)
    };
    let file = File::open(path).map_err(cannot)?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|error| cannot(error.into()))
}

async fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if bare.is_empty() || bare.eq_ignore_ascii_case("localhost") {
        // Whatever /etc/hosts of the environment says.
        let v4 = SocketAddr::from(([127, 0, 0, 1], port));
        let v6 = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1_u16], port));
        return Ok(vec![v4, v6]);
    }
    Ok(tokio::net::lookup_host((bare, port)).await?.collect())
}
