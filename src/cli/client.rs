//! A client of a running daemon's API, for the verbs that talk to it.

use std::path::{Path, PathBuf};

use reqwest::header::ACCEPT;
use reqwest::{Body, Method, Response, Url};
use serde_json::Value;

use crate::error::innermost;

/// The daemon says no, or what was asked for failed.
pub const FAILED: u8 = 1;
/// sysexits: the command line is wrong.
const USAGE: u8 = 64;
/// sysexits: nobody answers.
const UNAVAILABLE: u8 = 69;

/// Where the API is if nobody says: as in `config.example.json`.
const SERVER: &str = "http://127.0.0.1:7778";

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The address is none.
    #[error("\"{0}\" is no address of an API: give http://HOST:PORT or unix:/PATH")]
    Address(String),
    /// Nobody answers.
    #[error("no answer from {server}: {why}; --server or SPRITE_SERVER says where the API is")]
    Unreachable {
        /// Where.
        server: String,
        /// Why not.
        why: String,
    },
    /// The daemon says no.
    #[error("{0}")]
    Refused(String),
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// A file of the caller cannot be read or written.
    #[error("{}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Our own output cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] std::io::Error),
}

/// Runs what talks to a daemon; complains if it fails, and gives the exit code then.
pub fn finish<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => Err(Failure::Output(error)),
    };
    done.map_err(|failure| {
        eprintln!("sprite-env: {failure}");
        match failure {
            Failure::Address(_) | Failure::Usage(_) => USAGE,
            Failure::Unreachable { .. } => UNAVAILABLE,
            Failure::Refused(_) | Failure::Output(_) | Failure::File { .. } => FAILED,
        }
    })
}

/// Sends requests to one daemon.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    server: String,
    token: Option<String>,
}

impl Client {
    /// A client of the daemon at `server`, or where the environment says that it is.
    pub fn found(server: Option<&str>) -> Result<Self, Failure> {
        let from_env = std::env::var("SPRITE_SERVER").ok();
        Self::new(server.or(from_env.as_deref()).unwrap_or(SERVER))
    }

    /// A client of the daemon at `server`, with the token of the environment.
    fn new(server: &str) -> Result<Self, Failure> {
        let address = || Failure::Address(server.to_owned());
        let socket = server.strip_prefix("unix:");
        let socket = socket.filter(|path| path.starts_with('/'));
        let base = match socket {
            Some(_) => Url::parse("http://localhost/"),
            None => Url::parse(server),
        };
        let base = base.map_err(|_| address())?;
        let mut http = crate::http::client(&base);
        if let Some(path) = socket {
            http = http.unix_socket(Path::new(path));
        }
        if !["http", "https"].contains(&base.scheme()) || !base.has_host() {
            return Err(address());
        }
        let unreachable = |error: reqwest::Error| Failure::Unreachable {
            server: server.to_owned(),
            why: innermost(&error).to_string(),
        };
        Ok(Self {
            http: http.build().map_err(unreachable)?,
            base,
            server: server.to_owned(),
            token: std::env::var("SPRITE_HTTP_API_TOKEN").ok(),
        })
    }

    /// Sends a request; an answer that is no success is an error.
    pub async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<Body>,
    ) -> Result<Response, Failure> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.http.request(method, url);
        // On a unix socket, too, we stay to see how it goes.
        request = request.header(ACCEPT, "application/x-ndjson, */*");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await.map_err(|error| self.lost(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let text = response.text().await.unwrap_or_default();
        let problem: Value = serde_json::from_str(&text).unwrap_or_default();
        let detail = problem.get("detail").and_then(Value::as_str);
        Err(Failure::Refused(detail.map_or_else(
            || format!("{} answers {status}", self.server),
            ToOwned::to_owned,
        )))
    }

    /// The answer as JSON.
    pub async fn json(&self, response: Response) -> Result<Value, Failure> {
        let bytes = response.bytes().await.map_err(|error| self.lost(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| Failure::Unreachable {
            server: self.server.clone(),
            why: format!("its answer is no JSON: {error}"),
        })
    }

    /// Hands over each line of an answer, with its end, as it comes.
    pub async fn lines(
        &self,
        mut response: Response,
        mut tell: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<(), Failure> {
        let mut line = Vec::new();
        while let Some(bytes) = response.chunk().await.map_err(|e| self.lost(&e))? {
            for part in bytes.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(part);
                if part.ends_with(b"\n") {
                    tell(&line)?;
                    line.clear();
                }
            }
        }
        Ok(())
    }

    /// That the connection is of no use.
    pub fn lost(&self, error: &reqwest::Error) -> Failure {
        Failure::Unreachable {
            server: self.server.clone(),
            why: innermost(error).to_string(),
        }
    }
}
