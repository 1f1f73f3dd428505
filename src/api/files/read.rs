//! `GET /fs/read`

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, SeekFrom};
use tokio_util::io::ReaderStream;

use super::{BYTES, Failure, blocking, path_of};
use crate::api::Shared;
use crate::api::exec::query::Query;
use crate::files::Error;

/// How much of a file is in memory at a time.
const PIECE: usize = 256 * 1024;

/// The bytes of a file, or the range of them that was asked for.
pub async fn read(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let query = Query::parse(query.as_deref());
    shared.hold().await?;
    let path = path_of("read", &query)?;
    let text = path.display().to_string();
    let (file, length) = blocking(&shared, move |files| files.read(&path)).await?;
    let mut file = tokio::fs::File::from_std(file);
    let range = headers
        .get(header::RANGE)
        .and_then(|range| range.to_str().ok());
    let (first, last) = match range.map_or(Range::Whole, |range| Range::parse(range, length)) {
        Range::Whole => {
            let body = Body::from_stream(ReaderStream::with_capacity(file, PIECE));
            // What the kernel makes up as it is read (in /proc) has no length beforehand.
            return Ok(match length {
                0 => ([BYTES], body).into_response(),
                length => ([BYTES], [(header::CONTENT_LENGTH, length)], body).into_response(),
            });
        }
        Range::Missing => {
            let whole = [(header::CONTENT_RANGE, format!("bytes */{length}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, whole).into_response());
        }
        Range::Part(first, last) => (first, last),
    };
    let sought = file.seek(SeekFrom::Start(first)).await;
    sought.map_err(|error| Error::io("read", &text, &error))?;
    let count = last - first + 1;
    let body = Body::from_stream(ReaderStream::with_capacity(file.take(count), PIECE));
    let headers = [
        (
            header::CONTENT_RANGE,
            format!("bytes {first}-{last}/{length}"),
        ),
        (header::CONTENT_LENGTH, count.to_string()),
    ];
    Ok((StatusCode::PARTIAL_CONTENT, [BYTES], headers, body).into_response())
}

/// Which bytes of a file are asked for (RFC 9110, 14.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    /// All of them, as also when what is asked for is not one range of bytes.
    Whole,
    /// From the first of these to the last.
    Part(u64, u64),
    /// Bytes that the file does not have.
    Missing,
}

impl Range {
    fn parse(range: &str, length: u64) -> Self {
        Self::parse_one(range, length).unwrap_or(Self::Whole)
    }

    fn parse_one(range: &str, length: u64) -> Option<Self> {
        let (first, last) = range.trim().strip_prefix("bytes=")?.split_once('-')?;
        let (first, last) = if first.is_empty() {
            let count: u64 = last.parse().ok()?;
            let first = if count == 0 {
                length
            } else {
                length.saturating_sub(count)
            };
            (first, u64::MAX)
        } else {
            let last = if last.is_empty() {
                u64::MAX
            } else {
                last.parse().ok()?
            };
            (first.parse().ok()?, last)
        };
        if last < first {
            return None;
        }
        Some(match length.checked_sub(1) {
            Some(end) if first <= end => Self::Part(first, last.min(end)),
            _ => Self::Missing,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Range::{self, Missing, Part, Whole};

    #[test]
    fn ranges() {
        for (range, length, expected) in [
            ("bytes=0-0", 10, Part(0, 0)),
            ("bytes=2-", 10, Part(2, 9)),
            ("bytes=2-99", 10, Part(2, 9)),
            ("bytes=-3", 10, Part(7, 9)),
            ("bytes=-30", 10, Part(0, 9)),
            ("bytes=10-", 10, Missing),
            ("bytes=-0", 10, Missing),
            ("bytes=0-", 0, Missing),
            ("items=0-1", 10, Whole),
            ("bytes=5-2", 10, Whole),
            ("bytes=x-", 10, Whole),
            ("bytes=0-1,3-4", 10, Whole),
            ("bytes", 10, Whole),
        ] {
            assert_eq!(Range::parse(range, length), expected, "{range}");
        }
    }
}
