//! The inits that are measured, and one that runs.

use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

const BIN: &str = env!("CARGO_BIN_EXE_sprite-env");
/// What `make static` builds.
const STATIC: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/target/x86_64-unknown-linux-musl/static/sprite-env"
);
/// How long anything may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// An init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    Sprite,
    SpriteWithApi,
    Static,
    StaticWithApi,
    Tini,
    Dumb,
    Catatonit,
    S6,
    Runit,
    Supervisord,
}

/// All of them.
pub const fn all() -> [Init; 10] {
    [
        Init::Sprite,
        Init::SpriteWithApi,
        Init::Static,
        Init::StaticWithApi,
        Init::Tini,
        Init::Dumb,
        Init::Catatonit,
        Init::S6,
        Init::Runit,
        Init::Supervisord,
    ]
}

impl Init {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sprite => "sprite-env",
            Self::SpriteWithApi => "sprite-env, API on",
            Self::Static => "sprite-env, static",
            Self::StaticWithApi => "sprite-env, static, API on",
            Self::Tini => "tini",
            Self::Dumb => "dumb-init",
            Self::Catatonit => "catatonit",
            Self::S6 => "s6-svscan",
            Self::Runit => "runsvdir",
            Self::Supervisord => "supervisord",
        }
    }

    const fn program(self) -> &'static str {
        match self {
            Self::Sprite | Self::SpriteWithApi => BIN,
            Self::Static | Self::StaticWithApi => STATIC,
            other => other.name(),
        }
    }

    pub fn is_missing(self) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        !Path::new(self.program()).is_file()
            && !std::env::split_paths(&path).any(|dir| dir.join(self.program()).is_file())
    }

    /// Whether it is given one program to run, and ends with it.
    pub const fn runs_a_child(self) -> bool {
        matches!(
            self,
            Self::Sprite | Self::Static | Self::Tini | Self::Dumb | Self::Catatonit
        )
    }

    pub const fn forwards(self) -> bool {
        self.runs_a_child()
    }

    /// Whether it starts again what has crashed.
    pub const fn restarts(self) -> bool {
        matches!(
            self,
            Self::Sprite | Self::Static | Self::S6 | Self::Runit | Self::Supervisord
        )
    }

    /// Runs `helper WHAT FILE MORE…` below it. Its exec is the first thing that is noted.
    pub fn run(self, helper: &Path, dir: &Path, what: &str, file: &Path, more: &[&str]) -> Running {
        let mut command = self.command(helper, dir, what, file, more);
        let outer = command.spawn().unwrap();
        wait_for_stamps(file, 1);
        Running::of(outer)
    }

    /// The command that [`Init::run`] runs.
    pub fn command(
        self,
        helper: &Path,
        dir: &Path,
        what: &str,
        file: &Path,
        more: &[&str],
    ) -> Command {
        let (helper, file) = (text(helper), text(file));
        let mut words = vec![helper.clone(), what.to_owned(), file.clone()];
        words.extend(more.iter().map(|word| (*word).to_owned()));
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.args([helper.as_str(), "launch", file.as_str(), self.program()]);
        match self {
            Self::Sprite | Self::Static if what == "crash" => {
                command.args(["-config", &component(dir, &words), "--", "sleep", "1000"]);
            }
            Self::Sprite | Self::Static => {
                command.args(["-graceful-shutdown-timeout", "1s", "--"]);
                command.args(&words);
            }
            Self::SpriteWithApi | Self::StaticWithApi => {
                command.args(["-listen", "127.0.0.1:0", "--"]).args(&words);
                command.env("SPRITE_HTTP_API_TOKEN", "bench");
            }
            Self::Tini | Self::Dumb | Self::Catatonit => {
                command.arg("--").args(&words);
            }
            Self::S6 | Self::Runit => {
                command.arg(service(dir, &words));
            }
            Self::Supervisord => {
                command.args(["-n", "-c", &supervised(dir, &words)]);
            }
        }
        command.current_dir(dir);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A configuration of ours with one component.
fn component(dir: &Path, words: &[String]) -> String {
    let path = dir.join("config.json");
    let config = serde_json::json!({"components": {"crash": {
        "start_command": words, "on_failure": "restart",
        "backoff": {"min": "0s", "jitter": 0.0, "max_restarts": 255},
    }}});
    std::fs::write(&path, config.to_string()).unwrap();
    text(&path)
}

/// A directory of services with one in it.
fn service(dir: &Path, words: &[String]) -> PathBuf {
    let services = dir.join("services");
    let _ = std::fs::remove_dir_all(&services);
    let service = services.join("one");
    std::fs::create_dir_all(&service).unwrap();
    symlink(&words[0], service.join("run")).unwrap();
    // For s6: how long it may take to go.
    std::fs::write(service.join("timeout-kill"), "1000").unwrap();
    std::fs::write(service.join("args"), words[1..].join("\n")).unwrap();
    services
}

fn supervised(dir: &Path, words: &[String]) -> String {
    let path = dir.join("supervisord.conf");
    let config = format!(
        "[supervisord]\nuser=root\nlogfile=/dev/null\nlogfile_maxbytes=0\n\
         pidfile={0}/supervisord.pid\n\
         [unix_http_server]\nfile={0}/supervisor.sock\n\
         [rpcinterface:supervisor]\n\
         supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n\
         [program:one]\ncommand={1}\nautorestart=true\nstartsecs=1\nstopwaitsecs=1\n",
        dir.display(),
        words.join(" ")
    );
    std::fs::write(&path, config).unwrap();
    text(&path)
}

/// An init that runs.
#[derive(Debug)]
pub struct Running {
    outer: Child,
    pid: i32,
    fd: OwnedFd,
}

impl Running {
    fn of(outer: Child) -> Self {
        let children = format!("/proc/{0}/task/{0}/children", outer.id());
        let pid = std::fs::read_to_string(children).unwrap();
        let pid: i32 = pid.trim().parse().unwrap();
        let fd = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
        Self { outer, pid, fd }
    }

    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it ends soon enough.
    pub fn ends_within(&mut self, time: Duration) -> bool {
        let start = Instant::now();
        while start.elapsed() < time {
            if self.outer.try_wait().unwrap().is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// How many of its children have ended and were not reaped.
    pub fn zombies(&self) -> usize {
        let children = format!("/proc/{0}/task/{0}/children", self.pid);
        let children = std::fs::read_to_string(children).unwrap_or_default();
        let is_zombie = |pid: &&str| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.is_ok_and(|stat| {
                stat.rsplit(')')
                    .next()
                    .is_some_and(|rest| rest.starts_with(" Z"))
            })
        };
        children.split_whitespace().filter(is_zombie).count()
    }

    pub fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.fd, signal).unwrap();
    }

    pub fn kill(&mut self) {
        let _ = pidfd_send_signal(&self.fd, Signal::KILL);
        self.wait();
    }

    /// Waits until it is gone.
    pub fn wait(&mut self) {
        let mut fds = [rustix::event::PollFd::new(
            &self.fd,
            rustix::event::PollFlags::IN,
        )];
        rustix::event::poll(&mut fds, None).unwrap();
        let _ = self.outer.wait();
    }

    fn tasks(&self) -> impl Iterator<Item = PathBuf> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid)).unwrap();
        tasks.map(|task| task.unwrap().path())
    }

    /// The processor time of all its threads.
    pub fn processor_time(&self) -> Duration {
        let of = |task: PathBuf| {
            let stat = std::fs::read_to_string(task.join("schedstat")).unwrap();
            let nanoseconds = stat.split_whitespace().next().unwrap();
            Duration::from_nanos(nanoseconds.parse().unwrap())
        };
        self.tasks().map(of).sum()
    }

    /// How often its threads were put to sleep or set aside.
    pub fn switches(&self) -> u64 {
        let of = |task: PathBuf| -> u64 {
            let status = std::fs::read_to_string(task.join("status")).unwrap();
            let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
            let counts = lines.map(|line| line.split_whitespace().nth(1).unwrap());
            counts.map(|count| count.parse::<u64>().unwrap()).sum()
        };
        self.tasks().map(of).sum()
    }

    /// Its memory in KiB: PSS.
    pub fn memory(&self) -> u64 {
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid));
        let rollup = rollup.unwrap();
        let line = rollup
            .lines()
            .find(|line| line.starts_with("Pss:"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

/// The clock of the stamps.
pub fn clock() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap();
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap())
}

/// Waits until `file` has so many stamps.
pub fn wait_for_stamps(file: &Path, count: usize) -> Vec<Duration> {
    let start = Instant::now();
    loop {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let stamps: Vec<_> = whole
            .lines()
            .map(|line| Duration::from_nanos(line.parse().unwrap()))
            .collect();
        if stamps.len() >= count {
            return stamps;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "no stamp {count} in {}",
            file.display()
        );
        std::thread::sleep(Duration::from_micros(50));
    }
}
