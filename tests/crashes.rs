//! Killed at every system call that changes the store or the directory, and started
//! again: what was promised is there, and the directory is one state or the other.
//!
//! strace kills the daemon when one of its threads makes its n-th such call, for each n
//! until the operation is done before that.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::tracer::can_trace;
use crate::support::{Daemon, Sprite, store, trees};

/// What changes something on a disk.
const CALLS: &str = "mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlinkat,unlink,\
    unlinkat,rmdir,ftruncate,fallocate,write,pwrite64,fsync,fdatasync,syncfs,fchownat,fchmodat,\
    utimensat,mknodat,flock";
const MAIN: &str = "echo $$ >pid; exec sleep 1000";
const SIZE: usize = 200_000;

/// The states of the directory that checkpoints v0 and v1 have, and what is there now.
fn make_state(fs_dir: &Path, state: u8) {
    let at = |name: &str| fs_dir.join(name);
    if state == 0 {
        trees::make(fs_dir, crate::support::is_root());
        fs::write(at("large"), vec![b'0'; SIZE]).unwrap();
        fs::create_dir(at("first")).unwrap();
        fs::write(at("first/file"), "first").unwrap();
    } else {
        fs::write(at("plain"), format!("state {state}")).unwrap();
        fs::write(at(&format!("only-{state}")), "x").unwrap();
        let large = fs::OpenOptions::new()
            .write(true)
            .open(at("large"))
            .unwrap();
        std::os::unix::fs::FileExt::write_at(&large, &[b'0' + state; 10], 70_000).unwrap();
        if state == 1 {
            fs::remove_dir_all(at("first")).unwrap();
            fs::remove_file(at("link")).unwrap();
            fs::hard_link(at("secret"), at("second-name")).unwrap();
        }
    }
}

/// A directory with two checkpoints and a third state, and how each state looks.
struct Prepared {
    sprite: Sprite,
    states: Vec<std::collections::BTreeMap<std::path::PathBuf, String>>,
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
    daemon.stop(143);
    Prepared {
        sprite: daemon.into_sprite(),
        states,
    }
}

fn start(sprite: Sprite) -> Daemon {
    let daemon = sprite.script(MAIN).storage().api().start();
    daemon.wait_running();
    daemon
}

/// The environment's process is not ours to lose when the daemon is killed.
fn kill_main(sprite: &Sprite) {
    if let Ok(pid) = fs::read_to_string(sprite.path("pid"))
        && let Ok(pid) = pid.trim().parse()
    {
        crate::support::signal_process(pid, libc::SIGKILL);
    }
}

/// Kills at the `n`-th call of a thread; returns whether `operation` was done before.
fn killed_at(prepared: &Prepared, n: usize, path: &str, method: &str) -> (Sprite, bool) {
    let sprite = Sprite::new();
    let copied = Command::new("cp")
        .arg("-a")
        .arg(prepared.sprite.path("data"))
        .arg(sprite.path("data"))
        .status();
    assert!(copied.unwrap().success());
    let inject = format!("inject={CALLS}:signal=KILL:when={n}");
    let log = sprite.path("strace.log").display().to_string();
    let trace = format!("trace={CALLS}");
    let words = [
        "strace", "-f", "-qq", "-D", "-o", &log, "-e", &trace, "-e", &inject,
    ];
    let mut daemon = sprite.under(&words).script(MAIN).storage().api().start();
    let done = daemon.wait_running_or_end()
        && daemon
            .client()
            .attempt(method, path)
            .is_some_and(|answer| !answer.text.contains("\"error\""));
    daemon.kill();
    daemon.wait_without_output();
    let sprite = daemon.into_sprite();
    kill_main(&sprite);
    (sprite, done)
}

/// Kills `method path` everywhere; each time the directory must look as one of `outcomes`
/// says, and these checkpoints must be there.
fn everywhere(method: &str, path: &str, outcomes: &[usize], kept: &[&str]) {
    if !can_trace() {
        return;
    }
    let prepared = prepare();
    let mut n = 0;
    loop {
        n += 1;
        let (sprite, done) = killed_at(&prepared, n, path, method);
        let mut daemon = start(sprite);
        let found = trees::describe(&daemon.sprite.fs());
        let is_whole = outcomes
            .iter()
            .any(|state| found == prepared.states[*state]);
        assert!(
            is_whole,
            "{method} {path}, call {n}: {found:#?}\n{}",
            daemon.output.text()
        );
        let there = store::checkpoints(&daemon.sprite);
        for id in kept {
            assert!(
                there.iter().any(|there| there == id),
                "call {n}: {id} is lost: {there:?}"
            );
        }
        for id in there.iter().filter(|id| id.starts_with('v')) {
            let last = daemon.client().restore(id);
            assert_eq!(last["type"], "complete", "call {n}, {id}: {last}");
            let state: usize = id[1..].parse().unwrap();
            assert_eq!(
                trees::describe(&daemon.sprite.fs()),
                prepared.states[state],
                "call {n}, {id}"
            );
        }
        daemon.stop(143);
        if done {
            break;
        }
    }
    println!("{method} {path}: killed at {n} calls of each thread");
    assert!(n > 20, "it was killed at {n} calls only");
}

#[test]
fn a_checkpoint_killed_anywhere() {
    everywhere("POST", "/checkpoint", &[2], &["v0", "v1"]);
}

#[test]
fn a_restore_killed_anywhere() {
    everywhere("POST", "/checkpoints/v0/restore", &[0, 2], &["v0", "v1"]);
}

#[test]
fn a_deletion_killed_anywhere() {
    everywhere("DELETE", "/checkpoints/v0", &[2], &["v1"]);
}
