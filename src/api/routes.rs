//! The one table of routes: path, methods, and who may use them.

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, any, delete, get, post, put};
use tower_http::catch_panic::CatchPanicLayer;

use super::problem::Problem;
use super::settle::{Verb, Wait};
use super::{
    Shared, auth, body, checkpoint_archives, checkpoint_files, checkpoints, components, config,
    console, control, debug, events, exec, files, health, logs, metrics, openapi, ports, process,
    proxy, sprite, status, url_proxy,
};

/// Everything that is served.
pub fn router(shared: Shared) -> Router {
    let named = guarded(&shared).layer(middleware::from_fn_with_state(shared.clone(), check_name));
    let authorized = Router::new()
        .route("/v1/sprites", get(sprite::list).post(sprite::create))
        .route(
            "/v1/sprites/{name}",
            get(sprite::get)
                .delete(sprite::delete)
                .put(sprite::not_built),
        )
        .method_not_allowed_fallback(wrong_method)
        .nest("/v1/sprites/{name}", named)
        .nest(
            "/v1",
            of_checkpoints().method_not_allowed_fallback(wrong_method),
        )
        .merge(guarded(&shared))
        .fallback(not_found)
        // The token is looked at before anything else, unknown paths included.
        .layer(middleware::from_fn_with_state(
            shared.clone(),
            auth::require,
        ));
    let open = Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/openapi.json", get(openapi::get))
        .route("/console", get(console::page))
        .route("/console/{part}", get(console::part))
        .method_not_allowed_fallback(wrong_method);
    open.merge(authorized)
        .layer(middleware::map_response(version))
        .layer(middleware::from_fn(body::read_small))
        // What is for the environment's own web server is no business of ours.
        .layer(middleware::from_fn_with_state(
            shared.clone(),
            url_proxy::divert,
        ))
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(shared)
}

/// What does `verb` with the main process.
fn of_process(verb: Verb) -> MethodRouter<Shared> {
    post(move |State(shared), Query(wait): Query<Wait>| process::control(shared, wait, verb))
}

/// What does `verb` with a component.
fn of_component(verb: Verb) -> MethodRouter<Shared> {
    post(move |State(shared), parameters, Query(wait): Query<Wait>| {
        components::control(shared, parameters, wait, verb)
    })
}

/// What needs the token. Served at `/` and under `/v1/sprites/{name}`.
fn guarded(shared: &Shared) -> Router<Shared> {
    let mut routes = Router::new()
        .route("/status", get(status::get))
        .route("/metrics", get(metrics::get))
        .route("/logs", get(logs::get))
        .route("/events", get(events::stream))
        .route("/journal", get(events::journal))
        .route("/exec", get(exec::socket::get).post(exec::post))
        .route("/exec/{id}", get(exec::socket::attach))
        .route("/exec/{id}/kill", post(exec::sessions::kill))
        .route("/control", get(control::get))
        .route("/proxy", get(proxy::get))
        .route("/ports/watch", get(ports::get))
        .route("/fs/read", get(files::read::read))
        .route("/fs/write", put(files::write::write))
        .route("/fs/list", get(files::list))
        .route("/fs/delete", delete(files::change::delete))
        .route("/fs/rename", post(files::change::rename))
        .route("/fs/copy", post(files::change::copy))
        .route("/fs/chmod", post(files::change::chmod))
        .route("/fs/chown", post(files::change::chown))
        .route("/fs/watch", get(files::watch::get))
        .route("/policy/{kind}", any(sprite::not_yet))
        .route("/suspend", any(sprite::not_yet))
        .route("/sync", any(sprite::not_yet))
        .route("/check", get(sprite::check))
        .route("/upgrade", post(sprite::not_built))
        .route("/restart", post(sprite::not_built))
        .route("/process/start", of_process(Verb::Start))
        .route("/process/stop", of_process(Verb::Stop))
        .route("/process/restart", of_process(Verb::Restart))
        .route("/process/signal", post(process::signal))
        .route("/components", get(components::list))
        .route("/components/{component}", get(components::get))
        .route("/components/{component}/start", of_component(Verb::Start))
        .route("/components/{component}/stop", of_component(Verb::Stop))
        .route(
            "/components/{component}/restart",
            of_component(Verb::Restart),
        )
        .route("/components/{component}/signal", post(components::signal))
        .route("/config/reload", post(config::reload))
        .merge(of_checkpoints());
    if shared.debug_endpoints {
        routes = routes
            .route("/debug/create-zombie", post(debug::create_zombie))
            .route("/debug/check-process", get(debug::check_process));
    }
    routes.method_not_allowed_fallback(wrong_method)
}

/// Those of checkpoints. Served below `/v1` too, as clients within the environment expect it.
fn of_checkpoints() -> Router<Shared> {
    Router::new()
        .route("/checkpoint", post(checkpoints::create))
        .route("/checkpoints", get(checkpoints::list))
        .route(
            "/checkpoints/{id}",
            get(checkpoints::get).delete(checkpoints::delete),
        )
        .route("/checkpoints/verify", post(checkpoints::verify))
        .route("/checkpoints/gc", post(checkpoints::collect_garbage))
        .route("/checkpoints/import", post(checkpoint_archives::import))
        .route("/checkpoints/{id}/export", get(checkpoint_archives::export))
        .route("/checkpoints/{id}/restore", post(checkpoints::restore))
        .route("/checkpoints/{id}/files", get(checkpoint_files::get))
        .route(
            "/checkpoints/{id}/diff/{other}",
            get(checkpoint_files::diff),
        )
        .route("/restore", post(checkpoints::restore_by_body))
}

/// There is one environment here; a request for another has lost its way.
async fn check_name(
    State(shared): State<Shared>,
    Path(parameters): Path<Vec<(String, String)>>,
    request: Request,
    next: Next,
) -> Response {
    let name = parameters.iter().find(|(key, _)| key == "name");
    match name.map_or(Ok(()), |(_, name)| shared.check_name(name)) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

impl Shared {
    /// Whether `name` is this environment's.
    pub(super) fn check_name(&self, name: &str) -> Result<(), Problem> {
        if name == self.sprite_name {
            return Ok(());
        }
        Err(Problem::not_found(format!(
            "there is no environment \"{name}\" here; this one is \"{}\"",
            self.sprite_name
        )))
    }
}

async fn not_found(request: Request) -> Problem {
    Problem::not_found(format!(
        "there is nothing at {}; the README lists the paths",
        request.uri().path()
    ))
}

async fn wrong_method(request: Request) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!(
            "Method not allowed: {} cannot be used with {}; the header Allow lists what can",
            request.method(),
            request.uri().path()
        ),
    )
}

/// Everything carries our version, and what axum refuses by its own rules (a path or a
/// query that is no text) becomes a problem like any other.
async fn version(mut response: Response) -> Response {
    let kind = response.headers().get(header::CONTENT_TYPE);
    let plain = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if plain && response.status() == StatusCode::BAD_REQUEST {
        let body = axum::body::to_bytes(response.into_body(), 4096).await;
        let why = String::from_utf8_lossy(&body.unwrap_or_default()).into_owned();
        response = Problem::bad_request(why).into_response();
    }
    let version = HeaderValue::from_static(env!("CARGO_PKG_VERSION"));
    response.headers_mut().insert("sprite-version", version);
    response
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    // What it was is in the log, by the panic hook; it may hold what clients must not see.
    Problem::internal("this request met an error in sprite-env itself; the log has it")
        .into_response()
}
