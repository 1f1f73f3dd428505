//! What components write, in files: one for each, renamed to `….1` when it is large.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::logs::Line;
use crate::config;

/// How many lines may wait for the disk. A component waits beyond that.
const QUEUE: usize = 256;

/// Begins to write files. What comes of it ends when all senders are gone.
pub fn start(settings: &config::Logs) -> io::Result<(mpsc::Sender<Arc<Line>>, JoinHandle<()>)> {
    fs::create_dir_all(&settings.dir)?;
    let (sender, lines) = mpsc::channel(QUEUE);
    let files = Files {
        settings: settings.clone(),
        open: HashMap::new(),
    };
    let task = tokio::task::spawn_blocking(move || files.write_all(lines));
    Ok((sender, task))
}

struct Files {
    settings: config::Logs,
    open: HashMap<String, Log>,
}

/// The file of one component.
struct Log {
    path: PathBuf,
    file: Option<BufWriter<File>>,
    length: u64,
    /// Whether lines are being lost.
    is_losing: bool,
}

impl Files {
    fn write_all(mut self, mut lines: mpsc::Receiver<Arc<Line>>) {
        while let Some(line) = lines.blocking_recv() {
            self.write(&line);
            while let Ok(line) = lines.try_recv() {
                self.write(&line);
            }
            for log in self.open.values_mut() {
                log.flush();
            }
        }
    }

    fn write(&mut self, line: &Line) {
        let settings = &self.settings;
        let log = self.open.entry(line.component.clone());
        let log = log.or_insert_with(|| Log {
            path: settings.dir.join(format!("{}.log", line.component)),
            file: None,
            length: 0,
            is_losing: false,
        });
        let check = line.check.as_deref();
        let check = check.map_or_else(String::new, |check| format!("[{check}] "));
        let text = format!("{} {check}{}\n", line.time, line.line);
        if let Err(error) = log.write(text.as_bytes(), settings) {
            log.note(Err(error));
        }
    }
}

impl Log {
    fn write(&mut self, text: &[u8], settings: &config::Logs) -> io::Result<()> {
        let length = text.len() as u64;
        if self.file.is_some() && self.length > 0 && self.length + length > settings.size {
            self.flush();
            self.file = None;
            super::rotate(&self.path, settings.keep)?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            empty => {
                let file = OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(&self.path)?;
                self.length = file.metadata()?.len();
                empty.insert(BufWriter::new(file))
            }
        };
        file.write_all(text)?;
        self.length += length;
        Ok(())
    }

    fn flush(&mut self) {
        if let Some(file) = &mut self.file {
            let flushed = file.flush();
            self.note(flushed);
        }
    }

    /// Says once that lines are lost, and once that they are no more.
    fn note(&mut self, written: io::Result<()>) {
        let path = self.path.display();
        match written {
            Ok(()) => {
                if std::mem::take(&mut self.is_losing) {
                    tracing::warn!("the log {path} is written again; lines were lost");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_losing, true) {
                    tracing::warn!("cannot write the log {path}: {error}; lines are lost");
                }
                // What is in its buffer would be tried again and again: it goes, and the file is
                // opened anew.
                if let Some(file) = self.file.take() {
                    let _ = file.into_parts();
                }
            }
        }
    }
}
