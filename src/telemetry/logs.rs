//! What components have written lately, for whoever asks for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

use crate::clock::now;

/// How many bytes of lines are kept.
const KEPT: usize = 512 * 1024;
/// What a line takes beside its text.
const OVERHEAD: usize = 128;

/// A line that a component, or a command that asks how it does, has written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Its number, without gaps, from 1.
    pub seq: u64,
    /// When it came: RFC 3339.
    pub time: String,
    /// The component.
    pub component: String,
    /// What the command asks for, if it is from one: `ready_command`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    /// `stdout` or `stderr`.
    pub stream: &'static str,
    /// The line, without its end.
    pub line: String,
}

/// The last lines of all components. Clones are the same.
#[derive(Clone, Debug)]
pub struct Logs {
    kept: Arc<Mutex<Kept>>,
    /// The number of the last line.
    last: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Arc<Line>>,
    bytes: usize,
    last: u64,
}

impl Default for Logs {
    fn default() -> Self {
        Self {
            kept: Arc::default(),
            last: watch::Sender::new(0),
        }
    }
}

impl Logs {
    /// Adds a line of what messages call `label`: a component, or one and what is asked of it.
    #[must_use]
    pub fn push(&self, label: &str, stream: &'static str, line: &[u8]) -> Arc<Line> {
        let (component, check) = match label.split_once(' ') {
            Some((component, check)) => (component, Some(check.to_owned())),
            None => (label, None),
        };
        let (component, line) = (component.to_owned(), String::from_utf8_lossy(line));
        let mut kept = self.lock();
        kept.last += 1;
        let line = Arc::new(Line {
            seq: kept.last,
            time: now(),
            component,
            check,
            stream,
            line: line.into_owned(),
        });
        kept.bytes += size(&line);
        kept.lines.push_back(Arc::clone(&line));
        while kept.bytes > KEPT
            && let Some(oldest) = kept.lines.pop_front()
        {
            kept.bytes -= size(&oldest);
        }
        // While it is held: nobody is told of a line before the one ahead of it.
        self.last.send_replace(line.seq);
        drop(kept);
        line
    }

    /// The lines after number `seq` that are kept, and how many between are gone.
    #[must_use]
    pub fn after(&self, seq: u64) -> (u64, Vec<Arc<Line>>) {
        let kept = self.lock();
        let oldest = kept.last - kept.lines.len() as u64;
        let skipped = usize::try_from(seq.saturating_sub(oldest)).unwrap_or(usize::MAX);
        let newer = kept.lines.iter().skip(skipped).cloned().collect();
        (oldest.saturating_sub(seq), newer)
    }

    /// The number of the last line, and a way to wait for the next.
    #[must_use]
    pub fn last(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Each change is whole before anything could panic.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(line: &Line) -> usize {
    line.line.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_what_is_gone_is_counted() {
        let logs = Logs::default();
        let line = logs.push("db ready_command", "stderr", b"no \xff");
        assert_eq!((line.seq, line.component.as_str()), (1, "db"));
        assert_eq!(line.check.as_deref(), Some("ready_command"));
        assert_eq!(line.line, "no \u{fffd}");
        let long = vec![b'x'; KEPT / 4];
        for _ in 0..8 {
            let _ = logs.push("web", "stdout", &long);
        }
        let (gone, lines) = logs.after(0);
        assert_eq!(gone + lines.len() as u64, 9);
        assert_eq!(lines.len(), 3);
        assert_eq!(lines.last().map(|line| line.seq), Some(9));
        assert_eq!(logs.after(9), (0, vec![]));
        assert_eq!(logs.after(8).1.len(), 1);
    }
}
