//! `GET /console`: a page with the machines' charts, live. It and its parts are the same everywhere
//! and tell nothing, so they need no token; what the page asks for does.

use std::collections::BTreeMap;

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use clap::ValueEnum as _;
use tokio::sync::OnceCell;

use super::problem::Problem;
use crate::diagrams::{self, MachineName};

/// What the page may do: run its own scripts, and talk to the daemon that it is from.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                      img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

/// The page.
pub async fn page(headers: HeaderMap) -> Response {
    let page = include_str!("console/console.html");
    answer(&headers, "text/html; charset=utf-8", page)
}

/// A part of it.
pub async fn part(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let (kind, text) = match name.as_str() {
        "console.css" => (
            "text/css; charset=utf-8",
            include_str!("console/console.css"),
        ),
        "console.js" => (SCRIPT, include_str!("console/console.js")),
        "actions.js" => (SCRIPT, include_str!("console/actions.js")),
        "api.js" => (SCRIPT, include_str!("console/api.js")),
        "charts.js" => (SCRIPT, include_str!("console/charts.js")),
        "elements.js" => (SCRIPT, include_str!("console/elements.js")),
        "journal.js" => (SCRIPT, include_str!("console/journal.js")),
        "steps.js" => (SCRIPT, include_str!("console/steps.js")),
        "charts.json" => return charts(&headers).await,
        name => {
            let machine = name.strip_suffix(".svg").unwrap_or_default();
            let missing = |_| Problem::not_found(format!("the console has no part \"{name}\""));
            let machine = MachineName::from_str(machine, false).map_err(missing)?;
            (PICTURE, machine.picture())
        }
    };
    Ok(answer(&headers, kind, text))
}

/// What is behind the pictures: a diagram for each kind of machine, found out once.
async fn charts(headers: &HeaderMap) -> Result<Response, Problem> {
    static CHARTS: OnceCell<String> = OnceCell::const_new();
    let explore = || {
        let diagrams = diagrams::all();
        let named = diagrams.into_iter().map(|diagram| (diagram.name, diagram));
        serde_json::to_string(&named.collect::<BTreeMap<_, _>>())
    };
    let explored = CHARTS.get_or_try_init(|| async {
        let text = tokio::task::spawn_blocking(explore).await;
        let text = text.map_err(|error| Problem::internal(error.to_string()))?;
        text.map_err(|error| Problem::internal(error.to_string()))
    });
    Ok(answer(headers, "application/json", explored.await?))
}

/// An answer that a browser need not load again while it is the same.
fn answer(headers: &HeaderMap, kind: &'static str, text: &'static str) -> Response {
    let tag = format!("\"{}\"", blake3::hash(text.as_bytes()).to_hex());
    let has = headers
        .get(header::IF_NONE_MATCH)
        .map(HeaderValue::as_bytes);
    let fixed = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(POLICY),
        ),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        ),
    ];
    let tagged = [(header::ETAG, tag.clone())];
    if has == Some(tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, fixed, tagged).into_response();
    }
    (fixed, tagged, text).into_response()
}
