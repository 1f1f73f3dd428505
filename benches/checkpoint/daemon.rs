//! The daemon under measurement.

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::shared::{TOKEN, start_daemon, stop_daemon};

/// A daemon; stopped when dropped.
pub struct Daemon {
    child: Child,
    address: String,
}

/// A checkpoint that was made.
pub struct Made {
    pub id: String,
    /// From the request to the last line of the answer.
    pub total: Duration,
    /// How long everything was held.
    pub pause: Duration,
}

impl Daemon {
    /// Starts one whose environment is on this disk, and waits until its process runs.
    pub fn start(disk: &Path) -> Self {
        Self::configured(disk, None)
    }

    /// The same with a configuration file.
    pub fn configured(disk: &Path, config: Option<&Path>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sprite-env"));
        if let Some(config) = config {
            command.arg("-config").arg(config);
        }
        command
            .args(["-listen", "127.0.0.1:0", "--", "sleep", "100000"])
            .env("SPRITE_WRITE_DIR", disk.join("data"));
        let (child, address) = start_daemon(&mut command);
        let daemon = Self { child, address };
        while daemon.request("GET", "/readyz").0 != 200 {
            std::thread::yield_now();
        }
        daemon
    }

    fn request(&self, method: &str, path: &str) -> (u16, String) {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header("Authorization", format!("Bearer {TOKEN}"))
            .body(())
            .unwrap();
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .into();
        let mut answer = agent.run(request).unwrap();
        (
            answer.status().as_u16(),
            answer.body_mut().read_to_string().unwrap(),
        )
    }

    fn operate(&self, path: &str) -> (Vec<Value>, Duration) {
        let start = Instant::now();
        let (status, text) = self.request("POST", path);
        let total = start.elapsed();
        assert_eq!(status, 200, "{text}");
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.last().unwrap()["type"], "complete", "{text}");
        (lines, total)
    }

    pub fn checkpoint(&self) -> Made {
        let (lines, total) = self.operate("/checkpoint");
        let pause = lines.iter().find_map(|line| {
            let text = line["data"].as_str()?.trim().strip_prefix("Pause: ")?;
            text.strip_suffix(" ms")?.parse::<f64>().ok()
        });
        Made {
            id: lines.last().unwrap()["checkpoint_id"]
                .as_str()
                .unwrap()
                .to_owned(),
            total,
            pause: Duration::from_secs_f64(pause.unwrap() / 1e3),
        }
    }

    pub fn restore(&self, id: &str) -> Duration {
        self.operate(&format!("/checkpoints/{id}/restore")).1
    }

    fn status(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_ascii_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap()
    }

    /// How much memory it has, in KiB.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS")
    }

    /// How much memory it had at most, in KiB.
    pub fn memory_peak(&mut self) -> u64 {
        self.status("VmHWM")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        stop_daemon(&mut self.child);
    }
}
