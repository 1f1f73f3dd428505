//! The last steps of the machines, in memory: what `GET /events` and `GET /journal` show.
//!
//! Two segments, each a journal by itself; when the newer is full, the older is dropped.
//! So what is kept always begins with the machines as they were, and can be replayed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// How many bytes a segment holds. Two of them are kept at the most.
const SEGMENT: usize = 128 * 1024;

/// The ring. Clones are the same ring.
#[derive(Clone, Debug)]
pub struct Ring {
    segments: Arc<Mutex<Segments>>,
    /// The number of the last line.
    last: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Segments {
    old: Option<Segment>,
    new: Segment,
    /// How often it was begun anew, and behind which line number last.
    begun: (u64, u64),
}

#[derive(Debug, Default)]
struct Segment {
    /// The machines before the first line, as the first line of a journal.
    header: String,
    /// The number before that of the first line.
    after: u64,
    lines: Vec<Arc<str>>,
    bytes: usize,
}

/// Lines, and the number of the first of them.
#[derive(Debug, PartialEq, Eq)]
pub struct Lines {
    /// The first line's number.
    pub first: u64,
    /// Each without its line break.
    pub lines: Vec<Arc<str>>,
}

impl Default for Ring {
    fn default() -> Self {
        Self {
            segments: Arc::default(),
            last: watch::Sender::new(0),
        }
    }
}

impl Ring {
    /// Begins with `header`, the first line of a journal.
    pub fn begin(&self, header: String) {
        self.lock().new.header = header;
    }

    /// Begins anew behind line number `seq`; what is kept from before cannot be replayed to here.
    /// Whoever waits for lines is told.
    pub fn begin_anew(&self, seq: u64, header: String) {
        let mut segments = self.lock();
        segments.begun = (segments.begun.0 + 1, seq);
        segments.old = None;
        segments.new = Segment {
            header,
            after: seq,
            ..Segment::default()
        };
        drop(segments);
        self.last.send_replace(seq);
    }

    /// How often it was begun anew, and behind which line number last.
    #[must_use]
    pub fn begun(&self) -> (u64, u64) {
        self.lock().begun
    }

    /// Adds line number `seq`. `header` is asked for when a new segment is begun.
    pub fn push(&self, seq: u64, line: Arc<str>, header: impl FnOnce() -> Option<String>) {
        let mut segments = self.lock();
        segments.new.bytes += line.len();
        segments.new.lines.push(line);
        if segments.new.bytes >= SEGMENT
            && let Some(header) = header()
        {
            let new = Segment {
                header,
                after: seq,
                ..Segment::default()
            };
            segments.old = Some(std::mem::replace(&mut segments.new, new));
        }
        drop(segments);
        self.last.send_replace(seq);
    }

    /// What is kept, as a journal that can be replayed.
    #[must_use]
    pub fn journal(&self) -> String {
        let segments = self.lock();
        let first = segments.old.as_ref().unwrap_or(&segments.new);
        let mut text = first.header.clone();
        for line in segments.all().flat_map(|segment| &segment.lines) {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// The lines after number `seq` that are kept: none if there are no newer ones. If
    /// the first is not the one right after, those between are gone.
    #[must_use]
    pub fn after(&self, seq: u64) -> Option<Lines> {
        let segments = self.lock();
        let oldest = segments.old.as_ref().unwrap_or(&segments.new).after;
        let from = seq.max(oldest);
        let skipped = usize::try_from(from - oldest).unwrap_or(usize::MAX);
        let lines = segments.all().flat_map(|segment| &segment.lines);
        let lines: Vec<_> = lines.skip(skipped).cloned().collect();
        (!lines.is_empty()).then_some(Lines {
            first: from + 1,
            lines,
        })
    }

    /// The number of the last line, and a way to wait for the next.
    #[must_use]
    pub fn last(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Segments> {
        // Each change is whole before anything could panic.
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Segments {
    fn all(&self) -> impl Iterator<Item = &Segment> {
        self.old.iter().chain(std::iter::once(&self.new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(lines: u64) -> Ring {
        let ring = Ring::default();
        ring.begin("header 0\n".to_owned());
        for seq in 1..=lines {
            let line = format!("{seq}:{}", "x".repeat(1000)).into();
            ring.push(seq, line, || Some(format!("header {seq}\n")));
        }
        ring
    }

    #[test]
    fn it_keeps_the_last_lines_and_the_header_before_them() {
        let ring = filled(1000);
        let journal = ring.journal();
        assert!(journal.len() < 3 * SEGMENT, "{}", journal.len());
        let mut lines = journal.lines();
        let header = lines.next().unwrap();
        let after: u64 = header.strip_prefix("header ").unwrap().parse().unwrap();
        let number = |line: &str| line.split(':').next().unwrap().parse::<u64>();
        let numbers = lines.map(|line| number(line).unwrap());
        assert!(numbers.eq(after + 1..=1000));
        assert!(1000 - after >= SEGMENT as u64 / 1100);
    }

    #[test]
    fn it_gives_what_is_newer_and_shows_what_is_gone() {
        let ring = filled(1000);
        assert_eq!(*ring.last().borrow(), 1000);
        assert_eq!(ring.after(1000), None);
        let two = ring.after(998).unwrap();
        assert_eq!((two.first, two.lines.len()), (999, 2));
        let rest = ring.after(0).unwrap();
        assert!(rest.first > 1);
        assert_eq!(rest.first + rest.lines.len() as u64 - 1, 1000);
        assert_eq!(ring.after(2_000), None);
    }
}
