//! Every error answer: `application/problem+json` (RFC 9457) with a sentence for people,
//! and the fields `error` and `message` that the Sprites SDKs show.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::checkpoint::Error;
use crate::exec::sessions::NotAdmitted;
use crate::supervise::Refusal;
use crate::supervise::reload::ReloadError;

/// An error answer.
#[derive(Debug, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    #[serde(serialize_with = "number")]
    status: StatusCode,
    detail: String,
    error: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<Vec<&'static str>>,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it by reference"
)]
fn number<S: serde::Serializer>(status: &StatusCode, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u16(status.as_u16())
}

impl Problem {
    /// `error` is a word for programs, `detail` a sentence for people: what failed, on
    /// what, why, what to do.
    #[must_use]
    pub fn new(status: StatusCode, error: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status,
            message: detail.clone(),
            detail,
            error,
            state: None,
            accepted: None,
        }
    }

    /// The sentence for people.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The request makes no sense: 400.
    #[must_use]
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    /// What was asked for is not there: 404.
    #[must_use]
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// Something failed in sprite-env itself: 500.
    #[must_use]
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// It is not possible now: 409.
    #[must_use]
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// It is not possible for the time being: 503.
    #[must_use]
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        (self.status, kind, Json(self)).into_response()
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let mut problem = Self::conflict(refusal.to_string());
        problem.state = Some(refusal.state);
        problem.accepted = Some(refusal.accepted);
        problem
    }
}

impl From<ReloadError> for Problem {
    fn from(error: ReloadError) -> Self {
        use ReloadError as E;
        let (status, word) = match &error {
            E::Config(_)
            | E::NothingToRun
            | E::Socket(_)
            | E::Descriptors(_)
            | E::Storage(_)
            | E::Limits(_) => (StatusCode::UNPROCESSABLE_ENTITY, "bad_config"),
            E::UnderWay | E::NotNow(_) => (StatusCode::CONFLICT, "conflict"),
            E::Ending => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            E::Panicked(_) => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
        };
        Self::new(status, word, error.to_string())
    }
}

impl From<NotAdmitted> for Problem {
    fn from(error: NotAdmitted) -> Self {
        match error {
            NotAdmitted::Closed => Self::unavailable(error.to_string()),
            NotAdmitted::Full(_) => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_sessions",
                format!("{error}; wait for one to end"),
            ),
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match &error {
            Error::Unknown(_) => Self::not_found(format!(
                "{error}; GET /checkpoints lists those that there are"
            )),
            Error::NoEntry(_) => Self::not_found(error.to_string()),
            Error::Archive(_) => Self::bad_request(error.to_string()),
            Error::Busy(_) => Self::conflict(error.to_string()),
            Error::Active(_) => Self::conflict(format!(
                "{error}: the environment was restored from it; restore another or make a new one first"
            )),
            _ => {
                tracing::error!("{error}");
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                Self::new(status, "checkpoint_store", error.to_string())
            }
        }
    }
}
