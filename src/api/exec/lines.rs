//! `POST /exec` with a JSON body: a command's output as NDJSON.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use axum::extract::FromRequest as _;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use crate::api::Shared;
use crate::api::body::RawBody;
use crate::api::problem::Problem;
use crate::api::stream::ndjson;
use crate::clock::now;
use crate::config::value::parse_duration;
use crate::exec::lines::Data;
use crate::exec::{Event, Request};

/// The body of the request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body {
    command: Vec<String>,
    #[serde(default)]
    timeout: Option<Timeout>,
    #[serde(default, alias = "environment")]
    env: Option<Environment>,
    #[serde(default, alias = "working_dir")]
    dir: Option<PathBuf>,
    #[serde(default)]
    stdin: Option<String>,
}

/// Nanoseconds, as Go's `time.Duration` is in JSON, or `"30s"`.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "nanoseconds, or a duration such as \"30s\"")]
enum Timeout {
    Nanoseconds(u64),
    Text(String),
}

/// `{"K": "V"}` or `["K=V"]`.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "an object of names and values, or a list of \"K=V\""
)]
enum Environment {
    Map(BTreeMap<String, String>),
    List(Vec<String>),
}

/// One line of the answer.
#[derive(Debug, Default, Serialize)]
struct Line {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_b64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<u8>,
    time: String,
}

/// Runs a command.
pub async fn post(shared: Shared, request: axum::extract::Request) -> Result<Response, Problem> {
    let request = RawBody::from_request(request, &shared)
        .await?
        .json::<Body>("{\"command\": [\"ls\", \"-l\"]}")?
        .check()?;
    shared.hold_for_commands().await?;
    let events = shared.runner.run(request)?;
    Ok(ndjson(ReceiverStream::new(events).map(line)))
}

impl Body {
    fn check(self) -> Result<Request, Problem> {
        if self.command.first().is_none_or(String::is_empty) {
            return Err(Problem::bad_request(
                "\"command\" is empty: give the program and its arguments, such as [\"ls\", \"-l\"]",
            ));
        }
        let timeout = match self.timeout {
            None | Some(Timeout::Nanoseconds(0)) => None,
            Some(Timeout::Nanoseconds(n)) => Some(Duration::from_nanos(n)),
            Some(Timeout::Text(text)) => Some(parse_duration(&text).ok_or_else(|| {
                Problem::bad_request(format!(
                    "\"timeout\" is \"{text}\": give nanoseconds, or a duration such as \"30s\""
                ))
            })?)
            .filter(|timeout| !timeout.is_zero()),
        };
        let environment = match self.env {
            None => BTreeMap::new(),
            Some(Environment::Map(map)) => map,
            Some(Environment::List(list)) => list
                .iter()
                .map(|entry| {
                    let pair = entry
                        .split_once('=')
                        .map(|(k, v)| (k.to_owned(), v.to_owned()));
                    let why = || Problem::bad_request("each entry of \"env\" must be NAME=VALUE");
                    pair.ok_or_else(why)
                })
                .collect::<Result<_, _>>()?,
        };
        let bad_name = |name: &String| name.is_empty() || name.contains(['=', '\0']);
        if environment.keys().any(bad_name) {
            return Err(Problem::bad_request(
                "\"env\" has a name that is empty or contains \"=\"",
            ));
        }
        let dir = self
            .dir
            .as_ref()
            .map(|dir| dir.to_string_lossy().into_owned());
        let mut texts = self.command.iter().chain(environment.values()).chain(&dir);
        if texts.any(|text| text.contains('\0')) {
            return Err(Problem::bad_request(
                "NUL characters cannot be passed to a program",
            ));
        }
        Ok(Request {
            command: self.command,
            timeout,
            environment,
            working_dir: self.dir,
            stdin: self.stdin.map(String::into_bytes),
        })
    }
}

fn line(event: Event) -> Line {
    let output = |kind, data| {
        let (data, data_b64) = match data {
            Data::Text(text) => (Some(text), None),
            Data::Base64(text) => (None, Some(text)),
        };
        Line {
            kind,
            data,
            data_b64,
            ..Line::default()
        }
    };
    let line = match event {
        Event::Stdout(data) => output("stdout", data),
        Event::Stderr(data) => output("stderr", data),
        Event::Error(text) => output("error", Data::Text(text)),
        Event::Exit(code) => Line {
            kind: "exit",
            exit_code: Some(code),
            ..Line::default()
        },
    };
    Line {
        time: now(),
        ..line
    }
}
