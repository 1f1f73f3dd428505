//! `GET /logs`: what components have written lately, and what they write from now on.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use futures_util::{Stream, StreamExt as _, stream};
use serde::Serialize;
use tokio::sync::watch;

use super::Shared;
use super::exec::query::Query;
use super::problem::Problem;
use super::stream::ndjson;
use crate::telemetry::logs::{Line, Logs};

/// A line of the answer.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Told {
    Line(Arc<Line>),
    /// So many lines are gone: whoever reads is too slow.
    Gone {
        gone: u64,
    },
}

/// Lines as JSON objects. `component` (more than once, if need be) chooses whose, `tail` how
/// many of the newest that are kept, `follow` whether those to come are sent too.
pub async fn get(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref());
    if let Some(name) = query.unknown(&["component", "tail", "follow"]).next() {
        let why = format!("\"{name}\" is unknown; there are component, tail and follow");
        return Err(Problem::bad_request(why));
    }
    let tail = match query.get("tail") {
        None => usize::MAX,
        Some(text) => text
            .parse()
            .map_err(|_| Problem::bad_request(format!("tail: \"{text}\" is no number")))?,
    };
    let wanted: Vec<String> = query.all("component").collect();
    let news = shared.logs.last();
    let (_, lines) = shared.logs.after(0);
    for name in &wanted {
        let is_known = shared
            .handle
            .status()
            .borrow()
            .components
            .contains_key(name)
            || lines.iter().any(|line| line.component == *name);
        if !is_known {
            let why = format!("there is no component \"{name}\"; GET /components lists them");
            return Err(Problem::not_found(why));
        }
    }
    let last = lines.last().map_or(*news.borrow(), |line| line.seq);
    let mut lines: Vec<_> = lines
        .into_iter()
        .filter(|line| is_of(line, &wanted))
        .collect();
    lines.drain(..lines.len().saturating_sub(tail));
    let past = stream::iter(lines.into_iter().map(Told::Line));
    if query.flag("follow") != Some(true) {
        return Ok(ndjson(past));
    }
    Ok(ndjson(past.chain(follow(shared.logs, news, last, wanted))))
}

fn is_of(line: &Line, wanted: &[String]) -> bool {
    wanted.is_empty() || wanted.contains(&line.component)
}

/// The lines after number `last`, for ever. Whoever reads slowly holds up nobody: it is told
/// how many lines it has missed.
fn follow(
    logs: Logs,
    news: watch::Receiver<u64>,
    last: u64,
    wanted: Vec<String>,
) -> impl Stream<Item = Told> + Send + 'static {
    let start = (logs, news, last);
    let batches = stream::unfold(start, |(logs, mut news, last)| async move {
        loop {
            news.borrow_and_update();
            let (gone, lines) = logs.after(last);
            if let Some(newest) = lines.last().map(|line| line.seq) {
                return Some(((gone, lines), (logs, news, newest)));
            }
            news.changed().await.ok()?;
        }
    });
    let told = batches.map(move |(gone, lines)| {
        let missed = (gone > 0).then_some(Told::Gone { gone });
        let own = lines.into_iter().filter(|line| is_of(line, &wanted));
        let told: Vec<_> = missed.into_iter().chain(own.map(Told::Line)).collect();
        stream::iter(told)
    });
    told.flatten()
}
