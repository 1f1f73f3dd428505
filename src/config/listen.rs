//! Addresses to listen at.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};

/// An address to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address; with `:port`, all interfaces, IPv6 and IPv4.
    Tcp(Vec<SocketAddr>),
    /// A unix socket.
    Unix(PathBuf),
}

impl Listen {
    /// Reads `host:port`, `:port` or `unix:/path`; a relative path is one below `base_dir`. The
    /// error is a sentence.
    pub fn parse(text: &str, base_dir: &Path) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return std::path::absolute(base_dir.join(path))
                .map(Self::Unix)
                .map_err(|error| format!("\"{text}\" names no socket: {error}"));
        }
        if let Some(port) = text.strip_prefix(':') {
            let port: u16 = port
                .parse()
                .map_err(|_| format!("\"{text}\" has no port from 0 to 65535 behind the colon"))?;
            // One IPv6 socket takes IPv4 too; where there is no IPv6, IPv4 alone.
            return Ok(Self::Tcp(vec![
                SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            ]));
        }
        text.to_socket_addrs()
            .map(|addresses| Self::Tcp(addresses.collect()))
            .map_err(|error| format!("\"{text}\" is not host:port, :port or unix:/path ({error})"))
    }
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(addresses) => {
                let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                f.write_str(&addresses.join(" or "))
            }
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
