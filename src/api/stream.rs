//! Answers that are streams of JSON objects, one a line.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::Stream;
use futures_util::StreamExt as _;
use serde::Serialize;

/// The type of an answer with one JSON value a line.
pub const NDJSON: &str = "application/x-ndjson";

/// An NDJSON answer: each item is sent as soon as it is there.
pub fn ndjson<T: Serialize>(items: impl Stream<Item = T> + Send + 'static) -> Response {
    let lines = items.map(|item| {
        // Nothing that we send can fail to be JSON; should it, the line is empty.
        let mut line = serde_json::to_vec(&item).unwrap_or_default();
        line.push(b'\n');
        Ok::<_, Infallible>(Bytes::from(line))
    });
    let headers = [
        (header::CONTENT_TYPE, NDJSON),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, Body::from_stream(lines)).into_response()
}
