//! `sprite-env process …`, `sprite-env components …` and `sprite-env config reload`.

use std::io::Write as _;

use reqwest::Method;
use serde_json::{Value, json};

use super::arguments::{
    ComponentsOptions, ComponentsVerb, DaemonOptions, ProcessOptions, ProcessVerb,
};
use super::client::{Client, Failure, finish};
use crate::config::value::format_duration;

/// Does something with the main process; returns the exit code.
pub fn process(options: &ProcessOptions) -> u8 {
    let (verb, signal) = match &options.verb {
        ProcessVerb::Start => ("start", None),
        ProcessVerb::Stop => ("stop", None),
        ProcessVerb::Restart => ("restart", None),
        ProcessVerb::Signal { signal } => ("signal", Some(signal)),
    };
    let path = ["process", verb];
    let told = tell(&options.daemon, &path, signal.map(String::as_str));
    exit_code(told)
}

/// Does something with components; returns the exit code.
pub fn components(options: &ComponentsOptions) -> u8 {
    let (name, verb, signal) = match &options.verb {
        ComponentsVerb::List => return exit_code(list(&options.daemon)),
        ComponentsVerb::Start { name } => (name, "start", None),
        ComponentsVerb::Stop { name } => (name, "stop", None),
        ComponentsVerb::Restart { name } => (name, "restart", None),
        ComponentsVerb::Signal { name, signal } => (name, "signal", Some(signal)),
    };
    let path = ["components", name, verb];
    let told = tell(&options.daemon, &path, signal.map(String::as_str));
    exit_code(told)
}

/// Has the configuration read again, or asks what that would do; returns the exit code.
pub fn reload(daemon: &DaemonOptions, dry_run: bool) -> u8 {
    exit_code(async {
        let client = Client::found(daemon.at.server.as_deref())?;
        let wait = format_duration(daemon.wait);
        let query = match (dry_run, daemon.wait.is_zero()) {
            (true, _) => vec![("dry_run", "1")],
            (false, true) => vec![],
            (false, false) => vec![("wait", wait.as_str())],
        };
        let path = ["config", "reload"];
        let response = client.send(Method::POST, &path, &query, None).await?;
        let answer = client.json(response).await?;
        let mut out = std::io::stdout().lock();
        if daemon.at.json {
            return Ok(writeln!(out, "{answer}")?);
        }
        let changes = answer.get("changes").unwrap_or(&Value::Null);
        if let Some(process) = changes.get("process") {
            writeln!(out, "{}", change("main process", process))?;
        }
        let components = changes.get("components").and_then(Value::as_object);
        for (name, part) in components.into_iter().flatten() {
            writeln!(out, "{}", change(name, part))?;
        }
        for key in texts(changes, "taken_over") {
            writeln!(out, "{key:<24} taken over")?;
        }
        for key in texts(changes, "not_taken_over") {
            writeln!(out, "{key:<24} needs a new start of sprite-env")?;
        }
        Ok(())
    })
}

/// What becomes of one part, for people.
fn change(name: &str, change: &Value) -> String {
    let action = text(change, "action");
    let changed: Vec<_> = texts(change, "changed").collect();
    if changed.is_empty() {
        return format!("{name:<24} {action}");
    }
    format!("{name:<24} {action}: {}", changed.join(", "))
}

fn texts<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    let list = value.get(key).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str)
}

fn exit_code(work: impl Future<Output = Result<(), Failure>>) -> u8 {
    finish(work).err().unwrap_or(0)
}

async fn tell(daemon: &DaemonOptions, path: &[&str], signal: Option<&str>) -> Result<(), Failure> {
    let client = Client::found(daemon.at.server.as_deref())?;
    let wait = format_duration(daemon.wait);
    let query = [("wait", wait.as_str())];
    let waits = signal.is_none() && !daemon.wait.is_zero();
    let query = if waits { query.as_slice() } else { &[] };
    let body = signal.map(|signal| json!({ "signal": signal }).to_string().into());
    let response = client.send(Method::POST, path, query, body).await?;
    let answer = client.json(response).await?;
    let mut out = std::io::stdout().lock();
    if daemon.at.json {
        return Ok(writeln!(out, "{answer}")?);
    }
    let part = answer.get("process").or_else(|| answer.get("component"));
    match part {
        Some(part) => writeln!(out, "{}", line(part))?,
        None => writeln!(out, "{}", text(&answer, "message"))?,
    }
    Ok(())
}

async fn list(daemon: &DaemonOptions) -> Result<(), Failure> {
    let client = Client::found(daemon.at.server.as_deref())?;
    let response = client.send(Method::GET, &["components"], &[], None).await?;
    let found = client.json(response).await?;
    let mut out = std::io::stdout().lock();
    if daemon.at.json {
        return Ok(writeln!(out, "{found}")?);
    }
    for (name, part) in found.as_object().into_iter().flatten() {
        writeln!(out, "{name:<24} {}", line(part))?;
    }
    Ok(())
}

/// How one does, for people.
fn line(part: &Value) -> String {
    let pid = part.get("pid").and_then(Value::as_i64);
    let uptime = part.get("uptime").and_then(Value::as_f64).map(|uptime| {
        let uptime = std::time::Duration::try_from_secs_f64(uptime.round()).unwrap_or_default();
        format!("up {}", format_duration(uptime))
    });
    let starts = part.get("starts").and_then(Value::as_u64).unwrap_or(0);
    let words = [
        Some(text(part, "state").to_owned()),
        pid.map(|pid| format!("pid {pid}")),
        uptime,
        (starts > 1).then(|| format!("started {starts} times")),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}
