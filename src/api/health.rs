//! `GET /healthz`: we are alive. `GET /readyz`: all is up. Both without a token: they
//! say nothing else, and probes cannot keep secrets.

use axum::extract::State;
use axum::http::StatusCode;

use super::Shared;
use super::problem::Problem;

/// We are alive.
pub async fn alive() -> &'static str {
    "ok\n"
}

/// All is up, or 503.
pub async fn ready(State(shared): State<Shared>) -> Result<(StatusCode, &'static str), Problem> {
    let status = shared.handle.status();
    let status = status.borrow();
    if status.is_ready() {
        Ok((StatusCode::OK, "ok\n"))
    } else {
        Err(Problem::unavailable(format!(
            "the system is {}",
            status.state
        )))
    }
}
