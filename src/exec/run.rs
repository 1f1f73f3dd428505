//! A command that is run for one client, which reads its output line by line.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::lines::{Cutter, Data};
use super::session::{Attachment, Input, Linger, Output, Stream};
use super::sessions::NotAdmitted;
use super::start::{Runner, Spec};

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

impl Runner {
    /// Runs a command. When the receiver is dropped the command is killed.
    pub fn run(&self, request: Request) -> Result<mpsc::Receiver<Event>, NotAdmitted> {
        let attachment = self.start(&Spec {
            command: request.command,
            path: None,
            environment: request.environment,
            working_dir: request.working_dir,
            stdin: request.stdin.is_some(),
            terminal: None,
            linger: Linger::Kill,
        })?;
        if let Some(text) = request.stdin {
            let session = attachment.session().clone();
            tokio::spawn(async move {
                // The command need not read it all.
                let _ = session.input(Input::Data(Bytes::from(text))).await
                    && session.input(Input::End).await;
            });
        }
        let (events, receiver) = mpsc::channel(EVENTS);
        tokio::spawn(relay(attachment, request.timeout, events));
        Ok(receiver)
    }
}

/// Passes on the session's output as events. When it returns, the session loses its only
/// client.
async fn relay(mut attachment: Attachment, timeout: Option<Duration>, events: mpsc::Sender<Event>) {
    let limit = async {
        match timeout {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = cut(&mut attachment, &events) => {}
        () = events.closed() => {}
        () = limit => {
            drop(attachment);
            let after = timeout.map(crate::config::value::format_duration);
            let after = after.unwrap_or_default();
            let why = format!("timed out after {after}; the command was killed");
            let _ = events.send(Event::Error(why)).await;
            let _ = events.send(Event::Exit(TIMED_OUT)).await;
        }
    }
}

/// Cuts the output into lines, up to the exit.
async fn cut(attachment: &mut Attachment, events: &mpsc::Sender<Event>) {
    let (mut stdout, mut stderr) = (Cutter::default(), Cutter::default());
    while let Some(output) = attachment.next().await {
        match output {
            Output::Data(stream, piece) => {
                let (cutter, event) = match stream {
                    Stream::Stderr => (&mut stderr, Event::Stderr as fn(Data) -> Event),
                    Stream::Stdout | Stream::Terminal => (&mut stdout, Event::Stdout as _),
                };
                for data in cutter.push(&piece.payload()) {
                    let _ = events.send(event(data)).await;
                }
            }
            Output::Failed(why) => {
                let _ = events.send(Event::Error(why)).await;
            }
            Output::Exit(code) => {
                for event in [
                    stdout.finish().map(Event::Stdout),
                    stderr.finish().map(Event::Stderr),
                    Some(Event::Exit(code)),
                ]
                .into_iter()
                .flatten()
                {
                    let _ = events.send(event).await;
                }
                return;
            }
        }
        // Nothing more for now: what there is of a line is not kept from the client.
        if attachment.is_empty() {
            let pieces = [
                stdout.flush().map(Event::Stdout),
                stderr.flush().map(Event::Stderr),
            ];
            for event in pieces.into_iter().flatten() {
                let _ = events.send(event).await;
            }
        }
    }
}
