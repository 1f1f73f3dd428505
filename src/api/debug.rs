//! `POST /debug/create-zombie` and `GET /debug/check-process`: proof that zombies are
//! reaped. They exist only with `-debug` or `debug_endpoints`.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use super::problem::Problem;
use crate::pid1::{is_pid_1, tree};
use crate::reaper::Reaper;

/// How long a child may take to end, and a zombie to be reaped, on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(30);

/// The query of `check-process`.
#[derive(Debug, Deserialize)]
pub struct Check {
    pid: Option<String>,
}

/// Makes a zombie and watches it being reaped.
pub async fn create_zombie(State(shared): State<Shared>) -> Result<Json<Value>, Problem> {
    let reaper = shared.reaper.clone();
    let mut tally = shared.reaper.tally();
    let pass = reaper.gate().read_owned().await;
    let made = tokio::task::spawn_blocking(move || {
        let made = make_zombie(&reaper);
        drop(pass);
        made
    });
    let made = made
        .await
        .map_err(|panic| Problem::internal(panic.to_string()))?;
    let (pid, was_zombie) =
        made.map_err(|error| Problem::internal(format!("cannot make a zombie: {error}")))?;
    let start = Instant::now();
    let gone = tokio::time::timeout(LIMIT, async {
        while tree::read(pid).is_some() && tally.changed().await.is_ok() {}
    });
    let was_reaped = gone.await.is_ok();
    Ok(Json(json!({
        "message": "Zombie process test completed",
        "pid": pid,
        "was_zombie": was_zombie,
        "was_reaped": was_reaped,
        "reap_duration": format!("{:?}", start.elapsed()),
        "note": if is_pid_1() { "running as PID 1" } else { "not PID 1; our own children are reaped all the same" },
        "success": was_zombie && was_reaped,
    })))
}

/// Starts a child that ends at once, while nothing is reaped: so it is a zombie for
/// certain when it is looked at.
fn make_zombie(reaper: &Reaper) -> std::io::Result<(i32, bool)> {
    reaper.hold(|| {
        let child = Command::new("/proc/self/exe")
            .arg("-version")
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let pid = i32::try_from(child.id()).map_err(std::io::Error::other)?;
        let start = Instant::now();
        while start.elapsed() < LIMIT {
            if tree::read(pid).is_some_and(|entry| entry.is_dead()) {
                return Ok((pid, true));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok((pid, false))
    })
}

/// Whether a process exists, and whether it is a zombie.
pub async fn check_process(Query(check): Query<Check>) -> Result<Json<Value>, Problem> {
    let pid = check.pid.as_deref().map(str::parse::<i32>);
    let Some(Ok(pid @ 1..)) = pid else {
        return Err(Problem::bad_request(
            "give the process id: /debug/check-process?pid=123",
        ));
    };
    let entry = tree::read(pid);
    Ok(Json(json!({
        "pid": pid,
        "exists": entry.is_some(),
        "is_zombie": entry.is_some_and(|entry| entry.state == 'Z'),
        "proc_status": entry.map(|entry| entry.state.to_string()),
    })))
}
