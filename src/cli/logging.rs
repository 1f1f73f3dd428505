//! Our own log: to standard error, from a thread of its own, so that a slow reader
//! cannot hold up the event loop.

use std::io::{self, IsTerminal as _};

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt;

use crate::config::Config;

/// How many lines may wait to be written. Beyond that lines are lost, not time.
const LINES: usize = 8 * 1024;

/// Begins to log. What is logged is written when the guard is dropped.
pub fn start(config: &Config) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES)
        .lossy(true)
        .finish(io::stderr());
    let builder = fmt()
        .with_max_level(config.log_level)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(writer);
    if config.log_json {
        builder.json().flatten_event(true).init();
    } else {
        builder.init();
    }
    std::panic::set_hook(Box::new(|panic| tracing::error!("internal error: {panic}")));
    guard
}
