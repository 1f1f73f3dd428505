//! One command: started, read, timed, ended with its whole process group.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use machines::exit::Exit;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

use super::lines::{Cutter, Data};
use super::sessions::{Admission, NotAdmitted, Sessions};
use crate::config::{Config, User};
use crate::reaper::Child;
use crate::spawn::{Program, Spawner, Streams};

/// How many events may wait for a client. The command waits beyond that.
const EVENTS: usize = 64;
/// The exit code of a command that took too long, as timeout(1) has it.
const TIMED_OUT: u8 = 124;

/// What is to be run.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// What is added to its environment.
    pub environment: BTreeMap<String, String>,
    /// Where it runs; none = where the main process does.
    pub working_dir: Option<PathBuf>,
    /// What it reads from its standard input; none = nothing.
    pub stdin: Option<Vec<u8>>,
}

/// What comes of it, in order. The last is `Exit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It wrote to its standard output.
    Stdout(Data),
    /// It wrote to its standard error.
    Stderr(Data),
    /// Something went wrong; an `Exit` follows.
    Error(String),
    /// It is gone; this is its exit code.
    Exit(u8),
}

/// Runs commands.
#[derive(Clone, Debug)]
pub struct Runner {
    spawner: Spawner,
    sessions: Sessions,
    wrapper: Vec<String>,
    working_dir: Option<PathBuf>,
    environment: BTreeMap<String, String>,
    user: Option<User>,
}

impl Runner {
    /// Commands run as the main process does: same directory, environment and user.
    #[must_use]
    pub fn new(config: &Config, spawner: Spawner, sessions: Sessions) -> Self {
        Self {
            spawner,
            sessions,
            wrapper: config.exec.wrapper.clone(),
            working_dir: config.process.working_dir.clone(),
            environment: config.process.environment.clone(),
            user: config.process.user.clone(),
        }
    }

    /// The commands that run now.
    #[must_use]
    pub const fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Runs a command. When the receiver is dropped the command is killed.
    pub fn run(&self, request: Request) -> Result<mpsc::Receiver<Event>, NotAdmitted> {
        let admission = self.sessions.admit()?;
        let (events, receiver) = mpsc::channel(EVENTS);
        tokio::spawn(self.clone().session(request, admission, events));
        Ok(receiver)
    }

    async fn session(self, request: Request, admission: Admission, events: mpsc::Sender<Event>) {
        let mut environment = self.environment.clone();
        environment.extend(request.environment);
        let program = Program {
            command: self
                .wrapper
                .iter()
                .cloned()
                .chain(request.command)
                .collect(),
            working_dir: request.working_dir.or_else(|| self.working_dir.clone()),
            environment,
            user: self.user.clone(),
            streams: if request.stdin.is_some() {
                Streams::Piped
            } else {
                Streams::Output
            },
            foreground: false,
        };
        let child = match self.spawner.spawn_soon(program).await {
            Ok(child) => child,
            Err(error) => {
                let _ = events.send(Event::Error(error.to_string())).await;
                let _ = events.send(Event::Exit(error.exit_code())).await;
                return;
            }
        };
        let pid = child.pid;
        let kill = self.spawner.reaper.guard(pid);
        admission.started(pid);
        let limit = async {
            match request.timeout {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            code = watch(child, request.stdin, &events) => {
                kill.disarm();
                let _ = events.send(Event::Exit(code)).await;
            }
            () = events.closed() => tracing::debug!(pid, "the client left: its command is killed"),
            () = limit => {
                drop(kill);
                let after = request.timeout.map(crate::config::value::format_duration);
                let after = after.unwrap_or_default();
                let why = format!("timed out after {after}; the command was killed");
                let _ = events.send(Event::Error(why)).await;
                let _ = events.send(Event::Exit(TIMED_OUT)).await;
            }
        }
    }
}

/// Passes on everything the child writes, then returns its exit code.
async fn watch(child: Child, stdin: Option<Vec<u8>>, events: &mpsc::Sender<Event>) -> u8 {
    if let (Some(text), Some(fd)) = (stdin, child.stdin) {
        tokio::spawn(async move {
            if let Ok(mut input) = pipe::Sender::from_owned_fd(fd.into()) {
                // The command need not read it all.
                let _ = input.write_all(&text).await;
            }
        });
    }
    let stdout = child
        .stdout
        .and_then(|fd| pipe::Receiver::from_owned_fd(fd.into()).ok());
    let stderr = child
        .stderr
        .and_then(|fd| pipe::Receiver::from_owned_fd(fd.into()).ok());
    let (out_end, out_over) = oneshot::channel();
    let (err_end, err_over) = oneshot::channel();
    let exit = async {
        let exit = child.exit.await.unwrap_or(Exit::Signal(9));
        let _ = out_end.send(());
        let _ = err_end.send(());
        exit
    };
    let (exit, (), ()) = tokio::join!(
        exit,
        copy(stdout, out_over, events, Event::Stdout),
        copy(stderr, err_over, events, Event::Stderr),
    );
    exit.code()
}

/// Passes on `source` until its end; or, once the child is gone (`over`), until it is
/// empty: what the child wrote is in the pipe by then, and a grandchild may keep the
/// pipe open for ever.
async fn copy(
    source: Option<pipe::Receiver>,
    mut over: oneshot::Receiver<()>,
    events: &mpsc::Sender<Event>,
    event: fn(Data) -> Event,
) {
    let Some(source) = source else { return };
    let mut cutter = Cutter::default();
    let mut buffer = vec![0; 32 * 1024];
    let mut is_over = false;
    loop {
        // Not `try_read`: it asks the kernel only when the kernel has said that there is
        // something, and what the child wrote last may not have been said yet.
        match rustix::io::read(&source, &mut buffer[..]) {
            Ok(0) => break,
            Ok(read) => {
                for data in cutter.push(buffer.get(..read).unwrap_or_default()) {
                    let _ = events.send(event(data)).await;
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if !is_over => {
                if let Some(data) = cutter.flush() {
                    let _ = events.send(event(data)).await;
                }
                is_over = wait_for_more(&source, &mut over).await;
            }
            // Empty, and nothing more comes; or not to be read at all.
            Err(_) => break,
        }
    }
    if let Some(data) = cutter.finish() {
        let _ = events.send(event(data)).await;
    }
}

/// Waits until there is something to read, or the child is gone: then returns true.
async fn wait_for_more(source: &pipe::Receiver, over: &mut oneshot::Receiver<()>) -> bool {
    loop {
        tokio::select! {
            biased;
            _ = &mut *over => return true,
            ready = source.readable() => if ready.is_err() { return true },
        }
        // Clears a readiness that an earlier read has used up.
        let peeked = source.try_io(|| {
            let mut waiting = [PollFd::new(source, PollFlags::IN)];
            match rustix::event::poll(&mut waiting, Some(&Timespec::default()))? {
                0 => Err(std::io::ErrorKind::WouldBlock.into()),
                _ => Ok(()),
            }
        });
        if peeked.is_ok() {
            return false;
        }
    }
}
