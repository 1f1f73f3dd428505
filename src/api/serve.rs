//! Listening.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use axum::serve::ListenerExt as _;
use axum::{Extension, Router};
use tokio::net::{TcpListener, UnixListener};

use crate::config::Listen;

/// An open listener.
#[derive(Debug)]
pub enum Listener {
    /// On TCP.
    Tcp(TcpListener),
    /// On a unix socket.
    Unix(UnixListener),
}

/// Why nothing can be listened at.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {address}: {source}")]
pub struct ListenError {
    /// Where.
    pub address: String,
    /// Why not.
    pub source: io::Error,
}

/// Opens a listener.
pub async fn listen(at: &Listen) -> Result<Listener, ListenError> {
    match at {
        Listen::Tcp(addresses) => listen_tcp(addresses).await.map(Listener::Tcp),
        Listen::Unix(path) => listen_unix(path)
            .map(Listener::Unix)
            .map_err(|source| ListenError {
                address: format!("unix:{}", path.display()),
                source,
            }),
    }
}

/// The first address that works: `:port` means IPv6 and IPv4, or IPv4 alone.
async fn listen_tcp(addresses: &[SocketAddr]) -> Result<TcpListener, ListenError> {
    let mut failed = ListenError {
        address: "no address".to_owned(),
        source: io::ErrorKind::InvalidInput.into(),
    };
    for address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(source) => {
                failed = ListenError {
                    address: address.to_string(),
                    source,
                };
            }
        }
    }
    Err(failed)
}

fn listen_unix(path: &Path) -> io::Result<UnixListener> {
    // A socket that an earlier run left behind is in the way; anything else is not ours.
    if path
        .symlink_metadata()
        .is_ok_and(|meta| meta.file_type().is_socket())
    {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// That a request came by a unix socket, as a rule from within the environment.
#[derive(Clone, Copy, Debug)]
pub struct OnSocket;

impl Listener {
    /// Where it listens, for people.
    #[must_use]
    pub fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => listener
                .local_addr()
                .map_or_else(|_| "unknown".to_owned(), |address| address.to_string()),
            Self::Unix(listener) => listener
                .local_addr()
                .ok()
                .and_then(|address| address.as_pathname().map(|p| p.display().to_string()))
                .map_or_else(|| "unknown".to_owned(), |path| format!("unix:{path}")),
        }
    }

    /// Serves until the process ends.
    pub async fn serve(self, router: Router) -> io::Result<()> {
        // A bare router would build all its routes anew for each connection.
        match self {
            Self::Tcp(listener) => {
                let router = router.into_make_service();
                let listener = listener.tap_io(|stream| {
                    // Each line of a stream is worth a packet of its own.
                    let _ = stream.set_nodelay(true);
                });
                axum::serve(listener, router).await
            }
            Self::Unix(listener) => {
                let router = router.layer(Extension(OnSocket)).into_make_service();
                axum::serve(listener, router).await
            }
        }
    }
}
