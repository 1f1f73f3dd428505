//! `sprite-env checkpoints …`: what the API does with checkpoints, for people and scripts.

mod archives;
mod progress;

use std::io::{self, Write as _};

use reqwest::{Method, Response};
use serde_json::{Value, json};

use self::progress::{bar, follow};
use super::arguments::{CheckpointsOptions, CheckpointsVerb};
use super::client::{self, Client, FAILED, Failure};

/// Asks for lines that tell how far an operation is.
const PROGRESS: [(&str, &str); 1] = [("progress", "true")];
/// A checkpoint was taken, but something could not be read. The same as restic's.
const INCOMPLETE: u8 = 3;

/// What came of a verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// All is well.
    Done,
    /// Something could not be read, and is not in the checkpoint.
    Incomplete,
    /// It is not.
    Failed,
}

/// Runs the verb; returns the exit code.
pub fn run(options: &CheckpointsOptions) -> u8 {
    match client::finish(perform(options)) {
        Ok(Outcome::Done) => 0,
        Ok(Outcome::Failed) => FAILED,
        Ok(Outcome::Incomplete) => INCOMPLETE,
        Err(code) => code,
    }
}

/// Does it.
async fn perform(options: &CheckpointsOptions) -> Result<Outcome, Failure> {
    let client = Client::found(options.at.server.as_deref())?;
    let get = async |path: &[&str], query: &[(&str, &str)]| {
        let response = client.send(Method::GET, path, query, None).await?;
        client.json(response).await
    };
    let json = options.at.json;
    match &options.verb {
        CheckpointsVerb::Create { comment, wait } => {
            let body = json!({ "wait": wait, "comment": comment }).to_string();
            let path = ["checkpoint"];
            let response = client
                .send(Method::POST, &path, &PROGRESS, Some(body.into()))
                .await?;
            follow(&client, response, json).await
        }
        CheckpointsVerb::Restore { id } => {
            let path = ["checkpoints", id, "restore"];
            let response = client.send(Method::POST, &path, &PROGRESS, None).await?;
            follow(&client, response, json).await
        }
        CheckpointsVerb::List { all } => {
            let query = [("includeAuto", if *all { "true" } else { "false" })];
            let found = get(&["checkpoints"], &query).await?;
            show(&found, json, list).map(|()| Outcome::Done)
        }
        CheckpointsVerb::Info { id } => {
            let found = get(&["checkpoints", id], &[]).await?;
            show(&found, json, info).map(|()| Outcome::Done)
        }
        CheckpointsVerb::Diff { old, new } => {
            let found = get(&["checkpoints", old, "diff", new], &[]).await?;
            show(&found, json, diff).map(|()| Outcome::Done)
        }
        CheckpointsVerb::Ls { id, path } => {
            let query = [("path", path.as_str())];
            let path = ["checkpoints", id, "files"];
            let response = client.send(Method::GET, &path, &query, None).await?;
            if !is_json(&response) {
                return Err(Failure::Refused(
                    "that is a file; cat writes what is in it".to_owned(),
                ));
            }
            let found = client.json(response).await?;
            show(&found, json, entries).map(|()| Outcome::Done)
        }
        CheckpointsVerb::Cat { id, path } => {
            let query = [("path", path.as_str())];
            let path = ["checkpoints", id, "files"];
            let response = client.send(Method::GET, &path, &query, None).await?;
            if is_json(&response) {
                return Err(Failure::Refused("that is no file; ls lists it".to_owned()));
            }
            let mut out = tokio::io::stdout();
            // What it writes may be for the same terminal.
            let hidden = bar("cat", None, true);
            let copied = archives::copy(&client, response, &mut out, &hidden);
            copied.await.map(|()| Outcome::Done)
        }
        CheckpointsVerb::Delete { id } => {
            let path = ["checkpoints", id];
            client.send(Method::DELETE, &path, &[], None).await?;
            Ok(Outcome::Done)
        }
        CheckpointsVerb::Verify { read_data } => {
            let body = json!({ "read_data": read_data }).to_string();
            let path = ["checkpoints", "verify"];
            let shown = bar("verify", None, json);
            let response = client
                .send(Method::POST, &path, &[], Some(body.into()))
                .await?;
            let found = client.json(response).await?;
            drop(shown);
            show(&found, json, verified)?;
            Ok(if is_true(&found, "whole") {
                Outcome::Done
            } else {
                Outcome::Failed
            })
        }
        CheckpointsVerb::Export { id, file } => archives::export(&client, id, file, json)
            .await
            .map(|()| Outcome::Done),
        CheckpointsVerb::Import { file, comment } => {
            let response = archives::import(&client, file, comment.as_deref(), json).await?;
            let found = client.json(response).await?;
            show(&found, json, info).map(|()| Outcome::Done)
        }
        CheckpointsVerb::Gc => {
            let path = ["checkpoints", "gc"];
            let shown = bar("gc", None, json);
            let response = client.send(Method::POST, &path, &[], None).await?;
            let found = client.json(response).await?;
            drop(shown);
            show(&found, json, collected).map(|()| Outcome::Done)
        }
    }
}

fn is_json(response: &Response) -> bool {
    let kind = response.headers().get("content-type");
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"))
}

/// Prints what was found, as JSON or as `lines` puts it.
fn show(found: &Value, json: bool, lines: fn(&Value) -> Vec<String>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{found:#}")?;
    } else {
        for line in lines(found) {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}

/// A value as text: strings without quotes, nothing for what is missing.
fn text(value: &Value, key: &str) -> String {
    match value.get(key) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn is_true(value: &Value, key: &str) -> bool {
    value.get(key) == Some(&Value::Bool(true))
}

fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    let items = value.get(key).and_then(Value::as_array);
    items.into_iter().flatten()
}

fn list(found: &Value) -> Vec<String> {
    let row = |checkpoint: &Value| {
        format!(
            "{:<28} {:<27} {:<8} {}",
            text(checkpoint, "id"),
            text(checkpoint, "create_time"),
            text(checkpoint, "durability"),
            text(checkpoint, "comment")
        )
        .trim_end()
        .to_owned()
    };
    found.as_array().into_iter().flatten().map(row).collect()
}

fn info(found: &Value) -> Vec<String> {
    let fields = found.as_object().into_iter().flatten();
    let line = |(key, value): (&String, &Value)| {
        let value = match value {
            Value::Array(items) => {
                let items = items.iter().filter_map(Value::as_str);
                let between = if key == "history" { " > " } else { ", " };
                items.collect::<Vec<_>>().join(between)
            }
            _ => text(found, key),
        };
        format!("{:<12} {value}", format!("{key}:"))
    };
    fields.map(line).collect()
}

fn diff(found: &Value) -> Vec<String> {
    let line = |difference: &Value| {
        let sign = match text(difference, "change").as_str() {
            "added" => '+',
            "removed" => '-',
            "modified" => 'M',
            _ => 'm',
        };
        format!("{sign} {}", text(difference, "path"))
    };
    let more = is_true(found, "truncated").then(|| "… and more".to_owned());
    items(found, "differences").map(line).chain(more).collect()
}

fn entries(found: &Value) -> Vec<String> {
    let line = |entry: &Value| {
        let target = text(entry, "target");
        let arrow = if target.is_empty() { "" } else { " -> " };
        format!(
            "{:<9} {:>4} {:>6}:{:<6} {:>12} {:<30} {}{arrow}{target}",
            text(entry, "type"),
            text(entry, "mode"),
            text(entry, "uid"),
            text(entry, "gid"),
            text(entry, "size"),
            text(entry, "modTime"),
            text(entry, "name"),
        )
    };
    items(found, "entries").map(line).collect()
}

fn collected(found: &Value) -> Vec<String> {
    let (packs, bytes) = (text(found, "packs"), text(found, "bytes"));
    vec![format!(
        "{packs} packs were needed no longer; {bytes} bytes are free"
    )]
}

fn verified(found: &Value) -> Vec<String> {
    let summary = format!(
        "{} checkpoints, {} objects, {} bytes: {}",
        text(found, "checkpoints"),
        text(found, "objects"),
        text(found, "bytes"),
        if is_true(found, "whole") {
            "all whole"
        } else {
            "NOT WHOLE"
        }
    );
    let damaged = items(found, "damaged").filter_map(Value::as_str);
    let damaged = damaged.map(ToOwned::to_owned);
    let affected = items(found, "affected");
    let affected = affected.map(|it| format!("{}: {}", text(it, "id"), text(it, "problem")));
    [summary]
        .into_iter()
        .chain(damaged)
        .chain(affected)
        .collect()
}
