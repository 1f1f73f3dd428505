//! How far an operation's work is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counts the work of one step. Those who work add to it, anybody may read it.
#[derive(Debug)]
pub struct Meter {
    wanted: AtomicBool,
    files: AtomicU64,
    bytes: AtomicU64,
    files_total: AtomicU64,
    bytes_total: AtomicU64,
}

/// The value of a total that nobody knows.
const UNKNOWN: u64 = u64::MAX;

/// How far a step is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// How many entries of the tree are done.
    pub files: u64,
    /// How many bytes of files were read or written for it.
    pub bytes: u64,
    /// How many entries there are in all, if that is known.
    pub files_total: Option<u64>,
    /// How many bytes there are in all, if that is known.
    pub bytes_total: Option<u64>,
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}

impl Meter {
    /// Nothing is done yet, and nobody reads it.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            wanted: AtomicBool::new(false),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            files_total: AtomicU64::new(UNKNOWN),
            bytes_total: AtomicU64::new(UNKNOWN),
        }
    }

    /// Notes whether anybody reads it.
    pub fn want(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::Relaxed);
    }

    /// Whether anybody reads it: totals that cost something to find are for them only.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Begins a step.
    pub fn begin(&self, files_total: Option<u64>, bytes_total: Option<u64>) {
        self.files.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        let (files, bytes) = (
            files_total.unwrap_or(UNKNOWN),
            bytes_total.unwrap_or(UNKNOWN),
        );
        self.files_total.store(files, Ordering::Relaxed);
        self.bytes_total.store(bytes, Ordering::Relaxed);
    }

    /// Counts what is done.
    pub fn add(&self, files: u64, bytes: u64) {
        self.files.fetch_add(files, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes how many bytes are left of how many there were.
    pub fn left(&self, bytes: u64) {
        let total = match self.bytes_total.load(Ordering::Relaxed) {
            UNKNOWN => bytes,
            total => total.max(bytes),
        };
        self.bytes_total.store(total, Ordering::Relaxed);
        self.bytes.store(total - bytes, Ordering::Relaxed);
    }

    /// How far it is.
    #[must_use]
    pub fn read(&self) -> Measured {
        let total = |total: &AtomicU64| match total.load(Ordering::Relaxed) {
            UNKNOWN => None,
            total => Some(total),
        };
        Measured {
            files: self.files.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            files_total: total(&self.files_total),
            bytes_total: total(&self.bytes_total),
        }
    }
}
