//! Sockets that are open for a component before it runs, and while it is restarted
//! (sd_listen_fds(3)).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::config::{Component, Listen};
use crate::spawn::Program;

/// The first number that a component knows a socket by.
const FIRST: i32 = 3;
/// The name under which our own program tells another its process id, and becomes it.
const LAUNCHER: &str = "sprite-env: with LISTEN_PID";

/// Why a socket cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("components.{component}.listen: cannot listen at {address}: {source}")]
pub struct SocketError {
    component: String,
    address: String,
    source: io::Error,
}

/// The sockets that are open for components.
#[derive(Debug)]
pub struct Sockets {
    /// Whether the descriptors that components know them by are kept free.
    are_possible: bool,
    /// Those that are open, for as long as a component has them, by address.
    open: Mutex<BTreeMap<String, Weak<OwnedFd>>>,
}

impl Sockets {
    /// With none open. `are_possible`: whether descriptors are kept free for them.
    #[must_use]
    pub const fn new(are_possible: bool) -> Self {
        Self {
            are_possible,
            open: Mutex::new(BTreeMap::new()),
        }
    }

    /// Whether components can be given any.
    #[must_use]
    pub const fn are_possible(&self) -> bool {
        self.are_possible
    }

    /// The sockets of each of `components`; those that are open already are the same. Fails
    /// before a unix socket takes another's place if it does so for a TCP address.
    pub fn open<'a>(
        &self,
        components: &'a [Component],
    ) -> Result<Vec<Vec<Arc<OwnedFd>>>, SocketError> {
        // Each change is whole before anything could panic.
        let mut known = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, socket| socket.strong_count() > 0);
        let mut open: BTreeMap<String, Arc<OwnedFd>> = BTreeMap::new();
        let all = || {
            let each = |component: &'a Component| {
                let addresses = component.listen.iter();
                addresses.map(move |address| (component, address, address.to_string()))
            };
            components.iter().flat_map(each)
        };
        let is_unix = |address: &Listen| matches!(address, Listen::Unix(_));
        let tcp = all().filter(|(_, address, _)| !is_unix(address));
        let unix = all().filter(|(_, address, _)| is_unix(address));
        for (component, address, key) in tcp.chain(unix) {
            if open.contains_key(&key) {
                continue;
            }
            let socket = match known.get(&key).and_then(Weak::upgrade) {
                Some(socket) => socket,
                None => Arc::new(listen(address).map_err(|source| SocketError {
                    component: component.name.clone(),
                    address: key.clone(),
                    source,
                })?),
            };
            open.insert(key, socket);
        }
        let weak = |(key, socket): (&String, &Arc<OwnedFd>)| (key.clone(), Arc::downgrade(socket));
        known.extend(open.iter().map(weak));
        let of_one = |component: &Component| {
            let sockets = component.listen.iter();
            let sockets = sockets.filter_map(|address| open.get(&address.to_string()).cloned());
            sockets.collect()
        };
        Ok(components.iter().map(of_one).collect())
    }
}

fn listen(address: &Listen) -> io::Result<OwnedFd> {
    match address {
        Listen::Tcp(addresses) => Ok(TcpListener::bind(addresses.as_slice())?.into()),
        Listen::Unix(path) => {
            remove_stale(path)?;
            Ok(UnixListener::bind(path)?.into())
        }
    }
}

/// A socket that an earlier run has left behind. Whatever else is there stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path),
        _ => Ok(()),
    }
}

/// Gives `sockets` to `program`. It is to see its own process id in `LISTEN_PID`, which
/// nobody knows before it runs: our own program, under another name, finds it out.
pub fn give(sockets: &[Arc<OwnedFd>], program: &mut Program) {
    if sockets.is_empty() {
        return;
    }
    let numbered = (FIRST..).zip(sockets.iter().cloned());
    program.descriptors.extend(numbered);
    let count = ("LISTEN_FDS".to_owned(), sockets.len().to_string());
    program.environment.extend([count]);
    program.command.insert(0, "/proc/self/exe".to_owned());
    program.arg0 = Some(LAUNCHER.to_owned());
}

/// Becomes the program that the arguments name, with `LISTEN_PID`, if this is what we were
/// started for. Returns only if not; the exit code is that of a shell.
pub fn launch(arguments: impl IntoIterator<Item = OsString>) -> Option<u8> {
    let mut arguments = arguments.into_iter();
    if arguments.next()? != LAUNCHER {
        return None;
    }
    let program = arguments.next()?;
    let error = Command::new(&program)
        .args(arguments)
        .env("LISTEN_PID", std::process::id().to_string())
        .exec();
    eprintln!("sprite-env: cannot run {}: {error}", program.display());
    let missing = error.kind() == io::ErrorKind::NotFound;
    Some(if missing { 127 } else { 126 })
}
