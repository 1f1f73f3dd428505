//! A daemon under test: started with what a test says, watched by what it prints.

pub mod beside;
pub mod browser;
pub mod bucket;
pub mod changes;
pub mod disk;
pub mod fault_points;
pub mod gate;
pub mod http;
pub mod juicefs;
pub mod lab;
pub mod objects;
pub mod output;
pub mod paths;
pub mod processes;
pub mod refused;
pub mod socket;
pub mod store;
pub mod tracer;
pub mod trees;
pub mod unprivileged;
pub mod verbs;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub use output::Output;
pub use paths::{wait_for_file, wait_for_file_to_exist, wait_for_text};
pub use processes::{is_alive, signal_process};
pub use serde_json::{Value, json};

/// How long anything may take before a test is given up. Not a bar: a stop for hangs.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// The token of daemons under test.
pub const TOKEN: &str = "test-token";

pub const BIN: &str = env!("CARGO_BIN_EXE_sprite-env");
pub const SPRITECTL: &str = env!("CARGO_BIN_EXE_spritectl");

/// How many daemons were started.
static STARTS: AtomicUsize = AtomicUsize::new(0);

/// What to start.
pub struct Sprite {
    pub dir: tempfile::TempDir,
    command: Vec<String>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    prefix: Vec<String>,
    program: PathBuf,
}

impl Default for Sprite {
    fn default() -> Self {
        Self::new()
    }
}

impl Sprite {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            command: vec![],
            arguments: vec![],
            environment: vec![],
            prefix: vec![],
            program: BIN.into(),
        }
    }

    /// The main process.
    pub fn command(mut self, words: &[&str]) -> Self {
        self.command = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// The main process, as a shell script.
    pub fn script(self, script: &str) -> Self {
        self.command(&["sh", "-c", script])
    }

    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With the API on a free port, and the token.
    pub fn api(self) -> Self {
        self.arg("-listen")
            .arg("127.0.0.1:0")
            .env("SPRITE_HTTP_API_TOKEN", TOKEN)
    }

    /// With checkpoints.
    pub fn storage(self) -> Self {
        let dir = self.path("data");
        std::fs::create_dir_all(&dir).unwrap();
        self.env("SPRITE_WRITE_DIR", dir.to_str().unwrap())
    }

    pub fn config(self, config: &Value) -> Self {
        let path = self.path("config.json");
        std::fs::write(&path, config.to_string()).unwrap();
        self.arg("-config").arg(path.to_str().unwrap())
    }

    /// Another program than the one that was built.
    pub fn program(mut self, program: &Path) -> Self {
        self.program = program.into();
        self
    }

    /// Run by another program.
    pub fn under(mut self, words: &[&str]) -> Self {
        self.prefix
            .extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    /// As PID 1 of a PID namespace of its own.
    pub fn pid_1(self) -> Self {
        self.under(UNSHARE.as_ref().expect("ask pid_namespaces() first"))
    }

    /// A path in the test's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The environment's directory.
    pub fn fs(&self) -> PathBuf {
        self.path("data/fs")
    }

    pub fn start(self) -> Daemon {
        let mut words = self.prefix.clone();
        words.push(self.program.display().to_string());
        words.extend(self.arguments.clone());
        if !self.command.is_empty() {
            words.push("--".to_owned());
            words.extend(self.command.clone());
        }
        let journal = self.path(&format!(
            "journal-{}",
            STARTS.fetch_add(1, Ordering::Relaxed)
        ));
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .env("SPRITE_JOURNAL", &journal)
            .env_remove("SPRITE_HTTP_API_TOKEN")
            .env_remove("SPRITE_WRITE_DIR")
            .envs(self.environment.iter().cloned())
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = Output::default();
        output.collect("out", child.stdout.take().unwrap());
        output.collect("err", child.stderr.take().unwrap());
        Daemon {
            namespaced: self.prefix.iter().any(|word| word == "--fork"),
            journal,
            sprite: self,
            child,
            output,
        }
    }

    /// Starts it with the API and a main process that does nothing, and waits until it runs.
    pub fn idle(self) -> Daemon {
        let daemon = self.command(&["sleep", "1000"]).api().start();
        daemon.wait_running();
        daemon
    }

    /// Runs to the end; returns the exit code and everything printed.
    pub fn run(self) -> (i32, String) {
        let mut daemon = self.start();
        let code = daemon.wait();
        (code, daemon.output.text())
    }
}

/// A daemon that was started.
pub struct Daemon {
    pub sprite: Sprite,
    child: Child,
    pub output: Output,
    namespaced: bool,
    journal: PathBuf,
}

impl Daemon {
    /// The daemon's process id, as this test sees it.
    pub fn pid(&self) -> i32 {
        let ours = i32::try_from(self.child.id()).unwrap();
        if !self.namespaced {
            return ours;
        }
        // unshare stays in front and has one child.
        let path = format!("/proc/{ours}/task/{ours}/children");
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let children = std::fs::read_to_string(&path).unwrap_or_default();
            if let Some(pid) = children.split_ascii_whitespace().next() {
                return pid.parse().unwrap();
            }
            std::thread::yield_now();
        }
        panic!("the daemon did not start:\n{}", self.output.text());
    }

    pub fn signal(&self, signal: i32) {
        signal_process(self.pid(), signal);
    }

    /// Kills it, if it is still there.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
    }

    pub fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    /// Kills it and everything below it at once, as a crash of the machine would.
    pub fn crash(mut self) -> Sprite {
        let children = processes::children(self.pid());
        self.signal(libc::SIGKILL);
        assert_eq!(self.wait_without_output(), 137);
        for child in children {
            signal_process(child, libc::SIGKILL);
        }
        self.into_sprite()
    }

    /// Waits for a line that contains `needle`.
    pub fn wait_for(&self, needle: &str) -> String {
        self.output.wait_for(needle, 1)
    }

    /// Waits until `needle` was printed `count` times.
    pub fn wait_for_times(&self, needle: &str, count: usize) {
        self.output.wait_for(needle, count);
    }

    /// Waits until everything is up.
    pub fn wait_running(&self) {
        self.wait_for("the system is Online > Serving > Running");
    }

    /// Waits until everything is up, or it has ended; returns which.
    pub fn wait_running_or_end(&mut self) -> bool {
        let running = "the system is Online > Serving > Running";
        self.wait_or_end(|daemon| daemon.output.text().contains(running))
    }

    /// Waits until everything runs, or until it has ended; whether it has.
    pub fn wait_running_or_over(&mut self) -> bool {
        let client = self.client();
        !self.wait_or_end(|_| {
            let answer = client.attempt("GET", "/status");
            answer.is_some_and(|answer| answer.json()["state"] == "Online > Serving > Running")
        })
    }

    /// Waits until something is reached, or it has ended; returns which.
    fn wait_or_end(&mut self, is_reached: impl Fn(&Self) -> bool) -> bool {
        let start = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            if is_reached(self) {
                return true;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "neither: {}",
                self.output.text()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    }

    /// Waits for the end; returns the exit code, as a shell tells it.
    pub fn wait(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt as _;
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.output.wait_closed();
                return status
                    .code()
                    .unwrap_or_else(|| 128 + status.signal().unwrap());
            }
            if start.elapsed() > PATIENCE {
                let text = self.output.text();
                let _ = self.child.kill();
                panic!("the daemon did not end:\n{text}");
            }
            // There is no event to wait on for another process's end in std.
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for the end of the daemon alone: something below it may hold its output.
    pub fn wait_without_output(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt as _;
        let status = self.child.wait().unwrap();
        status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap())
    }

    /// What happened must be what the machines do when it happens again.
    fn replay_journal(&self) {
        // On a read-only root, or with a bad configuration, there is none.
        let Ok(text) = std::fs::read_to_string(&self.journal) else {
            return;
        };
        if let Err(error) = machines::journal::replay(&text, |_, _| {}) {
            panic!("{error}\n{}", self.output.text());
        }
        if let Some(dir) = std::env::var_os("SPRITE_TEST_JOURNALS") {
            let name = self.journal.file_name().unwrap();
            std::fs::write(Path::new(&dir).join(name), text).unwrap();
        }
    }

    /// The directory and settings of a daemon that has ended, to start it again. What
    /// to run and the flags are to be given anew.
    pub fn into_sprite(mut self) -> Sprite {
        let mut sprite = std::mem::take(&mut self.sprite);
        sprite.command.clear();
        sprite.prefix.clear();
        let config = sprite.path("config.json");
        sprite.arguments.clear();
        if config.exists() {
            sprite.arguments = vec!["-config".to_owned(), config.display().to_string()];
        }
        sprite
    }

    /// Stops it and expects `code`.
    pub fn stop(&mut self, code: i32) {
        self.terminate();
        assert_eq!(self.wait(), code, "{}", self.output.text());
    }

    /// A client of its API.
    pub fn client(&self) -> http::Client {
        let line = self.wait_for("the API listens at ");
        let (_, address) = line.rsplit_once(' ').unwrap();
        let address = address.trim_end_matches(['"', '}']);
        http::Client::new(format!("http://{address}"), Some(TOKEN))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let pid = if self.namespaced {
                self.pid()
            } else {
                self.child.id() as i32
            };
            signal_process(pid, libc::SIGTERM);
            signal_process(pid, libc::SIGTERM);
            let start = Instant::now();
            while self.child.try_wait().is_ok_and(|status| status.is_none()) {
                if start.elapsed() > Duration::from_secs(10) {
                    let _ = self.child.kill();
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        if !std::thread::panicking() {
            self.replay_journal();
        }
    }
}

static UNSHARE: LazyLock<Option<Vec<&'static str>>> = LazyLock::new(|| {
    let plain = vec!["unshare", "--pid", "--fork", "--mount-proc"];
    let user = vec![
        "unshare",
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--mount-proc",
    ];
    [plain, user].into_iter().find(|words| {
        let tried = Command::new(words[0])
            .args(&words[1..])
            .arg("true")
            .output();
        tried.is_ok_and(|output| output.status.success())
    })
});

/// Whether PID namespaces can be made here; says so if not.
pub fn pid_namespaces() -> bool {
    let possible = UNSHARE.is_some();
    if !possible {
        skipped("PID namespaces cannot be made here (unshare --pid fails)");
    }
    possible
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says why a test was not run.
pub fn skipped(why: &str) {
    let thread = std::thread::current();
    eprintln!("SKIPPED {}: {why}", thread.name().unwrap_or("a test"));
}
