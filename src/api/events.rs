//! `GET /events`: the steps of the machines as they are taken, as server-sent events;
//! `GET /journal`: the last of them, as a journal for `sprite-env replay`.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::watch;

use super::Shared;
use super::problem::Problem;
use crate::telemetry::ring::{Lines, Ring};

/// How often a client that hears nothing hears that we are there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Streams the steps after the one that `Last-Event-ID` names; without it, those from now
/// on. Each event is a line of the journal, and its id the line's number. Steps that are
/// no longer kept are told of by an event `gap` with the numbers of the first and last, and
/// machines that a new configuration has changed by an event `anew`: `/journal` begins with them.
pub async fn stream(
    State(shared): State<Shared>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    let steps = shared.ring.last();
    let last = match headers.get("last-event-id") {
        None => *steps.borrow(),
        Some(id) => id
            .to_str()
            .ok()
            .and_then(|id| id.trim().parse().ok())
            .ok_or_else(|| {
                Problem::bad_request(
                    "Last-Event-ID must be the number of a step: that of the \
                                      last event that was seen, or 0 for all that are kept",
                )
            })?,
    };
    // A number that was not reached yet is of an earlier run of the daemon: all is new.
    let last = if last > *steps.borrow() { 0 } else { last };
    let ring = shared.ring;
    let events = follow(ring, steps, last).map(Ok::<_, Infallible>);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// What is kept, as a journal.
pub async fn journal(State(shared): State<Shared>) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, super::stream::NDJSON),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, shared.ring.journal())
}

/// The events after number `last`, for ever. A slow client holds up nobody: it reads from
/// the ring when it can, and learns what it missed.
fn follow(
    ring: Ring,
    steps: watch::Receiver<u64>,
    last: u64,
) -> impl Stream<Item = Event> + Send + 'static {
    let start = (ring.begun(), last);
    let batches = stream::unfold((ring, steps, start), |(ring, mut steps, at)| async move {
        let (begun, last) = at;
        loop {
            let now = ring.begun();
            if now != begun {
                let anew = Event::default().event("anew");
                let anew = anew.data(format!("{{\"after\":{}}}", now.1));
                return Some((vec![anew], (ring, steps, (now, last))));
            }
            if let Some(lines) = ring.after(last) {
                let next = lines.first + lines.lines.len() as u64 - 1;
                return Some((events(last, lines), (ring, steps, (begun, next))));
            }
            // The ring is gone when the daemon is.
            steps.changed().await.ok()?;
        }
    });
    batches.map(stream::iter).flatten()
}

fn events(last: u64, lines: Lines) -> Vec<Event> {
    let mut events = Vec::with_capacity(lines.lines.len() + 1);
    if lines.first > last + 1 {
        let gap = format!("{{\"first\":{},\"last\":{}}}", last + 1, lines.first - 1);
        events.push(Event::default().event("gap").data(gap));
    }
    for (seq, line) in (lines.first..).zip(lines.lines) {
        let event = Event::default().id(seq.to_string());
        events.push(event.event("step").data(line));
    }
    events
}
