//! The time, as the wire and the files want it.

use jiff::Timestamp;

/// Now: RFC 3339, UTC, at most 6 fractional digits (some clients read no more).
#[must_use]
pub fn now() -> String {
    format!("{:.6}", Timestamp::now())
}
