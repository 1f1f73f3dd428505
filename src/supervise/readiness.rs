//! How a component's start is found to be over.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;

use regex_lite::Regex;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::unix::pipe;

use super::output::Backlog;
use super::probe::Asker;
use crate::config;
use crate::spawn::{Program, SpawnError};
use crate::sys;

/// The largest message that is read from `NOTIFY_SOCKET`.
const LONGEST_MESSAGE: usize = 4096;

/// What tells that a start is over.
#[derive(Clone, Debug)]
pub enum Ready {
    /// Nothing has to: it is when the process runs.
    AtOnce,
    /// Nothing does: the process is there to end.
    Never,
    /// What the configuration names.
    When(config::Ready),
}

/// What must be there before the process starts, for it to tell.
#[derive(Debug)]
pub enum Awaited {
    /// Nothing.
    Nothing,
    /// A socket that it writes to, and the only user who may, beside root.
    Socket(AsyncFd<OwnedFd>, u32),
    /// A pipe that it writes to.
    Pipe(pipe::Receiver),
}

/// Why it cannot be found out whether a component is ready.
#[derive(Debug, thiserror::Error)]
pub enum Deaf {
    /// Its command cannot be run.
    #[error(transparent)]
    Command(#[from] SpawnError),
    /// There is nothing left that could tell.
    #[error("it cannot tell any more: {0}")]
    Lost(io::Error),
    /// It let go of what it was to tell by.
    #[error("it closed the descriptor without a word")]
    Closed,
}

impl Ready {
    /// Gives `program` what it needs to tell.
    pub fn prepare(&self, program: &mut Program) -> io::Result<Awaited> {
        match self {
            Self::When(config::Ready::Notify) => {
                let mut random = [0; 16];
                getrandom::fill(&mut random).map_err(io::Error::other)?;
                let name = format!("sprite-env/{:032x}", u128::from_ne_bytes(random));
                let address = SocketAddr::from_abstract_name(&name)?;
                let socket = UnixDatagram::bind_addr(&address)?;
                socket.set_nonblocking(true)?;
                sockopt::set_socket_passcred(&socket, true)?;
                let variable = ("NOTIFY_SOCKET".to_owned(), format!("@{name}"));
                program.environment.extend([variable]);
                let ours = rustix::process::geteuid().as_raw();
                let user = program.user.as_ref().map_or(ours, |user| user.uid);
                Ok(Awaited::Socket(
                    sys::watch(socket.into(), Interest::READABLE)?,
                    user,
                ))
            }
            Self::When(config::Ready::Descriptor(number)) => {
                let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
                program.descriptors.push((*number, Arc::new(writer)));
                let reader = pipe::Receiver::from_owned_fd(reader)?;
                Ok(Awaited::Pipe(reader))
            }
            _ => Ok(Awaited::Nothing),
        }
    }

    /// Ends when the start is over. Of what never is, this does not end.
    pub async fn wait(&self, awaited: Awaited, asker: &Asker) -> Result<(), Deaf> {
        use config::Ready as R;
        match (self, awaited) {
            (Self::When(R::Asked(probe)), _) => Ok(asker.until_good(probe, "ready").await?),
            (Self::When(R::Log(pattern)), _) => {
                find_line(&asker.backlog, pattern).await;
                Ok(())
            }
            (Self::When(R::Notify), Awaited::Socket(socket, user)) => {
                let heard = notified(socket, user, &asker.name).await;
                heard.map_err(Deaf::Lost)
            }
            (Self::When(R::Descriptor(_)), Awaited::Pipe(pipe)) => line(pipe).await,
            (Self::Never, _) => std::future::pending().await,
            _ => Ok(()),
        }
    }
}

/// Waits for a line that matches.
async fn find_line(backlog: &Backlog, pattern: &Regex) {
    let mut lines = backlog.lines();
    while let Some(line) = lines.next().await {
        if pattern.is_match(&line) {
            return;
        }
    }
}

/// Waits for `READY=1` (sd_notify(3): assignments, one a line).
async fn notified(socket: AsyncFd<OwnedFd>, user: u32, name: &str) -> io::Result<()> {
    loop {
        let mut ready = socket.readable().await?;
        let Ok(message) = ready.try_io(|fd| receive(fd.get_ref())) else {
            continue;
        };
        let (text, sender) = message?;
        if sender != Some(0) && sender != Some(user) {
            tracing::warn!(
                component = name,
                ?sender,
                "a stranger says that it is ready"
            );
            continue;
        }
        for line in text.lines() {
            match line.split_once('=') {
                Some(("READY", "1")) => return Ok(()),
                Some(("STATUS", status)) => tracing::info!(component = name, "{status}"),
                _ => {}
            }
        }
    }
}

/// A message, and the user who sent it.
fn receive(socket: &OwnedFd) -> io::Result<(String, Option<u32>)> {
    let mut bytes = [0; LONGEST_MESSAGE];
    let mut space = [std::mem::MaybeUninit::uninit(); 64];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [io::IoSliceMut::new(&mut bytes)];
    let received = recvmsg(
        socket.as_fd(),
        &mut buffers,
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let sender = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmCredentials(credentials) => Some(credentials.uid.as_raw()),
        _ => None,
    });
    let text = bytes.get(..received.bytes).unwrap_or_default();
    Ok((String::from_utf8_lossy(text).into_owned(), sender))
}

/// Waits for a line (s6: "notification-fd").
async fn line(mut pipe: pipe::Receiver) -> Result<(), Deaf> {
    let mut buffer = [0; 64];
    loop {
        match pipe.read(&mut buffer).await.map_err(Deaf::Lost)? {
            0 => return Err(Deaf::Closed),
            read if buffer.iter().take(read).any(|byte| *byte == b'\n') => return Ok(()),
            _ => {}
        }
    }
}
