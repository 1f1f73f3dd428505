//! The `{id}` of a path. The same handlers are served at `/`, below `/v1` and under
//! `/v1/sprites/{name}`, so a path has one parameter or two.

use std::collections::HashMap;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use super::problem::Problem;

/// What stands for `{id}` in the path.
#[derive(Debug)]
pub struct Id(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let parameters = Path::<HashMap<String, String>>::from_request_parts(parts, state).await;
        let Path(mut parameters) =
            parameters.map_err(|error| Problem::bad_request(error.body_text()))?;
        let id = parameters.remove("id");
        id.map(Self)
            .ok_or_else(|| Problem::bad_request("the path has no id"))
    }
}
