//! A client of the API.

use std::io::{BufRead as _, BufReader};
use std::time::Instant;

use super::{PATIENCE, Value, json};

/// Sends requests with the token.
#[derive(Clone)]
pub struct Client {
    base: String,
    token: Option<String>,
    agent: ureq::Agent,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub kind: String,
    pub text: String,
    pub bytes: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    /// The objects of an NDJSON answer.
    pub fn lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        self.text.lines().map(parse).collect()
    }

    /// That this is an error of the API's kind, with a sentence that contains `needle`.
    pub fn assert_problem(&self, status: u16, needle: &str) {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.kind, "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], status);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(needle), "{detail}");
        assert_eq!(problem["message"], problem["detail"]);
        assert!(problem["error"].is_string());
    }
}

impl Client {
    pub fn new(base: String, token: Option<&str>) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build();
        Self {
            base,
            token: token.map(str::to_owned),
            agent: config.into(),
        }
    }

    /// Where it is.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Another way to say who we are: these headers instead of the token.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_send(method, path, headers, body).unwrap()
    }

    fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, ureq::Error> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.to_vec()).unwrap();
        let mut response = self.agent.run(request)?;
        let kind = response.headers().get("content-type");
        let kind = kind.map(|kind| kind.to_str().unwrap().to_owned());
        let body = response.body_mut().with_config().limit(1 << 30);
        let bytes = body.read_to_vec()?;
        Ok(Answer {
            status: response.status().as_u16(),
            kind: kind.unwrap_or_default(),
            text: String::from_utf8_lossy(&bytes).into_owned(),
            bytes,
        })
    }

    pub fn request(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = bearer
            .iter()
            .map(|b| ("authorization", b.as_str()))
            .collect();
        self.send(method, path, &headers, body)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, b"")
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.request("POST", path, body.to_string().as_bytes())
    }

    pub fn status(&self) -> Value {
        self.get("/status").json()
    }

    /// Waits until `GET /status` is as `wanted` says.
    pub fn wait_status(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "not so: {status}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Waits until the component `name` is in `state`, the last words of its path.
    pub fn wait_component(&self, name: &str, state: &str) -> Value {
        let status = self.wait_status(|status| {
            let path = status["components"][name]["state"].as_str();
            path.is_some_and(|path| path.ends_with(state))
        });
        status["components"][name].clone()
    }

    /// Runs a command to its end: exit code, standard output, standard error.
    pub fn exec(&self, body: &Value) -> Outcome {
        let answer = self.post("/exec", body);
        assert_eq!(answer.status, 200, "{}", answer.text);
        Outcome::of(&answer.lines())
    }

    /// Runs a shell script to its end.
    pub fn sh(&self, script: &str) -> Outcome {
        self.exec(&json!({"command": ["sh", "-c", script]}))
    }

    /// Starts a command; returns its events as they come.
    pub fn exec_stream(&self, body: &Value) -> impl Iterator<Item = Value> + use<> {
        let lines = self.stream("POST", "/exec", &[], body.to_string().as_bytes());
        lines.map(|line| serde_json::from_str(&line).unwrap())
    }

    /// The lines of an answer as they come.
    pub fn stream(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> impl Iterator<Item = String> + use<> {
        let token = self.token.as_ref().unwrap();
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("authorization", format!("Bearer {token}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.to_vec()).unwrap();
        let response = self.agent.run(request).unwrap();
        assert_eq!(response.status().as_u16(), 200);
        let lines = BufReader::new(response.into_body().into_reader()).lines();
        lines.map_while(Result::ok)
    }

    /// Asks for a checkpoint; the daemon may die over it.
    pub fn attempt_checkpoint(&self) -> Option<u16> {
        self.try_post("/checkpoint")
    }

    /// Asks for a restore; the daemon may die over it.
    pub fn attempt_restore(&self, id: &str) -> Option<u16> {
        self.try_post(&format!("/checkpoints/{id}/restore"))
    }

    /// Asks for something that the daemon may die over; none without a whole answer.
    pub fn attempt(&self, method: &str, path: &str) -> Option<Answer> {
        self.attempt_with(method, path, b"")
    }

    /// The same, with a body.
    pub fn attempt_with(&self, method: &str, path: &str, body: &[u8]) -> Option<Answer> {
        let bearer = format!("Bearer {}", self.token.as_ref()?);
        self.try_send(method, path, &[("authorization", &bearer)], body)
            .ok()
    }

    fn try_post(&self, path: &str) -> Option<u16> {
        let answer = self.attempt("POST", path)?;
        Some(answer.status)
    }

    /// Takes a checkpoint; returns its id.
    pub fn checkpoint(&self) -> String {
        let answer = self.post("/checkpoint", &json!({}));
        let lines = answer.lines();
        let last = lines.last().unwrap();
        assert_eq!(last["type"], "complete", "{}", answer.text);
        last["checkpoint_id"].as_str().unwrap().to_owned()
    }

    /// Takes a checkpoint; returns all lines, with how far each step was.
    pub fn measured_checkpoint(&self) -> Vec<Value> {
        let answer = self.request("POST", "/checkpoint?progress=true", b"");
        let lines = answer.lines();
        assert_eq!(lines.last().unwrap()["type"], "complete", "{}", answer.text);
        lines
    }

    /// The ids of the checkpoints, newest first; automatic ones only if asked for.
    pub fn checkpoint_ids(&self, include_auto: bool) -> Vec<String> {
        let listed = self.get(&format!("/checkpoints?includeAuto={include_auto}"));
        let listed = listed.json();
        let listed = listed.as_array().unwrap().iter();
        listed
            .map(|checkpoint| checkpoint["id"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Restores a checkpoint; returns the last line.
    pub fn restore(&self, id: &str) -> Value {
        let answer = self.post(&format!("/checkpoints/{id}/restore"), &json!({}));
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.lines().last().unwrap().clone()
    }
}

/// How far the step `phase` of an operation was in the end; none if nothing was told.
pub fn step<'a>(lines: &'a [Value], phase: &str) -> Option<&'a Value> {
    lines.iter().rfind(|line| line["phase"] == phase)
}

/// What came of a command.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub code: i64,
    pub stdout: String,
    pub stderr: String,
    pub errors: Vec<String>,
}

impl Outcome {
    pub fn of(events: &[Value]) -> Self {
        let mut outcome = Self::default();
        for (at, event) in events.iter().enumerate() {
            let data = event["data"].as_str().unwrap_or_default();
            match event["type"].as_str().unwrap() {
                "stdout" => outcome.stdout += data,
                "stderr" => outcome.stderr += data,
                "error" => outcome.errors.push(data.to_owned()),
                "exit" => {
                    assert_eq!(at, events.len() - 1, "the exit comes last");
                    outcome.code = event["exit_code"].as_i64().unwrap();
                }
                other => panic!("unknown event {other}"),
            }
        }
        assert_eq!(
            events.last().map(|e| &e["type"]),
            Some(&json!("exit")),
            "no exit"
        );
        outcome
    }
}
