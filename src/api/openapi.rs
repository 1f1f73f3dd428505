//! `GET /openapi.json`: what is served, for programs. Without a token: it is the same
//! everywhere.

use axum::http::header;
use axum::response::{IntoResponse, Response};

/// The document that stands in `docs/`.
const DOCUMENT: &str = include_str!("../../docs/openapi.json");

/// The document.
pub async fn get() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Each path in the table of routes, whose source is read, is in the document, and
    /// the other way round.
    #[test]
    fn the_document_has_the_paths_that_are_served() {
        let document: serde_json::Value = serde_json::from_str(DOCUMENT).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let described: BTreeSet<_> = paths.keys().map(String::as_str).collect();
        let source = include_str!("routes.rs");
        let parts = source.split("route(").skip(1);
        let served: BTreeSet<_> = parts.filter_map(|part| part.split('"').nth(1)).collect();
        assert_eq!(described, served);
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    }
}
