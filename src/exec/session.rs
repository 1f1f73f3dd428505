//! One command from its start to its end, and everybody who watches it.
//!
//! What the command writes goes to every client that is attached. A client that does not
//! read holds up the command, not our memory; one that does not read for long is detached.

mod attachment;
mod words;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::history::History;
use super::terminal::Size;
use crate::reaper::Reaper;

pub use attachment::Attachment;
pub use words::{Activity, Facts, Input, Linger, Output, Piece, Stream, frame};

/// How many pieces of output may wait for a client, each of at most 32 KiB.
const QUEUE: usize = 16;
/// How many pieces of input may wait for the command.
pub const INPUT_QUEUE: usize = 8;
/// How many signals may wait for a command to be started.
const EARLY_SIGNALS: usize = 16;
/// How long a client may hold up the command before it is detached.
const STUCK: Duration = Duration::from_secs(30);
/// How long after its last input or output a session counts as active.
const ACTIVE: Duration = Duration::from_secs(5);
/// How long a command that nobody watches any more may take to go when it is told to.
const GRACE: Duration = Duration::from_secs(5);

/// The command has ended, so there is nothing to signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the command has ended")]
pub struct Ended;

/// A command and its clients.
#[derive(Debug)]
pub struct Session {
    /// What is known from the start.
    pub facts: Facts,
    state: Mutex<State>,
    input: mpsc::Sender<Input>,
    exit: watch::Sender<Option<u8>>,
    reaper: Reaper,
}

/// A client's number, and the way to it.
type Client = (u64, mpsc::Sender<Output>);

#[derive(Debug)]
struct State {
    clients: Vec<Client>,
    next_client: u64,
    history: History,
    failure: Option<String>,
    size: Size,
    /// Our end of the terminal, while the command runs.
    terminal: Option<Arc<OwnedFd>>,
    pid: Option<i32>,
    /// Signals for a command that is still being started.
    early: Vec<i32>,
    bytes: u64,
    begun: Instant,
    last_activity: (Instant, Timestamp),
    /// Ends the command when nobody has come back.
    timer: Option<AbortHandle>,
}

impl Session {
    /// A session whose command is about to be started; the other end of its input.
    #[must_use]
    pub fn new(
        facts: Facts,
        terminal: Option<Size>,
        reaper: Reaper,
    ) -> (Arc<Self>, mpsc::Receiver<Input>) {
        let (input, receiver) = mpsc::channel(INPUT_QUEUE);
        let session = Self {
            facts,
            state: Mutex::new(State {
                clients: Vec::new(),
                next_client: 0,
                history: History::new(terminal),
                failure: None,
                size: terminal.unwrap_or_default(),
                terminal: None,
                pid: None,
                early: Vec::new(),
                bytes: 0,
                begun: Instant::now(),
                last_activity: (Instant::now(), Timestamp::now()),
                timer: None,
            }),
            input,
            exit: watch::Sender::new(None),
            reaper,
        };
        (Arc::new(session), receiver)
    }

    /// A new client: it sees what the others have seen, and then what they see.
    pub fn attach(self: &Arc<Self>) -> Attachment {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut state = self.lock();
        let replay = state.history.replay();
        let mut replay: VecDeque<_> = replay
            .into_iter()
            .map(|(stream, piece)| Output::Data(stream, piece))
            .collect();
        replay.extend(state.failure.clone().map(Output::Failed));
        let key = state.next_client;
        state.next_client += 1;
        if let Some(code) = *self.exit.borrow() {
            replay.push_back(Output::Exit(code));
        } else {
            state.clients.push((key, sender));
        }
        if let Some(timer) = state.timer.take() {
            timer.abort();
        }
        drop(state);
        Attachment::new(Arc::clone(self), key, replay, receiver)
    }

    /// The command runs as `pid`, with our end of its terminal if it has one. What
    /// clients asked for too early is done now.
    pub fn started(&self, pid: i32, terminal: Option<Arc<OwnedFd>>) {
        let (size, early) = {
            let mut state = self.lock();
            state.pid = Some(pid);
            state.terminal = terminal;
            (state.size, std::mem::take(&mut state.early))
        };
        self.resize(size);
        for signal in early {
            self.reaper.signal_group(pid, signal);
        }
    }

    /// The command could not be started.
    pub async fn failed(&self, why: String) {
        let clients = {
            let mut state = self.lock();
            state.failure = Some(why.clone());
            state.clients.clone()
        };
        self.send(clients, &Output::Failed(why)).await;
    }

    /// The command wrote `piece`. Waits for the slowest client.
    pub async fn emit(&self, stream: Stream, piece: Piece) {
        // Who attaches later finds it in the history, and must not hear it twice.
        let clients = {
            let mut state = self.lock();
            state.history.record(stream, &piece);
            state.bytes += piece.payload().len() as u64;
            state.last_activity = (Instant::now(), Timestamp::now());
            state.clients.clone()
        };
        self.send(clients, &Output::Data(stream, piece)).await;
    }

    /// The command is gone and everything it wrote was emitted.
    pub async fn finish(&self, code: u8) {
        let clients = {
            let mut state = self.lock();
            self.exit.send_replace(Some(code));
            state.terminal = None;
            if self.facts.linger == Linger::Kill {
                // Nobody can come to see it.
                state.history = History::new(None);
            }
            std::mem::take(&mut state.clients)
        };
        for (_, client) in clients {
            let _ = tokio::time::timeout(STUCK, client.send(Output::Exit(code))).await;
        }
    }

    async fn send(&self, clients: Vec<Client>, output: &Output) {
        for (key, client) in clients {
            let sent = tokio::time::timeout(STUCK, client.send(output.clone())).await;
            if !matches!(sent, Ok(Ok(()))) {
                tracing::debug!(
                    session = self.facts.id,
                    "a client that does not read is detached"
                );
                self.lock().clients.retain(|(other, _)| *other != key);
            }
        }
    }

    /// Passes on a client's input. Waits while the command does not read; returns false
    /// when it never will.
    pub async fn input(&self, input: Input) -> bool {
        self.lock().last_activity = (Instant::now(), Timestamp::now());
        let mut exit = self.exit.subscribe();
        tokio::select! {
            sent = self.input.send(input) => sent.is_ok(),
            _ = exit.wait_for(Option::is_some) => false,
        }
    }

    /// Changes the size of the terminal, if there is one.
    pub fn resize(&self, size: Size) {
        let mut state = self.lock();
        if let Some(terminal) = &state.terminal
            && let Err(error) = super::terminal::resize(terminal, size)
        {
            tracing::debug!(session = self.facts.id, %error, "cannot resize a terminal");
        }
        state.size = size;
        state.history.resize(size);
    }

    /// The size of the terminal.
    #[must_use]
    pub fn size(&self) -> Size {
        self.lock().size
    }

    /// Sends a signal to the command's process group, once it runs; returns its process
    /// id, if it has one already.
    pub fn signal(&self, signal: i32) -> Result<Option<i32>, Ended> {
        let mut state = self.lock();
        if self.exit.borrow().is_some() {
            return Err(Ended);
        }
        match state.pid {
            Some(pid) => self.reaper.signal_group(pid, signal),
            None if state.early.len() < EARLY_SIGNALS => state.early.push(signal),
            None => {}
        }
        Ok(state.pid)
    }

    /// The command's process id, once it runs.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.lock().pid
    }

    /// The exit code, once the command is gone.
    #[must_use]
    pub fn exit(&self) -> watch::Receiver<Option<u8>> {
        self.exit.subscribe()
    }

    /// How much memory its history takes, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.lock().history.size()
    }

    /// What the list of sessions shows.
    #[must_use]
    pub fn activity(&self) -> Activity {
        let state = self.lock();
        #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
        let bytes = state.bytes as f64;
        Activity {
            bytes_per_second: bytes / state.begun.elapsed().as_secs_f64().max(1.0),
            is_active: state.last_activity.0.elapsed() < ACTIVE,
            last: crate::clock::text(state.last_activity.1),
        }
    }

    /// A client has left.
    pub(super) fn detach(self: &Arc<Self>, key: u64) {
        let mut state = self.lock();
        state.clients.retain(|(other, _)| *other != key);
        if !state.clients.is_empty() || self.exit.borrow().is_some() {
            return;
        }
        match self.facts.linger {
            Linger::Forever => {}
            Linger::Kill => {
                let pid = state.pid;
                drop(state);
                tracing::debug!(
                    session = self.facts.id,
                    "the client left: its command is killed"
                );
                if let Some(pid) = pid {
                    self.reaper.signal_group(pid, libc::SIGKILL);
                }
            }
            Linger::For(time) => {
                let timer = tokio::spawn(Arc::clone(self).end_after(time));
                if let Some(old) = state.timer.replace(timer.abort_handle()) {
                    old.abort();
                }
            }
        }
    }

    /// Whether a command without a client was left to be killed before it had started.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.facts.linger == Linger::Kill && self.lock().clients.is_empty()
    }

    async fn end_after(self: Arc<Self>, time: Duration) {
        let mut exit = self.exit();
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            _ = exit.wait_for(Option::is_some) => return,
        }
        let id = &self.facts.id;
        tracing::debug!(session = id, "nobody came back: its command is ended");
        let _ = self.signal(libc::SIGTERM);
        // A stopped process must run to hear that it is to go.
        let _ = self.signal(libc::SIGCONT);
        let gone = exit.wait_for(Option::is_some);
        if tokio::time::timeout(GRACE, gone).await.is_err() {
            let _ = self.signal(libc::SIGKILL);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is whole before anything could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
