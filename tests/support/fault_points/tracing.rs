//! Following a process from one system call to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::calls;
use super::{KILLED, Point};

/// Traces all threads of a process; those to come are traced too, other processes are not.
pub fn seize(pid: i32) -> nix::Result<()> {
    let mut seized = BTreeSet::new();
    loop {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_err(|_| Errno::ESRCH)?;
        let names = threads.flatten().map(|thread| thread.file_name());
        let threads: BTreeSet<i32> = names
            .filter_map(|name| name.to_str()?.parse().ok())
            .collect();
        let new: Vec<i32> = threads.difference(&seized).copied().collect();
        if new.is_empty() {
            return Ok(());
        }
        for thread in new {
            let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE;
            match ptrace::seize(Pid::from_raw(thread), options) {
                Ok(()) => ptrace::interrupt(Pid::from_raw(thread))?,
                // It has ended, or one that is traced has started it.
                Err(Errno::ESRCH) => {}
                Err(Errno::EPERM) if !seized.is_empty() => {}
                Err(error) => return Err(error),
            }
            seized.insert(thread);
        }
    }
}

/// Follows it to its end. Says each point; where one is wanted, kills it there and says so.
pub fn follow(pid: i32, root: &Path, wanted: Option<&Point>, say: &dyn Fn(&str)) {
    let mut counts = BTreeMap::<String, usize>::new();
    let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
    loop {
        let (thread, signal) = match waitpid(None, Some(flags)) {
            Ok(WaitStatus::PtraceSyscall(thread)) => {
                if let Some(name) = point_at(thread, pid, root) {
                    let count = counts.entry(name.clone()).or_default();
                    *count += 1;
                    match wanted {
                        None => say(&name),
                        // What is killed before its call is carried out does not carry it out.
                        Some(it) if it.name == name && it.occurrence == *count => {
                            say(KILLED);
                            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
                        }
                        Some(_) => {}
                    }
                }
                (thread, None)
            }
            Ok(WaitStatus::PtraceEvent(thread, ..)) => (thread, None),
            Ok(WaitStatus::Stopped(thread, signal)) => (thread, Some(signal)),
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(Errno::ECHILD) => return,
            Err(error) => panic!("cannot follow {pid}: {error}"),
        };
        // It may have been killed meanwhile.
        let _ = ptrace::syscall(thread, signal);
    }
}

/// The point that a thread has stopped at, if it is about to change something.
fn point_at(thread: Pid, pid: i32, root: &Path) -> Option<String> {
    let stop = ptrace::syscall_info(thread).ok()?;
    (stop.op == libc::PTRACE_SYSCALL_INFO_ENTRY)
        .then(|| calls::describe(thread.as_raw(), pid, root))?
}
