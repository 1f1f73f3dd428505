//! What is said between a client and a session over a WebSocket: frames of output and
//! input, messages about the terminal and signals, the exit.

use std::sync::Arc;

use axum::extract::ws::Message;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Duration, Instant};

use crate::api::ports::{closed, opened};
use crate::api::silence::Silence;
use crate::config::signal;
use crate::exec::session::{Stream, frame};
use crate::exec::terminal::Size;
use crate::exec::{Attachment, Input, Output, Piece, Session};
use crate::network::ports::{Change, Watch};
use crate::network::{Port, Ports};

const STDIN: u8 = 0;
pub(super) const EXIT: u8 = 3;
const END_OF_INPUT: u8 = 4;

/// Input is passed on in pieces of this size.
const PIECE: usize = 32 * 1024;
/// How much input may wait for a command that does not read it, in bytes.
const WAITING: usize = 1024 * 1024;
/// What a piece that waits takes beside its bytes.
const OVERHEAD: usize = 128;
/// A client in a browser's clothes sees no pings; without a message for 45 s it gives up.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How long after an attach a lone end of input is taken for the client's habit.
const HABIT: Duration = Duration::from_secs(1);

/// Nobody looks for the ports of a command that ends sooner than this.
const SHORT: Duration = Duration::from_millis(250);

/// How a client writes what it sends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dialect {
    /// Input comes without the frame's first byte (one client on control connections).
    pub raw_input: bool,
    /// Messages may come in binary frames (another client on control connections).
    pub binary_messages: bool,
    /// The client attached without saying that it expects a terminal, and may send an end
    /// of input out of habit: in a terminal that would log out whoever uses it.
    pub drops_first_end: bool,
}

/// The message that comes first.
#[derive(Serialize)]
struct SessionInfo<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    session_id: &'a str,
    command: String,
    created: i64,
    cols: u16,
    rows: u16,
    is_owner: bool,
    tty: bool,
}

/// A text message from a client. What is not one of these is of no interest.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Request {
    /// The client's window has another size.
    Resize {
        /// Its lines.
        rows: u16,
        /// Its characters a line.
        cols: u16,
    },
    /// A signal for the command.
    Signal {
        /// Its name or number.
        signal: serde_json::Value,
    },
}

/// Says everything to the client, up to the exit; returns the exit code, or none if the
/// client does not take it any more. `out` is the way to the client.
pub async fn speak(
    attachment: &mut Attachment,
    is_owner: bool,
    ports: &Ports,
    out: &mpsc::Sender<Message>,
) -> Option<u8> {
    let session = attachment.session().clone();
    out.send(session_info(&session, is_owner)).await.ok()?;
    let tty = session.facts.tty;
    let mut silence = Silence::of(KEEP_ALIVE);
    let mut short = std::pin::pin!(tokio::time::sleep(SHORT));
    let mut watch = None;
    loop {
        let output = tokio::select! {
            biased;
            output = attachment.next() => output?,
            () = &mut short, if watch.is_none() => {
                watch = Some(ports.watch());
                continue;
            }
            change = change(&mut watch) => {
                // Mostly about others' ports: then nothing is said.
                for message in notices(&change?, &session) {
                    out.send(message).await.ok()?;
                    silence.broken();
                }
                continue;
            }
            () = silence.lasts() => {
                out.send(Message::Binary(Bytes::new())).await.ok()?;
                continue;
            }
        };
        silence.broken();
        let message = match output {
            Output::Data(_, piece) if tty => Message::Binary(piece.payload()),
            Output::Data(_, piece) => Message::Binary(piece.into_frame()),
            Output::Failed(why) if tty => Message::Binary(format!("{why}\r\n").into()),
            Output::Failed(why) => {
                let why = Piece::new(Stream::Stderr, format!("{why}\n").as_bytes());
                Message::Binary(why.into_frame())
            }
            Output::Exit(code) => {
                let last = if tty {
                    let text = format!("{{\"type\":\"exit\",\"exit_code\":{code}}}");
                    Message::Text(text.into())
                } else {
                    Message::Binary(frame(EXIT, &[code]))
                };
                out.send(last).await.ok()?;
                return Some(code);
            }
        };
        out.send(message).await.ok()?;
    }
}

/// Listens to a client, message by message. What the command does not read yet waits
/// beside, so that signals and pings behind it are heard.
#[derive(Debug)]
pub struct Listener {
    session: Arc<Session>,
    waiting: mpsc::Sender<(Input, OwnedSemaphorePermit)>,
    /// Bounds what waits, in bytes.
    room: Arc<Semaphore>,
    dialect: Dialect,
    began: Instant,
    is_first: bool,
    ended: bool,
}

impl Listener {
    /// Listens for `session`.
    #[must_use]
    pub fn new(session: &Arc<Session>, dialect: Dialect) -> Self {
        let (waiting, mut queue) = mpsc::channel(WAITING / OVERHEAD);
        let reader = Arc::clone(session);
        // It goes on when the client has left: what was sent was sent.
        tokio::spawn(async move {
            while let Some((input, _room)) = queue.recv().await {
                if !reader.input(input).await {
                    return;
                }
            }
        });
        Self {
            session: Arc::clone(session),
            waiting,
            room: Arc::new(Semaphore::new(WAITING)),
            dialect,
            began: Instant::now(),
            is_first: true,
            ended: false,
        }
    }

    /// Does what a message says. Waits while too much input waits for the command.
    pub async fn hear(&mut self, message: Message) {
        match message {
            Message::Text(text) => self.request(text.as_bytes()),
            Message::Binary(bytes) if !bytes.is_empty() => {
                let is_first = std::mem::take(&mut self.is_first);
                if self.session.facts.tty {
                    self.typed(bytes, is_first).await;
                } else {
                    self.frame(bytes).await;
                }
            }
            // Pings are answered by the library, a close by whoever reads the socket.
            _ => {}
        }
    }

    /// Input for a terminal, as it is.
    async fn typed(&mut self, bytes: Bytes, is_first: bool) {
        let lone_end = bytes.len() == 1 && bytes.first() == Some(&END_OF_INPUT);
        if lone_end && is_first && self.dialect.drops_first_end && self.began.elapsed() < HABIT {
            return;
        }
        if self.dialect.binary_messages && self.request_in(&bytes) {
            return;
        }
        self.pass_on(bytes).await;
    }

    /// A frame: its first byte says what it is.
    async fn frame(&mut self, bytes: Bytes) {
        let lone_end = bytes.len() == 1 && bytes.first() == Some(&END_OF_INPUT);
        match bytes.first() {
            _ if self.ended => {}
            Some(&END_OF_INPUT) if !self.dialect.raw_input || lone_end => {
                self.ended = true;
                self.queue(Input::End, 0).await;
            }
            _ if self.dialect.raw_input => self.pass_on(bytes).await,
            Some(&STDIN) => self.pass_on(bytes.slice(1..)).await,
            Some(b'{') if self.dialect.binary_messages => {
                self.request_in(&bytes);
            }
            _ => tracing::debug!(
                session = self.session.facts.id,
                "an unknown frame is ignored"
            ),
        }
    }

    async fn pass_on(&self, mut bytes: Bytes) {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE));
            let length = piece.len();
            if !self.queue(Input::Data(piece), length).await {
                return;
            }
        }
    }

    /// Puts input where it waits; returns false when the command takes none.
    async fn queue(&self, input: Input, length: usize) -> bool {
        // Small pieces take memory too.
        let room = u32::try_from(length + OVERHEAD).unwrap_or(u32::MAX);
        let mut exit = self.session.exit();
        let room = tokio::select! {
            room = Arc::clone(&self.room).acquire_many_owned(room) => room,
            _ = exit.wait_for(Option::is_some) => return false,
            () = self.waiting.closed() => return false,
        };
        // There is room for as many pieces as have a permit.
        room.is_ok_and(|room| self.waiting.try_send((input, room)).is_ok())
    }

    /// Takes a binary message for a request if it is one; says whether it was.
    fn request_in(&self, bytes: &Bytes) -> bool {
        let is_request =
            bytes.first() == Some(&b'{') && serde_json::from_slice::<Request>(bytes).is_ok();
        if is_request {
            self.request(bytes);
        }
        is_request
    }

    fn request(&self, text: &[u8]) {
        match serde_json::from_slice(text) {
            Ok(Request::Resize { rows, cols }) => {
                if let Some(size) = Size::new(rows, cols)
                    && self.session.facts.tty
                {
                    self.session.resize(size);
                }
            }
            Ok(Request::Signal { signal }) => {
                let name = match signal {
                    serde_json::Value::String(name) => name,
                    other => other.to_string(),
                };
                // A name that we do not know is of no more interest than an unknown type.
                if let Some(number) = signal::parse(&name) {
                    let _ = self.session.signal(number);
                }
            }
            // Anybody may send what we do not know.
            Err(_) => {}
        }
    }
}

/// The next change of what is listened on, if anybody looks.
async fn change(watch: &mut Option<Watch>) -> Option<Change> {
    match watch {
        Some(watch) => watch.change().await,
        None => std::future::pending().await,
    }
}

/// What a client is told of ports: those of the session's own processes.
fn notices(change: &Change, session: &Session) -> Vec<Message> {
    let Some(pid) = session.pid() else {
        return Vec::new();
    };
    let is_ours = |port: &&Port| port.is_of(pid);
    let gone = change.closed.iter().filter(is_ours).map(closed);
    let new = change.opened.iter().filter(is_ours).map(opened);
    gone.chain(new).collect()
}

fn session_info(session: &Session, is_owner: bool) -> Message {
    let size = session.size();
    let facts = &session.facts;
    let info = SessionInfo {
        kind: "session_info",
        session_id: &facts.id,
        command: facts.command.join(" "),
        created: facts.created,
        cols: size.cols.get(),
        rows: size.rows.get(),
        is_owner,
        tty: facts.tty,
    };
    // Made of texts and numbers: always JSON.
    Message::Text(serde_json::to_string(&info).unwrap_or_default().into())
}
