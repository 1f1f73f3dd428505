//! A command that is run before something is told to go.

use std::time::Duration;

use crate::spawn::{Program, Spawner};

/// Runs `program`, and ends when it has ended or `timeout` is over: then it is killed. Whether
/// it ended well; what was wrong is in the log.
pub async fn run(spawner: Spawner, name: String, program: Program, timeout: Duration) -> bool {
    let child = match spawner.spawn_soon(program).await {
        Ok(child) => child,
        Err(error) => {
            tracing::warn!("{name}: {error}");
            return false;
        }
    };
    let guard = spawner.reaper.guard(child.pid);
    let Ok((exit, said)) = tokio::time::timeout(timeout, child.finish()).await else {
        // The guard kills it.
        tracing::warn!("{name} takes longer than {timeout:?}, and is killed");
        return false;
    };
    guard.disarm();
    let said = said.trim();
    match exit {
        Some(exit) if exit.success() => {
            tracing::debug!(said, "{name} is done");
            return true;
        }
        Some(exit) => tracing::warn!(said, "{name} ended with {exit}"),
        None => tracing::warn!("{name} was lost"),
    }
    false
}
