//! How far the copy of the checkpoints elsewhere is: what `/status` shows.

use serde::Serialize;

/// What replication is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It finds out how far the bucket is.
    #[default]
    Connecting,
    /// Everything is in the bucket.
    Idle,
    /// It sends.
    Replicating,
    /// Something went wrong; it tries again.
    Waiting,
    /// Another program has taken over: nothing of ours reaches the bucket any more.
    Fenced,
}

/// How far the copy of the checkpoints in a bucket is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Replication {
    /// The bucket: `s3://BUCKET/PREFIX`.
    pub bucket: String,
    /// What it is doing.
    pub phase: Phase,
    /// How many checkpoints are sealed, but not durable.
    pub checkpoints_left: usize,
    /// How many bytes are still to be sent for them.
    pub bytes_left: u64,
    /// When the oldest change was made that is not in the bucket: RFC 3339, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind_since: Option<String>,
    /// What went wrong last, as long as it is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// All records before this one are in the bucket.
    #[serde(skip)]
    pub next: u64,
}

impl Replication {
    /// Whether somebody else has taken over.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.phase == Phase::Fenced
    }

    /// Whether what the record with this number says is in the bucket.
    #[must_use]
    pub const fn has(&self, sequence: u64) -> bool {
        sequence < self.next
    }
}
