//! Bodies of requests. They are JSON whatever `Content-Type` says: `curl -d` says form.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;

use super::Shared;
use super::problem::Problem;

/// How much more than allowed is read and thrown away, as a multiple of what is
/// allowed: a client that is still sending when we close would not see the answer.
const PATIENCE: usize = 16;

/// A body up to this length is read before it is known whether anybody wants it.
const SMALL: u64 = 64 << 10;

/// Reads small bodies first. A connection whose request was not read to its end cannot be
/// used for the next one: it would be closed under a client that has just sent it.
pub async fn read_small(request: Request, next: Next) -> Response {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_none_or(|length| length == 0 || length > SMALL) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    match body.collect().await {
        Ok(body) => {
            let body = Body::from(body.to_bytes());
            next.run(Request::from_parts(parts, body)).await
        }
        Err(error) => {
            Problem::bad_request(format!("cannot read the body: {error}")).into_response()
        }
    }
}

/// The bytes of a body, not larger than `limits.request_body`.
#[derive(Debug)]
pub struct RawBody(Vec<u8>);

impl FromRequest<Shared> for RawBody {
    type Rejection = Problem;

    async fn from_request(request: Request, shared: &Shared) -> Result<Self, Problem> {
        let most = shared.request_body;
        let mut parts = request.into_body().into_data_stream();
        let mut body = Vec::new();
        let mut length: usize = 0;
        while let Some(part) = parts.next().await {
            let part = part
                .map_err(|error| Problem::bad_request(format!("cannot read the body: {error}")))?;
            length = length.saturating_add(part.len());
            if length <= most {
                body.extend_from_slice(&part);
            } else if length > most.saturating_mul(PATIENCE) {
                break;
            }
        }
        if length > most {
            return Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                format!("the body is larger than the {most} bytes that limits.request_body allows"),
            ));
        }
        Ok(Self(body))
    }
}

impl RawBody {
    /// What the body says; `example` shows what was expected.
    pub fn json<T: DeserializeOwned>(&self, example: &str) -> Result<T, Problem> {
        serde_json::from_slice(&self.0).map_err(|error| {
            Problem::bad_request(format!("the body is not such as {example}: {error}"))
        })
    }

    /// What the body says, or the default if it says nothing.
    pub fn json_or_default<T: DeserializeOwned + Default>(
        &self,
        example: &str,
    ) -> Result<T, Problem> {
        if self.0.trim_ascii().is_empty() {
            Ok(T::default())
        } else {
            self.json(example)
        }
    }
}
