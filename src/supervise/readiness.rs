//! Asking a component whether it is ready.

use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use super::output::{self, Backlog, Sink, Stream, pump};
use crate::spawn::{Program, SpawnError, Spawner};

/// The first pause between two runs of the ready command, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Runs the ready command, with the component's output as its input, again and again
/// until it exits with 0. The error is that it cannot be run at all.
pub async fn wait(
    spawner: Spawner,
    program: Program,
    name: String,
    backlog: Backlog,
    sink: Sink,
) -> Result<(), SpawnError> {
    let mut pause = PAUSE.0;
    loop {
        let child = spawner.spawn_soon(program.clone()).await?;
        // When the component goes or time runs out, this future is dropped.
        let guard = spawner.reaper.guard(child.pid);
        let label = format!("{name} ready");
        if let Some(out) = child.stdout.and_then(|fd| output::reader(fd).ok()) {
            tokio::spawn(pump(out, label.clone(), Stream::Stdout, sink.clone(), None));
        }
        if let Some(err) = child.stderr.and_then(|fd| output::reader(fd).ok()) {
            tokio::spawn(pump(err, label, Stream::Stderr, sink.clone(), None));
        }
        let input = child.stdin.and_then(|fd| output::writer(fd).ok());
        // It ends with this run: a silent component would never let it find out by itself
        // that nobody reads any more.
        let _feed =
            input.map(|input| AbortOnDropHandle::new(tokio::spawn(backlog.clone().feed(input))));
        let exit = child.exit.await;
        guard.disarm();
        match exit {
            Ok(exit) if exit.success() => return Ok(()),
            Ok(exit) => tracing::debug!(component = name, %exit, "not ready yet"),
            Err(_) => tracing::debug!(component = name, "its ready command was lost"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}
