//! Bodies of requests. They are JSON whatever `Content-Type` says: `curl -d` says form.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// The bytes of a body, not larger than `limits.request_body`.
#[derive(Debug)]
pub struct RawBody(Bytes);

impl<S: Send + Sync> FromRequest<S> for RawBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await;
        bytes
            .map(Self)
            .map_err(|rejection| match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "too_large",
                    "the body is larger than limits.request_body allows",
                ),
                _ => {
                    Problem::bad_request(format!("cannot read the body: {}", rejection.body_text()))
                }
            })
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
