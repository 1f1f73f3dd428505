//! What components write: to our own output a line at a time, each with the component's
//! name, and to whatever checks their readiness.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, watch};

use crate::config;
use crate::reaper::Child;
use crate::telemetry::log_files;
use crate::telemetry::logs::{Line, Logs};

/// A line longer than this is written in pieces.
const LONGEST_LINE: usize = 16 * 1024;
/// How much output is kept for a readiness check that starts late.
const BACKLOG: usize = 64 * 1024;
/// How many lines may wait for our own output. A component waits beyond that.
const QUEUE: usize = 256;

/// Which of our own outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Writes whole lines to our own output.
#[derive(Clone, Debug)]
pub struct Sink {
    stdout: mpsc::Sender<Bytes>,
    stderr: mpsc::Sender<Bytes>,
    json: bool,
    logs: Logs,
    files: Option<mpsc::Sender<Arc<Line>>>,
}

/// The tasks behind a [`Sink`]; they end when all its clones are gone.
#[derive(Debug)]
pub struct Writers {
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Sink {
    /// Starts the writers. `json`: one JSON object a line. Each line is kept in `logs` too, and
    /// in `files` if there are any. Fails if these cannot be written.
    pub fn start(
        json: bool,
        logs: Logs,
        files: Option<&config::Logs>,
    ) -> io::Result<(Self, Writers)> {
        let (stdout, out) = mpsc::channel(QUEUE);
        let (stderr, err) = mpsc::channel(QUEUE);
        let mut tasks = vec![
            tokio::spawn(write_all(out, tokio::io::stdout())),
            tokio::spawn(write_all(err, tokio::io::stderr())),
        ];
        let mut sink = Self {
            stdout,
            stderr,
            json,
            logs,
            files: None,
        };
        if let Some(settings) = files {
            let (files, task) = log_files::start(settings)?;
            sink.files = Some(files);
            tasks.push(task);
        }
        Ok((sink, Writers { tasks }))
    }

    async fn line(&self, label: &str, stream: Stream, line: &[u8]) {
        let kept = self.logs.push(label, stream.name(), line);
        let text = if self.json {
            let object = serde_json::json!({
                "time": kept.time,
                "component": label,
                "stream": stream.name(),
                "line": kept.line,
            });
            format!("{object}\n").into()
        } else {
            let mut text = BytesMut::with_capacity(label.len() + line.len() + 4);
            text.put_slice(b"[");
            text.put_slice(label.as_bytes());
            text.put_slice(b"] ");
            text.put_slice(line);
            text.put_u8(b'\n');
            text.freeze()
        };
        let sender = match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        };
        // The writers outlive all sinks; at the very end nobody reads any more.
        let _ = sender.send(text).await;
        if let Some(files) = &self.files {
            let _ = files.send(kept).await;
        }
    }
}

impl Writers {
    /// Waits until everything is written.
    pub async fn drained(self) {
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

async fn write_all(mut lines: mpsc::Receiver<Bytes>, mut output: impl AsyncWrite + Unpin) {
    while let Some(line) = lines.recv().await {
        // Nobody reads our output any more: nothing to do about it, and no reason to stop.
        if output.write_all(&line).await.is_ok() {
            let _ = output.flush().await;
        }
    }
}

/// The latest output of one component, for its readiness checks.
#[derive(Clone, Debug)]
pub struct Backlog {
    shared: Arc<Mutex<Ring>>,
    written: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    bytes: VecDeque<u8>,
    /// How many bytes came before the first in `bytes`.
    dropped: u64,
}

impl Default for Backlog {
    fn default() -> Self {
        Self {
            shared: Arc::default(),
            written: watch::Sender::new(0),
        }
    }
}

impl Backlog {
    fn push(&self, bytes: &[u8]) {
        let mut ring = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        ring.bytes.extend(bytes);
        let excess = ring.bytes.len().saturating_sub(BACKLOG);
        ring.bytes.drain(..excess);
        ring.dropped += excess as u64;
        let end = ring.dropped + ring.bytes.len() as u64;
        drop(ring);
        self.written.send_replace(end);
    }

    /// What was written from byte `from` on, and the position behind it. A reader that
    /// is too slow misses what was dropped.
    fn since(&self, from: u64) -> (Vec<u8>, u64) {
        let ring = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let skip = usize::try_from(from.saturating_sub(ring.dropped)).unwrap_or(usize::MAX);
        let bytes: Vec<u8> = ring.bytes.iter().skip(skip).copied().collect();
        (bytes, ring.dropped + ring.bytes.len() as u64)
    }

    /// Writes everything, past and to come, to `input` until nobody reads it.
    pub async fn feed(self, mut input: impl AsyncWrite + Unpin) {
        let mut written = self.written.subscribe();
        let mut position = 0;
        loop {
            written.borrow_and_update();
            let (bytes, end) = self.since(position);
            position = end;
            if !bytes.is_empty() && input.write_all(&bytes).await.is_err() {
                return;
            }
            if written.changed().await.is_err() {
                return;
            }
        }
    }
}

/// The lines of a backlog, past and to come.
#[derive(Debug)]
pub struct Lines {
    backlog: Backlog,
    written: watch::Receiver<u64>,
    position: u64,
    partial: BytesMut,
}

impl Backlog {
    /// Its lines, from the first that is kept on.
    #[must_use]
    pub fn lines(&self) -> Lines {
        Lines {
            backlog: self.clone(),
            written: self.written.subscribe(),
            position: 0,
            partial: BytesMut::new(),
        }
    }
}

impl Lines {
    /// Waits for the next line; none once there can be no more.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(line) = next_line(&mut self.partial) {
                return Some(String::from_utf8_lossy(&line).into_owned());
            }
            self.written.borrow_and_update();
            let (bytes, end) = self.backlog.since(self.position);
            self.position = end;
            if bytes.is_empty() {
                self.written.changed().await.ok()?;
            }
            self.partial.extend_from_slice(&bytes);
        }
    }
}

/// Our end of a child's output, to be read asynchronously.
pub fn reader(fd: impl Into<OwnedFd>) -> io::Result<pipe::Receiver> {
    pipe::Receiver::from_owned_fd(fd.into())
}

/// Our end of a child's input, to be written asynchronously.
pub fn writer(fd: impl Into<OwnedFd>) -> io::Result<pipe::Sender> {
    pipe::Sender::from_owned_fd(fd.into())
}

/// Copies what `child` writes to `sink`, and to `backlog`, as [`pump`] does, in tasks of their own.
pub fn pump_child(child: &mut Child, name: &str, sink: &Sink, backlog: Option<&Backlog>) {
    let outputs = [
        (
            child.stdout.take().and_then(|fd| reader(fd).ok()),
            Stream::Stdout,
        ),
        (
            child.stderr.take().and_then(|fd| reader(fd).ok()),
            Stream::Stderr,
        ),
    ];
    for (output, stream) in outputs {
        if let Some(output) = output {
            let (name, sink, backlog) = (name.to_owned(), sink.clone(), backlog.cloned());
            tokio::spawn(pump(output, name, stream, sink, backlog));
        }
    }
}

/// Copies `source` to `sink` line by line, and to `backlog` as it comes, to the end.
async fn pump(
    mut source: impl AsyncRead + Unpin,
    name: String,
    stream: Stream,
    sink: Sink,
    backlog: Option<Backlog>,
) {
    let mut buffer = BytesMut::with_capacity(LONGEST_LINE);
    loop {
        match source.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(read) => {
                if let (Some(backlog), Some(new)) =
                    (&backlog, buffer.get(buffer.len().saturating_sub(read)..))
                {
                    backlog.push(new);
                }
            }
        }
        while let Some(line) = next_line(&mut buffer) {
            sink.line(&name, stream, &line).await;
        }
    }
    if !buffer.is_empty() {
        sink.line(&name, stream, &buffer).await;
    }
}

/// Takes a line off the front, without its end; a piece if it is too long.
fn next_line(buffer: &mut BytesMut) -> Option<Bytes> {
    if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
        let line = buffer.split_to(end);
        let _ = buffer.split_to(1);
        return Some(line.freeze());
    }
    (buffer.len() >= LONGEST_LINE).then(|| buffer.split().freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_whole_and_long_ones_in_pieces() {
        let mut buffer = BytesMut::from(&b"one\n\ntwo"[..]);
        assert_eq!(next_line(&mut buffer).as_deref(), Some(&b"one"[..]));
        assert_eq!(next_line(&mut buffer).as_deref(), Some(&b""[..]));
        assert_eq!(next_line(&mut buffer), None);
        assert_eq!(&buffer[..], b"two");
        let mut buffer = BytesMut::from(&vec![b'x'; LONGEST_LINE + 1][..]);
        assert_eq!(
            next_line(&mut buffer).map(|l| l.len()),
            Some(LONGEST_LINE + 1)
        );
    }

    #[test]
    fn a_late_reader_gets_the_latest() {
        let backlog = Backlog::default();
        backlog.push(b"early ");
        backlog.push(&vec![b'x'; BACKLOG]);
        let (bytes, end) = backlog.since(0);
        assert_eq!((bytes.len(), end), (BACKLOG, BACKLOG as u64 + 6));
        backlog.push(b"new");
        assert_eq!(backlog.since(end).0, b"new");
    }
}
