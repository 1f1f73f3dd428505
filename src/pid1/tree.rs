//! The process tree below us, as `/proc` shows it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io;
use std::path::Path;

use crate::cgroups::Cgroups;
use crate::reaper::Reaper;
use crate::sys;

/// A process at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its process id.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Its session: the process id of whoever began it.
    pub session: i32,
    /// Its state: `R`, `S`, `D`, `T` (stopped), `t` (traced), `Z` (zombie), `X`…; that of
    /// another thread if its first has ended.
    pub state: char,
    /// When it started, in clock ticks since boot: tells it from a later one with the
    /// same number.
    pub started: u64,
}

impl Entry {
    /// Whether it has ended.
    #[must_use]
    pub const fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// Whether `/proc` is there and shows our own PID namespace.
#[must_use]
pub fn is_visible() -> bool {
    let ours = rustix::process::getpid().as_raw_nonzero().get();
    fs::read_link("/proc/self").is_ok_and(|link| link.to_str() == Some(&ours.to_string()))
}

/// Reads one process; none if it is gone.
#[must_use]
pub fn read(pid: i32) -> Option<Entry> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (mut entry, threads) = parse(pid, &stat)?;
    if entry.is_dead() && threads > 1 {
        // Its first thread has ended and the others go on: it lives.
        entry.state = state_of_threads(pid).unwrap_or(entry.state);
    }
    Some(entry)
}

/// The state of a process whose first thread has ended: it is stopped when all others are.
fn state_of_threads(pid: i32) -> Option<char> {
    let mut found = None;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        match parse(pid, &stat) {
            Some((thread, _)) if thread.is_dead() => {}
            Some((thread, _)) if thread.state == 'T' => found = Some('T'),
            Some((thread, _)) => return Some(thread.state),
            None => {}
        }
    }
    found
}

/// Everything below us, dead or alive. The error is that `/proc` cannot be read.
///
/// The kernel lists the children of each thread (`/proc/PID/task/TID/children`), so this
/// costs as much as our own tree has processes, however many others there are. Where
/// the kernel was built without that, all processes are looked at.
pub fn descendants() -> io::Result<Vec<Entry>> {
    let ours = rustix::process::getpid().as_raw_nonzero().get();
    let mut found = Vec::new();
    let mut seen = HashSet::from([ours]);
    let mut next = vec![ours];
    while let Some(pid) = next.pop() {
        let children = match children_of(pid) {
            Ok(children) => children,
            Err(_) if pid == ours => return descendants_by_scan(ours),
            // It is gone; its children are ours now, and found the next time.
            Err(_) => continue,
        };
        for child in children {
            if seen.insert(child)
                && let Some(entry) = read(child)
            {
                next.push(child);
                found.push(entry);
            }
        }
    }
    Ok(found)
}

/// Those of `found` that carry the storage: children of `reaper`, what they have started, what
/// is in their sessions, and what is in their `cgroups`. They must be asked for after `found`
/// was: what is in it and carries the storage is then known as such.
#[must_use]
pub fn storage(found: &[Entry], reaper: &Reaper, cgroups: Option<&Cgroups>) -> BTreeSet<i32> {
    let mut storage = reaper.storage();
    if storage.is_empty() {
        return storage;
    }
    storage.extend(cgroups.map(Cgroups::storage_members).unwrap_or_default());
    loop {
        let before = storage.len();
        let more = found
            .iter()
            .filter(|entry| storage.contains(&entry.parent) || storage.contains(&entry.session));
        let more: Vec<_> = more.map(|entry| entry.pid).collect();
        storage.extend(more);
        if storage.len() == before {
            return storage;
        }
    }
}

fn children_of(pid: i32) -> io::Result<Vec<i32>> {
    let mut children = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        match fs::read_to_string(task?.path().join("children")) {
            Ok(list) => children.extend(list.split_ascii_whitespace().flat_map(str::parse::<i32>)),
            // A thread may end meanwhile. If the file is missing for a living one, it
            // is missing for all.
            Err(error) if Path::new(&format!("/proc/{pid}/task/{pid}/children")).exists() => {
                tracing::trace!(pid, %error, "a thread is gone");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(children)
}

fn descendants_by_scan(ours: i32) -> io::Result<Vec<Entry>> {
    let mut children = BTreeMap::<i32, Vec<Entry>>::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok());
        if let Some(entry) = pid.and_then(read) {
            children.entry(entry.parent).or_default().push(entry);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![ours];
    let mut seen = HashSet::from([ours]);
    while let Some(pid) = next.pop() {
        for child in children.get(&pid).into_iter().flatten() {
            if seen.insert(child.pid) {
                next.push(child.pid);
                found.push(*child);
            }
        }
    }
    Ok(found)
}

/// Reads `/proc/PID/stat`: `pid (name) state ppid … starttime …`. The name may hold
/// anything, so the fields are counted from behind its last parenthesis (proc(5)). Also
/// tells how many threads it has.
fn parse(pid: i32, stat: &str) -> Option<(Entry, usize)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    let threads = fields.nth(13)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    let entry = Entry {
        pid,
        parent,
        session,
        state,
        started,
    };
    Some((entry, threads))
}

/// Processes that were stopped, and must be let run again.
#[derive(Debug, Default)]
pub struct Frozen {
    stopped: Vec<Entry>,
}

/// What a freeze that nobody wants any more ends with.
#[must_use]
pub fn given_up() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "given up")
}

/// How long the child of a vfork is let run, to become another program.
const VFORK: std::time::Duration = std::time::Duration::from_millis(1);

impl Frozen {
    /// Lets the children of `parent` run that were stopped; they are to be stopped again.
    fn let_go(&mut self, found: &[Entry], parent: i32) -> Vec<(i32, u64)> {
        let children = found.iter().filter(|entry| entry.parent == parent);
        let held = children.filter(|entry| matches!(entry.state, 'T'));
        let mut gone = Vec::new();
        for child in held {
            let before = self.stopped.len();
            let is_it = |entry: &Entry| (entry.pid, entry.started) == (child.pid, child.started);
            self.stopped.retain(|entry| !is_it(entry));
            if self.stopped.len() < before && sys::kill(child.pid, libc::SIGCONT).is_ok() {
                gone.push((child.pid, child.started));
            }
        }
        gone
    }

    /// The process ids of what was stopped.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        self.stopped.iter().map(|entry| entry.pid).collect()
    }
}

/// Stops everything below us, until two whole passes find nothing that runs: one alone
/// may miss the child of a process that ends under its eyes. What is `held` otherwise, or was
/// stopped by somebody else, is left alone, now and at the thaw. `keep_on` is asked before
/// each pass. On failure, what was stopped so far is in `frozen`.
pub fn freeze(
    frozen: &mut Frozen,
    keep_on: impl Fn() -> bool,
    held: impl Fn(&[Entry]) -> HashSet<i32>,
) -> io::Result<()> {
    let mut known = HashSet::new();
    let mut quiet = 0;
    loop {
        if !keep_on() {
            return Err(given_up());
        }
        let (mut running, mut let_go) = (false, Vec::new());
        let found = descendants()?;
        let held = held(&found);
        for entry in &found {
            if entry.is_dead() || held.contains(&entry.pid) {
                continue;
            }
            let stopped = matches!(entry.state, 'T' | 't');
            running |= !stopped;
            if known.insert((entry.pid, entry.started)) {
                if !stopped && sys::kill(entry.pid, libc::SIGSTOP).is_ok() {
                    frozen.stopped.push(*entry);
                }
            } else if entry.state == 'D' {
                // It was told before, and is held once its state says so. One that waits for
                // the child of a vfork to become another program cannot stop before that.
                let_go.extend(frozen.let_go(&found, entry.pid));
            }
        }
        // Only now: this pass has seen them as they were.
        if !let_go.is_empty() {
            known.retain(|process| !let_go.contains(process));
            std::thread::sleep(VFORK);
        }
        quiet = if running { 0 } else { quiet + 1 };
        if quiet == 2 {
            return Ok(());
        }
        std::thread::yield_now();
    }
}

/// Lets everything run again that [`freeze`] stopped.
pub fn thaw(frozen: &mut Frozen) {
    for entry in frozen.stopped.drain(..) {
        let is_same = read(entry.pid).is_some_and(|now| now.started == entry.started);
        if is_same && let Err(error) = sys::kill(entry.pid, libc::SIGCONT) {
            tracing::warn!(pid = entry.pid, %error, "cannot let a process run again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let fields = (5..=21)
            .map(|n| n.to_string())
            .collect::<Vec<_>>()
            .join(" ");
        let stat = format!("7 (a) R 1 (b\n) S 3 {fields} 4242 0 0");
        let entry = parse(7, &stat).map(|(e, threads)| (e.state, e.parent, e.started, threads));
        assert_eq!(entry, Some(('S', 3, 4242, 20)));
        assert_eq!(parse(7, "7 (x"), None);
        assert_eq!(parse(7, ""), None);
    }
}
