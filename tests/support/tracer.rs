//! strace, which does something to a daemon when it makes a certain system call.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Daemon, PATIENCE, signal_process, skipped};
use crate::sdks::has;

/// Whether that can be done here; the reason is printed if not.
pub fn can_trace() -> bool {
    if !has("strace") {
        return false;
    }
    let traced = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "true"])
        .status();
    let can = traced.is_ok_and(|status| status.success());
    if !can {
        skipped("this machine does not let us trace processes");
    }
    can
}

/// How long strace may take to let go.
const DETACH: Duration = Duration::from_secs(10);

/// Traces a daemon that runs, and what it starts; let go when this is dropped.
pub struct Tracer(Child);

impl Tracer {
    /// Of these `calls`; what is done is said by `inject`.
    pub fn attach(daemon: &Daemon, calls: &str, inject: &str) -> Self {
        Self::run(daemon, &["-e", &format!("trace={calls}"), "-e", inject])
    }

    /// Of these `calls` if they are about the file `path`.
    pub fn attach_to_file(daemon: &Daemon, path: &Path, calls: &str, inject: &str) -> Self {
        let path = path.display().to_string();
        let trace = format!("trace={calls}");
        Self::run(daemon, &["-P", &path, "-e", &trace, "-e", inject])
    }

    fn run(daemon: &Daemon, what: &[&str]) -> Self {
        let pid = daemon.pid();
        let log = daemon.sprite.path("strace.log").display().to_string();
        let child = Command::new("strace")
            .args(["-f", "-qq", "-o", &log])
            .args(what)
            .args(["-p", &pid.to_string()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while !is_traced(pid) {
            assert!(begun.elapsed() < PATIENCE, "strace does not attach");
            std::thread::yield_now();
        }
        Self(child)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        signal_process(i32::try_from(self.0.id()).unwrap(), libc::SIGINT);
        // It may wait for the end of one that it was itself told to kill.
        let begun = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            if begun.elapsed() > DETACH {
                let _ = self.0.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Whether each thread has somebody who traces it.
fn is_traced(pid: i32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let mut statuses = threads.map(|it| fs::read_to_string(it.path().join("status")));
    statuses.all(|status| status.is_ok_and(|text| !text.contains("TracerPid:\t0\n")))
}
