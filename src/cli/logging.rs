//! Our own log: to standard error, from a thread of its own, so that a slow reader
//! cannot hold up the event loop.

use std::io::{self, IsTerminal as _};

use tracing::Level;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::Config;

/// How many lines may wait to be written. Beyond that lines are lost, not time.
const LINES: usize = 8 * 1024;

/// Begins to log to standard error, in a child whose lines are a component's.
pub fn start_in_component() {
    let layer = fmt::layer()
        .without_time()
        .with_level(false)
        .with_target(false)
        .with_ansi(false)
        .with_writer(io::stderr);
    let levels = Targets::new().with_target("sprite_env", Level::INFO);
    tracing_subscriber::registry()
        .with(layer.with_filter(levels))
        .init();
}

/// Begins to log. What is logged is written when the guard is dropped.
pub fn start(config: &Config) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES)
        .lossy(true)
        .finish(io::stderr());
    let layer = fmt::layer()
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(writer);
    let layer = if config.log_json {
        layer.json().flatten_event(true).boxed()
    } else {
        layer.boxed()
    };
    // What libraries say of each connection helps nobody who does not work on them.
    let libraries = config.log_level.min(Level::WARN);
    let levels = Targets::new()
        .with_default(libraries)
        .with_target("sprite_env", config.log_level)
        .with_target("machines", config.log_level);
    tracing_subscriber::registry()
        .with(layer.with_filter(levels))
        .init();
    std::panic::set_hook(Box::new(|panic| tracing::error!("internal error: {panic}")));
    guard
}
