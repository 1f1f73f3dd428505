//! Requests for the environment's own web server, which an edge replays to our address.
//!
//! `fly-replay-src: …;state=proxy:TOKEN:PORT` diverts a request, whatever its method, path
//! or upgrade, to that port of the environment. Without a port it goes to
//! `url_proxy.port`. The header is taken out, so the server never sees the token.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::problem::Problem;
use super::{Shared, auth};

/// How long a server that does not listen yet is waited for.
const COMING_UP: Duration = Duration::from_secs(2);
/// How long after one attempt to connect comes the next.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a server may take to accept.
const CONNECT: Duration = Duration::from_secs(10);
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// What concerns one connection only (RFC 9110, 7.6.1), beside what `Connection` names.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Takes requests for the environment's web server out of those for us.
pub async fn divert(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    match destination(request.headers(), &shared) {
        None => next.run(request).await,
        Some(Ok(port)) => forward(&shared, port, request)
            .await
            .unwrap_or_else(axum::response::IntoResponse::into_response),
        Some(Err(problem)) => problem.into_response(),
    }
}

/// The port that a request is for, if it is not for us.
fn destination(headers: &HeaderMap, shared: &Shared) -> Option<Result<u16, Problem>> {
    let state = auth::replay_states(headers).find_map(|state| state.strip_prefix("proxy:"))?;
    let trusts = |token: &str| match &shared.token {
        Some(secret) => secret.is(token.as_bytes()),
        None => true,
    };
    let is_edge = shared.url_proxy.trust_edge && state.starts_with(':');
    let (token, port) = state.rsplit_once(':').unwrap_or((state, ""));
    // A token may have a colon in it, and no port need follow it.
    let port = if shared.token.is_some() && trusts(state) {
        ""
    } else if is_edge || trusts(token) {
        port
    } else {
        return Some(Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "Missing or invalid authentication: the state in fly-replay-src is \
             proxy:TOKEN:PORT, with the value of SPRITE_HTTP_API_TOKEN",
        )));
    };
    if port.is_empty() {
        return Some(Ok(shared.url_proxy.port));
    }
    match port.parse().ok().filter(|port| *port > 0_u16) {
        Some(port) => Some(Ok(port)),
        // What an edge puts there need not be a port.
        None if is_edge => Some(Ok(shared.url_proxy.port)),
        None => Some(Err(Problem::bad_request(format!(
            "\"{port}\" in the state of fly-replay-src is no port; it is proxy:TOKEN:PORT"
        )))),
    }
}

async fn forward(shared: &Shared, port: u16, mut request: Request) -> Result<Response, Problem> {
    shared.hold_for_commands().await?;
    let stream = connect(shared, port).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| bad_gateway(port, &error))?;
    let connection = connection.with_upgrades();
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the environment's web server ended");
        }
    });
    let client = request.extensions_mut().remove::<OnUpgrade>();
    let request = readdressed(shared, port, request);
    let heard = Arc::new(Mutex::new(Instant::now()));
    let listening = Arc::clone(&heard);
    // As long as the client sends, the server need not have answered.
    let request = request.map(|body| {
        Body::new(body.map_frame(move |frame| {
            *listening.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            frame
        }))
    });
    let mut response = tokio::select! {
        response = sender.send_request(request) => {
            response.map_err(|error| bad_gateway(port, &error))?
        }
        limit = silence(&heard, shared.url_proxy.response_timeout) => {
            return Err(Problem::new(
                StatusCode::GATEWAY_TIMEOUT,
                "proxy_timeout",
                format!(
                    "Proxy error: the server on port {port} did not begin to answer in {} \
                     (url_proxy.response_timeout)",
                    crate::config::value::format_duration(limit)
                ),
            ));
        }
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let server = hyper::upgrade::on(&mut response);
        tokio::spawn(pass_on(client, server));
    } else {
        take_out(response.headers_mut(), None);
    }
    Ok(response.map(Body::new))
}

/// Ends when nothing was heard from the client for `limit`, if there is one.
async fn silence(heard: &Mutex<Instant>, limit: Option<Duration>) -> Duration {
    let Some(limit) = limit else {
        return std::future::pending().await;
    };
    loop {
        let last = *heard.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= limit {
            return limit;
        }
        tokio::time::sleep_until(last + limit).await;
    }
}

/// What the server gets: without what was meant for us.
fn readdressed(shared: &Shared, port: u16, mut request: Request) -> Request {
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    *request.version_mut() = Version::HTTP_11;
    let has_body = !request.body().is_end_stream();
    let headers = request.headers_mut();
    let upgrade = headers.get(header::UPGRADE).cloned();
    take_out(headers, upgrade);
    headers.remove(auth::REPLAY_SOURCE);
    // Of some methods a body without either would be taken for none.
    if has_body && !headers.contains_key(header::CONTENT_LENGTH) {
        let chunked = HeaderValue::from_static("chunked");
        headers.insert(header::TRANSFER_ENCODING, chunked);
    }
    // The server's own authorization passes; ours is none of its business.
    let is_ours = |value: &HeaderValue| {
        let value = value.to_str().unwrap_or_default();
        let token = shared.token.as_ref();
        token.is_some_and(|token| auth::authorization_is(value, token))
    };
    if headers.get_all(header::AUTHORIZATION).iter().any(is_ours) {
        headers.remove(header::AUTHORIZATION);
    }
    // Servers under development refuse names that they do not know.
    let local = HeaderValue::try_from(format!("localhost:{port}"));
    if let Ok(local) = local
        && let Some(host) = headers.insert(header::HOST, local)
    {
        headers.entry(FORWARDED_HOST).or_insert(host);
    }
    request
}

/// Takes out what concerns one connection only, but for an upgrade under way.
fn take_out(headers: &mut HeaderMap, upgrade: Option<HeaderValue>) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // These are nobody's to take out.
        .filter(|name| *name != header::CONTENT_LENGTH && *name != header::HOST)
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    if let Some(upgrade) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, upgrade);
    }
}

async fn connect(shared: &Shared, port: u16) -> Result<TcpStream, Problem> {
    let began = Instant::now();
    loop {
        let connecting = shared.namespace.connect("localhost", port);
        match tokio::time::timeout(CONNECT, connecting).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error))
                if error.kind() == io::ErrorKind::ConnectionRefused
                    && began.elapsed() < COMING_UP =>
            {
                tokio::time::sleep(PAUSE).await;
            }
            Ok(Err(error)) => return Err(bad_gateway(port, &error)),
            Err(_) => {
                let why = format!("Proxy error: the server on port {port} does not accept");
                let status = StatusCode::GATEWAY_TIMEOUT;
                return Err(Problem::new(status, "proxy_timeout", why));
            }
        }
    }
}

fn bad_gateway(port: u16, error: &dyn std::error::Error) -> Problem {
    let why = format!("Proxy error: no answer from port {port} of the environment: {error}");
    Problem::new(StatusCode::BAD_GATEWAY, "proxy_error", why)
}

/// Both sides speak another protocol from now on.
async fn pass_on(client: Option<OnUpgrade>, server: OnUpgrade) {
    let Some(client) = client else { return };
    let (client, server) = match tokio::try_join!(client, server) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "an upgrade failed");
            return;
        }
    };
    let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
    // However it ends, it ends for both.
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}
