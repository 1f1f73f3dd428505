//! Who may use the API: whoever sends the token, in one of four ways. Comparisons take
//! the same time whatever was sent.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Shared;
use super::problem::Problem;
use crate::config::Secret;

/// The header with which an edge replays requests to us.
pub const REPLAY_SOURCE: &str = "fly-replay-src";

/// Lets only those through who send the token.
pub async fn require(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let allowed = match &shared.token {
        Some(token) => is_authorized(request.headers(), token),
        // Only on a unix socket: there the file's mode decides, and not a page of somebody else's
        // in the browser of someone who may.
        None if is_of_another_site(request.headers()) => {
            let why = "a page of another site must not use this API";
            return Problem::new(StatusCode::FORBIDDEN, "forbidden", why).into_response();
        }
        None => true,
    };
    if allowed {
        return next.run(request).await;
    }
    let problem = Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "Missing or invalid authentication: send \"Authorization: Bearer TOKEN\" with the value \
         of SPRITE_HTTP_API_TOKEN",
    );
    ([(header::WWW_AUTHENTICATE, "Bearer")], problem).into_response()
}

/// Whether a browser sends this for a page that is not from us.
fn is_of_another_site(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
    let origin = headers.get(header::ORIGIN).map(HeaderValue::as_bytes);
    origin.is_some_and(|origin| {
        let scheme = origin.windows(3).position(|part| part == b"://");
        let site = scheme.and_then(|at| origin.get(at + 3..));
        site.is_none() || site != host
    })
}

fn is_authorized(headers: &HeaderMap, token: &Secret) -> bool {
    let authorization = headers.get_all(header::AUTHORIZATION).iter();
    authorization
        .filter_map(|value| value.to_str().ok())
        .any(|value| authorization_is(value, token))
        || replay_states(headers).any(|state| replay_state_is(state, token))
}

/// What an edge that replays requests says of each: the `state`s of `fly-replay-src`, a
/// list of `key=value` between semicolons.
pub fn replay_states(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(REPLAY_SOURCE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|part| part.trim().strip_prefix("state="))
        .map(str::trim)
}

/// Whether it is `Bearer TOKEN`, or `Basic` with user `bearer` and the token as password.
pub fn authorization_is(value: &str, token: &Secret) -> bool {
    let Some((scheme, credentials)) = value.trim().split_once(' ') else {
        return false;
    };
    let credentials = credentials.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return token.is(credentials.as_bytes());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = STANDARD.decode(credentials).unwrap_or_default();
        return decoded
            .strip_prefix(b"bearer:")
            .is_some_and(|guess| token.is(guess));
    }
    false
}

/// `TOKEN` or `api:TOKEN`.
fn replay_state_is(state: &str, token: &Secret) -> bool {
    let api = state.strip_prefix("api:").unwrap_or(state);
    token.is(state.as_bytes()) | token.is(api.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_sites_are_told_apart() {
        for (host, origin, other) in [
            ("localhost:7778", None, false),
            ("localhost:7778", Some("http://localhost:7778"), false),
            ("localhost:7778", Some("https://example.org"), true),
            ("localhost:7778", Some("http://localhost:8080"), true),
            ("localhost:7778", Some("null"), true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            assert_eq!(is_of_another_site(&headers), other, "{origin:?}");
        }
    }

    #[test]
    fn four_ways_to_send_the_token() {
        let token = Secret::new("s3cret:with/odd=chars".to_owned());
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let cases = [
            (
                "authorization",
                "Bearer s3cret:with/odd=chars".to_owned(),
                true,
            ),
            (
                "authorization",
                "bearer   s3cret:with/odd=chars ".to_owned(),
                true,
            ),
            ("authorization", "Bearer s3cret".to_owned(), false),
            ("authorization", "Bearer".to_owned(), false),
            ("authorization", "s3cret:with/odd=chars".to_owned(), false),
            ("authorization", basic("bearer:s3cret:with/odd=chars"), true),
            ("authorization", basic("root:s3cret:with/odd=chars"), false),
            ("authorization", "Basic ???".to_owned(), false),
            (
                "fly-replay-src",
                "instance=1;state=s3cret:with/odd=chars".to_owned(),
                true,
            ),
            (
                "fly-replay-src",
                "state=api:s3cret:with/odd=chars;t=1".to_owned(),
                true,
            ),
            (
                "fly-replay-src",
                "state=proxy:s3cret:with/odd=chars".to_owned(),
                false,
            ),
            ("fly-replay-src", "state=".to_owned(), false),
            ("x-token", "s3cret:with/odd=chars".to_owned(), false),
        ];
        for (name, value, allowed) in cases {
            let mut headers = HeaderMap::new();
            if let Ok(value) = value.parse() {
                headers.insert(name, value);
            }
            assert_eq!(is_authorized(&headers, &token), allowed, "{name}: {value}");
        }
        assert!(!is_authorized(&HeaderMap::new(), &token));
    }
}
