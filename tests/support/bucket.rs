//! A real S3 service with a bucket.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub use super::gate::{Gate, Moment, Weather};
use super::output::Output;
use super::{Daemon, PATIENCE, Sprite, Value, json, trees};
use crate::sdks::tool;

/// The bucket that every service has.
pub(super) const BUCKET: &str = "bucket";
/// What the keys of the records begin with, and those of the packs.
pub const LOG: &str = "checkpoints/log/";
pub const PACKS: &str = "checkpoints/packs/";
const ACCESS_KEY: &str = "an-access-key";
pub const SECRET_KEY: &str = "a-secret-key-that-nobody-must-see";

/// What makes the service take a request as its owner's; it does not check the signature.
const SIGNED: (&str, &str) = (
    "Authorization",
    "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, \
     Signature=0",
);

/// A service; it ends with its value.
pub struct Service {
    _server: Server,
    url: String,
    agent: ureq::Agent,
}

impl Service {
    /// Starts moto; none if it is not installed, with the reason printed.
    pub fn start() -> Option<Self> {
        let python = tool("python/bin/python")?;
        let mut child = Command::new(python.with_file_name("moto_server"))
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tests/setup.sh installs it");
        let output = Output::default();
        output.collect("moto", child.stderr.take().unwrap());
        let line = output.wait_for("Running on http://", 1);
        let url = line.rsplit_once(' ').unwrap().1.trim().to_owned();
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build();
        let service = Self {
            _server: Server(child),
            url,
            agent: config.into(),
        };
        service.put("", b"");
        Some(service)
    }

    fn at(&self, key: &str) -> String {
        format!("{}/{BUCKET}/{key}", self.url)
    }

    /// Writes an object.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        let put = self
            .agent
            .put(&self.at(key))
            .header(SIGNED.0, SIGNED.1)
            .send(bytes);
        assert!(put.unwrap().status().is_success());
    }

    /// The bytes of an object.
    pub fn get(&self, key: &str) -> Vec<u8> {
        let mut got = self
            .agent
            .get(&self.at(key))
            .header(SIGNED.0, SIGNED.1)
            .call()
            .unwrap();
        assert!(got.status().is_success(), "{key}");
        got.body_mut().read_to_vec().unwrap()
    }

    /// Removes an object.
    pub fn delete(&self, key: &str) {
        let deleted = self
            .agent
            .delete(&self.at(key))
            .header(SIGNED.0, SIGNED.1)
            .call();
        assert!(deleted.unwrap().status().is_success());
    }

    /// The keys that begin with `prefix`, in order.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let list = self.at(&format!("?list-type=2&prefix={prefix}"));
        let mut got = self
            .agent
            .get(&list)
            .header(SIGNED.0, SIGNED.1)
            .call()
            .unwrap();
        let text = got.body_mut().read_to_string().unwrap();
        let keys = text.split("<Key>").skip(1);
        keys.map(|rest| rest.split_once('<').unwrap().0.to_owned())
            .collect()
    }

    /// A sprite that uses the bucket.
    pub fn sprite(&self) -> Sprite {
        self.sprite_with(&json!({}))
    }

    /// A sprite that uses the bucket, with more settings.
    pub fn sprite_with(&self, config: &Value) -> Sprite {
        with_bucket(&self.url, config)
    }

    /// A gate in front of it, open.
    pub fn gate(&self) -> Gate {
        Gate::before(self.url.strip_prefix("http://").unwrap())
    }
}

/// A program that ends with its value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Another service (s3s-fs), which keeps each object in a file and checks signatures; it ends with
/// its value.
pub struct Strict {
    _server: Server,
    url: String,
    root: tempfile::TempDir,
}

impl Strict {
    /// Starts it; none if it is not installed, with the reason printed.
    pub fn start() -> Option<Self> {
        let program = tool("s3s-fs/bin/s3s-fs")?;
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(BUCKET)).unwrap();
        let mut child = Command::new(program)
            .args(["--host", "127.0.0.1", "--port", "0"])
            .args(["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY])
            .arg(root.path())
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("tests/setup.sh installs it");
        let output = Output::default();
        output.collect("s3s-fs", child.stdout.take().unwrap());
        let line = output.wait_for("server is running at http://", 1);
        let url = line.split_once("running at ").unwrap().1;
        let url = url.split([',', ' ']).next().unwrap().to_owned();
        Some(Self {
            _server: Server(child),
            url,
            root,
        })
    }

    /// A sprite that uses the bucket.
    pub fn sprite(&self) -> Sprite {
        with_bucket(&self.url, &json!({}))
    }

    /// The files of the objects whose keys begin with `prefix`.
    pub fn objects(&self, prefix: &str) -> Vec<PathBuf> {
        super::store::try_files(&self.root.path().join(BUCKET).join(prefix))
    }
}

/// A sprite with the bucket at `url`, and a lease that does not live long.
pub(super) fn with_bucket(url: &str, config: &Value) -> Sprite {
    let mut config = config.clone();
    config["checkpoint"]["lease_ttl"] = json!("3s");
    config["checkpoint"]["replicate_timeout"] = json!("2s");
    Sprite::new()
        .storage()
        .env("SPRITE_S3_ENDPOINT_URL", url)
        .env("SPRITE_S3_BUCKET", BUCKET)
        .env("SPRITE_S3_ACCESS_KEY", ACCESS_KEY)
        .env("SPRITE_S3_SECRET_ACCESS_KEY", SECRET_KEY)
        .config(&config)
}

pub fn durable(daemon: &Daemon) -> Value {
    let answer = daemon
        .client()
        .post("/checkpoint", &json!({"wait": "durable"}));
    answer.lines().last().unwrap().clone()
}

pub fn durability(daemon: &Daemon, id: &str) -> String {
    let checkpoint = daemon.client().get(&format!("/checkpoints/{id}")).json();
    checkpoint["durability"].as_str().unwrap().to_owned()
}

pub fn replication(daemon: &Daemon) -> Value {
    daemon.client().status()["replication"].clone()
}

/// Waits until this is true.
pub fn wait_until(daemon: &Daemon, what: &str, is_true: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_true() {
        assert!(
            begun.elapsed() < PATIENCE,
            "{what}: {}\n{}",
            replication(daemon),
            daemon.output.text()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until replication is in this phase; returns all that is told of it.
pub fn wait_for_phase(daemon: &Daemon, phase: &str) -> Value {
    wait_until(daemon, phase, || replication(daemon)["phase"] == phase);
    replication(daemon)
}

pub fn tree(daemon: &Daemon) -> BTreeMap<PathBuf, String> {
    trees::describe(&daemon.sprite.fs())
}

/// A daemon whose bucket has one durable checkpoint of a file of this many bytes that
/// cannot be compressed; then its disk is lost.
pub fn lost(service: &Service, bytes: usize) -> BTreeMap<PathBuf, String> {
    let daemon = service.sprite().idle();
    let content = trees::noise(&mut fastrand::Rng::with_seed(1), bytes);
    fs::write(daemon.sprite.fs().join("file"), content).unwrap();
    assert_eq!(durable(&daemon)["type"], "complete");
    let found = tree(&daemon);
    drop(daemon.crash());
    found
}
