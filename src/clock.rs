//! The time, as the wire and the files want it.

use jiff::Timestamp;

/// Now: RFC 3339, UTC, at most 6 fractional digits (some clients read no more).
#[must_use]
pub fn now() -> String {
    text(Timestamp::now())
}

/// A moment, written like [`now`].
#[must_use]
pub fn text(moment: Timestamp) -> String {
    format!("{moment:.6}")
}
