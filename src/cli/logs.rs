//! `sprite-env logs`

use std::io::{self, Write as _};

use reqwest::Method;
use serde_json::Value;

use super::arguments::LogsOptions;
use super::client::{Client, finish};

/// Prints what components have written; returns the exit code.
pub fn run(options: &LogsOptions) -> u8 {
    let work = async {
        let client = Client::found(options.at.server.as_deref())?;
        let tail = options.tail.map(|lines| lines.to_string());
        let names = options
            .names
            .iter()
            .map(|name| ("component", name.as_str()));
        let mut query: Vec<_> = names.collect();
        query.extend(tail.as_deref().map(|lines| ("tail", lines)));
        query.extend(options.follow.then_some(("follow", "true")));
        let response = client.send(Method::GET, &["logs"], &query, None).await?;
        client.lines(response, |line| tell(line, options)).await
    };
    finish(work).err().unwrap_or(0)
}

/// Prints one line as the daemon does.
fn tell(line: &[u8], options: &LogsOptions) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if options.at.json {
        out.write_all(line)?;
        return out.flush();
    }
    let told: Value = serde_json::from_slice(line).unwrap_or_default();
    let text = |key: &str| told.get(key).and_then(Value::as_str).unwrap_or_default();
    if let Some(gone) = told.get("gone") {
        return writeln!(
            io::stderr(),
            "sprite-env: {gone} lines came too fast and are gone"
        );
    }
    if options.times {
        write!(out, "{} ", text("time"))?;
    }
    let check = text("check");
    let space = if check.is_empty() { "" } else { " " };
    writeln!(
        out,
        "[{}{space}{check}] {}",
        text("component"),
        text("line")
    )?;
    out.flush()
}
