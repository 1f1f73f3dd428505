//! Killed at every fault point, and started again: what was promised is there, and the directory
//! is one state or the other.
//!
//! The fault points of an operation are the system calls of any thread that change the disk, found
//! by tracing the operation once. `SPRITE_FAULT_POINTS=all` kills at each call, and not only at one of a
//! kind.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::disk::Disk;
use crate::support::fault_points::{Point, Tracing, chosen};
use crate::support::{Daemon, Sprite, is_alive, signal_process, skipped, store, trees};

/// A process that says who it is.
pub const MAIN: &str = "echo $$ >pid; exec sleep 1000";
/// Waits until it is let go, with the process id of the daemon that it becomes.
const STOPPED: [&str; 4] = ["sh", "-c", "kill -STOP $$; exec \"$@\"", "sh"];

/// What cannot be compressed, so that most of its pack is of no use when it is gone.
fn noise(state: u8) -> Vec<u8> {
    trees::noise(&mut fastrand::Rng::with_seed(u64::from(state)), 200_000)
}

/// The states of the directory that checkpoints v0 and v1 have, and what is there now.
fn make_state(fs_dir: &Path, state: u8) {
    let at = |name: &str| fs_dir.join(name);
    fs::write(at("large"), noise(state)).unwrap();
    if state == 0 {
        trees::make(fs_dir, crate::support::is_root());
        fs::write(at("patched"), vec![b'0'; 200_000]).unwrap();
        fs::create_dir(at("first")).unwrap();
        fs::write(at("first/file"), "first").unwrap();
    } else {
        fs::write(at("plain"), format!("state {state}")).unwrap();
        fs::write(at(&format!("only-{state}")), "x").unwrap();
        let patched = fs::OpenOptions::new().write(true).open(at("patched"));
        let bytes = [b'0' + state; 10];
        std::os::unix::fs::FileExt::write_all_at(&patched.unwrap(), &bytes, 70_000).unwrap();
        if state == 1 {
            fs::remove_dir_all(at("first")).unwrap();
            fs::remove_file(at("link")).unwrap();
            fs::hard_link(at("secret"), at("second-name")).unwrap();
        }
    }
}

/// A directory with two checkpoints and a third state, how each state looks, and an archive of the
/// first.
struct Prepared {
    sprite: Sprite,
    states: Vec<trees::Looks>,
    archive: Vec<u8>,
}

fn prepare() -> Prepared {
    let mut daemon = start(Sprite::new());
    let mut states = Vec::new();
    for state in 0..3 {
        make_state(&daemon.sprite.fs(), state);
        states.push(trees::describe(&daemon.sprite.fs()));
        if state < 2 {
            assert_eq!(daemon.client().checkpoint(), format!("v{state}"));
        }
    }
    let archive = daemon.client().get("/checkpoints/v0/export").bytes;
    daemon.stop(143);
    Prepared {
        sprite: daemon.into_sprite(),
        states,
        archive,
    }
}

fn start(sprite: Sprite) -> Daemon {
    let daemon = sprite.script(MAIN).storage().api().start();
    daemon.wait_running();
    daemon
}

/// A copy of it, to be killed.
fn copy(of: &Sprite) -> Sprite {
    let sprite = Sprite::new();
    let (from, to) = (of.path("data"), sprite.path("data"));
    if from.exists() {
        let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
        assert!(copied.unwrap().success());
    }
    sprite
}

/// The environment's process is not ours to lose when the daemon is killed.
pub fn kill_main(sprite: &Sprite) {
    if let Ok(pid) = fs::read_to_string(sprite.path("pid"))
        && let Ok(pid) = pid.trim().parse()
        && is_alive(pid)
    {
        signal_process(pid, libc::SIGKILL);
    }
    // It may be another's soon.
    let _ = fs::remove_file(sprite.path("pid"));
}

/// What is cut off.
#[derive(Clone, Copy)]
pub enum Operation<'a> {
    /// A start.
    Start,
    /// A request, with its body.
    Request(&'a str, &'a str, &'a [u8]),
}

/// Begins the operation, traced, to be killed at a point; none where nothing can be traced, with
/// the reason printed.
fn begin(sprite: Sprite, operation: Operation, point: Option<&Point>) -> Option<(Daemon, Tracing)> {
    let mut sprite = sprite.script(MAIN).storage().api();
    let is_start = matches!(operation, Operation::Start);
    if is_start {
        sprite = sprite.under(&STOPPED);
    }
    let daemon = sprite.start();
    if is_start {
        wait_until_stopped(daemon.pid());
    } else {
        daemon.wait_running();
    }
    let tracing = Tracing::begin(&daemon, point);
    if is_start {
        daemon.signal(libc::SIGCONT);
    }
    if tracing.is_none() {
        skipped("this machine does not let us trace processes");
    }
    Some((daemon, tracing?))
}

/// Waits until a child has stopped itself.
fn wait_until_stopped(pid: i32) {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    let stopped = waitpid(
        nix::unistd::Pid::from_raw(pid),
        Some(WaitPidFlag::WUNTRACED),
    );
    assert!(
        matches!(stopped, Ok(WaitStatus::Stopped(..))),
        "{stopped:?}"
    );
}

/// Does the operation; whether it was done.
fn done(daemon: &mut Daemon, operation: Operation) -> bool {
    match operation {
        Operation::Start => daemon.wait_running_or_end(),
        Operation::Request(method, path, body) => daemon
            .client()
            .attempt_with(method, path, body)
            .is_some_and(|answer| answer.status < 300 && !answer.text.contains("\"error\"")),
    }
}

/// The fault points of the operation, and the daemon after it.
pub fn points(sprite: Sprite, operation: Operation) -> Option<(Vec<(String, usize)>, Daemon)> {
    let (mut daemon, tracing) = begin(sprite, operation, None)?;
    assert!(done(&mut daemon, operation), "{}", daemon.output.text());
    Some((tracing.points(), daemon))
}

/// What a kill has left.
pub struct Killed {
    pub sprite: Sprite,
    /// Whether it has met the operation.
    pub has_met: bool,
    /// Whether the operation was told to be done all the same.
    pub is_done: bool,
}

/// Kills it at a point.
pub fn killed_at(sprite: Sprite, operation: Operation, point: &Point) -> Killed {
    let (mut daemon, tracing) = begin(sprite, operation, Some(point)).unwrap();
    let is_done = done(&mut daemon, operation);
    daemon.kill();
    let has_met = tracing.has_killed();
    daemon.wait_without_output();
    assert!(is_done || has_met, "{point}: {}", daemon.output.text());
    let sprite = daemon.into_sprite();
    kill_main(&sprite);
    Killed {
        sprite,
        has_met,
        is_done,
    }
}

/// Counts how often a kill has met the operation, and says so in the end.
pub struct Met {
    found: Vec<(String, usize)>,
    kills: usize,
    count: usize,
}

impl Met {
    /// None yet, of these fault points.
    pub fn new(found: Vec<(String, usize)>) -> Self {
        Self {
            found,
            kills: 0,
            count: 0,
        }
    }

    /// One more kill, which may have met it.
    pub fn add(&mut self, has_met: bool) {
        self.kills += 1;
        self.count += usize::from(has_met);
    }
}

impl Drop for Met {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for (name, count) in &self.found {
            println!("{count:4} {name}");
        }
        let (points, kills) = (self.found.len(), self.kills);
        assert!(kills >= points, "{kills} kills at {points} fault points");
        println!("{points} fault points, {} of {kills} kills met", self.count);
        // Which thread does what, and how often, differs from run to run.
        assert!(self.count * 4 >= kills * 3, "{} of {kills}", self.count);
    }
}

/// Kills the operation everywhere; each time the directory must look as one of `outcomes` says, and
/// these checkpoints must be there.
fn everywhere(prepared: &Prepared, operation: Operation, outcomes: &[usize], kept: &[&str]) {
    let Some((found, mut daemon)) = points(copy(&prepared.sprite), operation) else {
        return;
    };
    daemon.stop(143);
    let chosen = chosen(&found);
    let mut met = Met::new(found);
    for point in chosen {
        let killed = killed_at(copy(&prepared.sprite), operation, &point);
        met.add(killed.has_met);
        let mut daemon = start(killed.sprite);
        let found = trees::describe(&daemon.sprite.fs());
        let is_empty = outcomes.is_empty() && found.len() == 1;
        assert!(
            is_empty
                || outcomes
                    .iter()
                    .any(|state| found == prepared.states[*state]),
            "{point}: {found:#?}\n{}",
            daemon.output.text()
        );
        let there = daemon.client().checkpoint_ids(true);
        for id in kept {
            let is_there = there.iter().any(|there| there == id);
            assert!(is_there, "{point}: {id} is lost: {there:?}");
        }
        if killed.is_done {
            let has = |id: &str| there.iter().any(|there| *there == id);
            let is_kept = match operation {
                Operation::Request("DELETE", ..) => !has("v0"),
                Operation::Request(_, "/checkpoint" | "/checkpoints/import", _) => has("v2"),
                Operation::Request(..) => found == prepared.states[0],
                Operation::Start => true,
            };
            assert!(is_kept, "{point}: done, but {there:?}, {found:#?}");
        }
        let verified = daemon.client().request("POST", "/checkpoints/verify", b"");
        assert_eq!(verified.json()["whole"], true, "{point}: {}", verified.text);
        for id in &there {
            let last = daemon.client().restore(id);
            assert_eq!(last["type"], "complete", "{point}, {id}: {last}");
            let state = match id.as_str() {
                "v1" => 1,
                "v2" if matches!(operation, Operation::Request(_, "/checkpoint", _)) => 2,
                // What a restore has replaced.
                id if id.starts_with("auto-") => 2,
                _ => 0,
            };
            let found = trees::describe(&daemon.sprite.fs());
            assert_eq!(found, prepared.states[state], "{point}, {id}");
        }
        daemon.stop(143);
    }
}

#[test]
fn a_checkpoint_killed_anywhere() {
    let operation = Operation::Request("POST", "/checkpoint", b"");
    everywhere(&prepare(), operation, &[2], &["v0", "v1"]);
}

#[test]
fn a_restore_killed_anywhere() {
    let operation = Operation::Request("POST", "/checkpoints/v0/restore", b"");
    everywhere(&prepare(), operation, &[0, 2], &["v0", "v1"]);
}

#[test]
fn a_deletion_with_its_collection_killed_anywhere() {
    let operation = Operation::Request("DELETE", "/checkpoints/v0", b"");
    everywhere(&prepare(), operation, &[2], &["v1"]);
}

#[test]
fn an_import_killed_anywhere() {
    let prepared = prepare();
    let operation = Operation::Request("POST", "/checkpoints/import", &prepared.archive);
    everywhere(&prepared, operation, &[2], &["v0", "v1"]);
}

#[test]
fn a_first_start_killed_anywhere() {
    let prepared = Prepared {
        sprite: Sprite::new(),
        states: Vec::new(),
        archive: Vec::new(),
    };
    everywhere(&prepared, Operation::Start, &[], &[]);
}

#[test]
fn a_start_that_puts_the_log_together_killed_anywhere() {
    let prepared = prepare();
    // Each record of an older format is written anew.
    let store = prepared.sprite.path("data/store");
    let records = store::files(&store.join("log"));
    for path in records.iter().chain([&store.join("format.json")]) {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains("\"format\": 2"), "{text}");
        fs::write(path, text.replace("\"format\": 2", "\"format\": 1")).unwrap();
    }
    everywhere(&prepared, Operation::Start, &[2], &["v0", "v1"]);
}

#[test]
fn a_start_that_finishes_a_restore_killed_anywhere() {
    let mut prepared = prepare();
    let restore = Operation::Request("POST", "/checkpoints/v0/restore", b"");
    let Some((found, mut daemon)) = points(copy(&prepared.sprite), restore) else {
        return;
    };
    daemon.stop(143);
    // In the middle of what it changes.
    let (name, count) = found.iter().find(|(name, _)| name == "write fs/…").unwrap();
    let point = Point {
        name: name.clone(),
        occurrence: count.div_ceil(2),
    };
    prepared.sprite = killed_at(copy(&prepared.sprite), restore, &point).sprite;
    everywhere(&prepared, Operation::Start, &[0, 2], &["v0", "v1"]);
}

/// Kills checkpoints of one environment, which is on a disk of this kind, everywhere.
fn checkpoints_on(kind: &str) {
    let sprite = Sprite::new();
    let Some(_disk) = Disk::of_environment(kind, &sprite.path("data")) else {
        return;
    };
    let mut states = BTreeMap::new();
    let change = |fs_dir: &Path, state: u8| {
        // So large that it is cloned where that can be done.
        fs::write(fs_dir.join("large"), noise(state).repeat(8)).unwrap();
        fs::write(fs_dir.join(format!("only-{state}")), "x").unwrap();
        trees::describe(fs_dir)
    };
    let mut daemon = start(sprite);
    let first = change(&daemon.sprite.fs(), 0);
    states.insert(daemon.client().checkpoint(), first);
    let second = change(&daemon.sprite.fs(), 1);
    daemon.stop(143);
    let operation = Operation::Request("POST", "/checkpoint", b"");
    let Some((found, mut daemon)) = points(daemon.into_sprite(), operation) else {
        return;
    };
    states.insert("v1".to_owned(), second);
    let chosen = chosen(&found);
    let mut met = Met::new(found);
    for (state, point) in (2..).zip(chosen) {
        let now = change(&daemon.sprite.fs(), state);
        daemon.stop(143);
        let killed = killed_at(daemon.into_sprite(), operation, &point);
        met.add(killed.has_met);
        daemon = start(killed.sprite);
        assert_eq!(trees::describe(&daemon.sprite.fs()), now, "{point}");
        let before = states.len();
        for id in daemon.client().checkpoint_ids(false) {
            states.entry(id).or_insert_with(|| now.clone());
        }
        let is_kept = !killed.is_done || states.len() > before;
        assert!(is_kept, "{point}: done, but lost");
        let there = daemon.client().checkpoint_ids(false);
        assert_eq!(there.len(), states.len(), "{point}: {there:?}");
    }
    for (id, looks) in &states {
        let last = daemon.client().restore(id);
        assert_eq!(last["type"], "complete", "{id}: {last}");
        assert_eq!(trees::describe(&daemon.sprite.fs()), *looks, "{id}");
    }
}

#[test]
fn a_checkpoint_of_clones_killed_anywhere() {
    checkpoints_on("xfs");
}

#[test]
fn a_checkpoint_of_a_snapshot_killed_anywhere() {
    checkpoints_on("btrfs");
}
