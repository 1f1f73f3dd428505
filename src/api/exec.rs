//! Commands over the wire: as lines of JSON, as frames over HTTP, over a WebSocket.

pub mod conversation;
mod frames;
mod lines;
pub mod query;
pub mod sessions;
pub mod socket;

use axum::extract::Request;
use axum::extract::{RawQuery, State};
use axum::response::Response;

use super::Shared;
use super::problem::Problem;
use query::Query;

/// `POST /exec`: with `cmd` in the query the output comes as frames, otherwise the body is
/// JSON and the output comes as lines.
pub async fn post(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref());
    if query.is_command() {
        frames::post(shared, &query, request.into_body()).await
    } else {
        lines::post(shared, request).await
    }
}
