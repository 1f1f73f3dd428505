//! Writes the journal of the machines to a file, from a thread of its own.
//!
//! A journal without one of its lines cannot be replayed past it. So when a line cannot
//! be written (the disk is full, or too slow), the journal ends there, whole, and a
//! warning says so; the daemon goes on.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use crate::config;

/// How many lines may wait for the disk.
const LINES: usize = 4096;

/// The journal, from the recorder's side.
#[derive(Debug)]
pub struct Journal {
    /// None once a line could not be written.
    lines: Option<SyncSender<Entry>>,
    writer: Option<std::thread::JoinHandle<()>>,
    written: u64,
    size: u64,
}

#[derive(Debug)]
enum Entry {
    /// Begin the file anew with this header; keep the old one as `….1`.
    Rotate(String),
    /// Append this line.
    Line(String),
}

impl Journal {
    /// Begins a journal with its first line. What is in the file's place is kept as `….1`.
    pub fn start(settings: &config::Journal, header: &str) -> io::Result<Self> {
        let file = begin(&settings.path, header)?;
        let (sender, entries) = sync_channel(LINES);
        let path = settings.path.clone();
        let writer = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || write_all(&path, file, &entries))?;
        Ok(Self {
            lines: Some(sender),
            writer: Some(writer),
            written: header.len() as u64,
            size: settings.size,
        })
    }

    /// Appends a line; `header` is asked for when the file is begun anew.
    pub fn write(&mut self, line: &str, header: impl FnOnce() -> Option<String>) {
        self.written += line.len() as u64 + 1;
        self.send(Entry::Line(format!("{line}\n")));
        if self.written >= self.size
            && self.lines.is_some()
            && let Some(header) = header()
        {
            self.begin_anew(header);
        }
    }

    /// Begins the file anew with `header`; what is there is kept as `….1`.
    pub fn begin_anew(&mut self, header: String) {
        self.written = header.len() as u64;
        self.send(Entry::Rotate(header));
    }

    fn send(&mut self, entry: Entry) {
        match self.lines.as_ref().map(|lines| lines.try_send(entry)) {
            Some(Err(TrySendError::Full(_))) => self.end("the disk is too slow"),
            Some(Err(TrySendError::Disconnected(_))) => self.lines = None,
            _ => {}
        }
    }

    fn end(&mut self, why: &str) {
        tracing::warn!("the journal ends here: {why}");
        self.lines = None;
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.lines = None;
        if let Some(writer) = self.writer.take() {
            // A disk that does not answer must not keep us from ending: the thread is
            // waited for only if it is about to be done.
            let start = std::time::Instant::now();
            while !writer.is_finished() && start.elapsed() < std::time::Duration::from_secs(1) {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
    }
}

/// Makes a new file that begins with `header`. What is not a plain file (a pipe, a
/// device) is written to as it is.
fn begin(path: &Path, header: &str) -> io::Result<File> {
    if path.is_file() {
        super::rotate(path, 1)?;
    }
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(header.as_bytes())?;
    Ok(file)
}

fn write_all(path: &Path, mut file: File, entries: &Receiver<Entry>) {
    let mut length = file.metadata().map_or(0, |meta| meta.len());
    while let Ok(entry) = entries.recv() {
        let written = match &entry {
            Entry::Rotate(header) => begin(path, header).map(|new| {
                file = new;
                length = header.len() as u64;
            }),
            Entry::Line(line) => file.write_all(line.as_bytes()).map(|()| {
                length += line.len() as u64;
            }),
        };
        if let Err(error) = written {
            // Half a line is cut off again, so that the journal is whole up to here.
            let _ = file.set_len(length);
            tracing::warn!("the journal {} ends here: {error}", path.display());
            return;
        }
    }
}
