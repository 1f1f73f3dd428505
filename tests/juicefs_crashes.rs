//! The daemon, or a program that it runs, killed at any system call of an operation with clones,
//! and started again: the directory is one state or the other, and every checkpoint is there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::sdks::has;
use crate::support::juicefs::{fs as tree, image, running};
use crate::support::{Daemon, PATIENCE, signal_process, skipped, trees};

/// What changes something.
const CALLS: &str = "mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,ftruncate,write,\
    pwrite64,fsync,fdatasync,syncfs,ioctl,mount,umount2,execve,chmod,fchmodat";
/// How often each operation is cut off; `SPRITE_KILLS` says another number.
const KILLS: usize = 5;
/// An operation has so many such calls, or a few more.
const LAST: usize = 40;

/// strace, which kills whoever makes its `n`-th call.
struct Killer(Child);

impl Killer {
    fn attach(daemon: &Daemon, n: usize) -> Self {
        let pid = daemon.pid();
        let log = daemon.sprite.path("strace.log").display().to_string();
        let (trace, inject) = (
            format!("trace={CALLS}"),
            format!("inject={CALLS}:signal=KILL:when={n}"),
        );
        let child = Command::new("strace")
            .args(["-f", "-qq", "-o", &log, "-e", &trace, "-e", &inject, "-p"])
            .arg(pid.to_string())
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

impl Drop for Killer {
    fn drop(&mut self) {
        signal_process(i32::try_from(self.0.id()).unwrap(), libc::SIGINT);
        self.0.wait().unwrap();
    }
}

/// Whether each thread has somebody who traces it.
fn is_traced(pid: i32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let mut statuses = threads.map(|it| fs::read_to_string(it.path().join("status")));
    statuses.all(|status| status.is_ok_and(|text| !text.contains("TracerPid:\t0\n")))
}

type Looks = BTreeMap<PathBuf, String>;

/// Changes the directory.
fn change(root: &Path, round: usize) -> Looks {
    fs::write(root.join("round"), round.to_string()).unwrap();
    fs::write(
        root.join(format!("file-{}", round % 7)),
        vec![b'x'; 100_000 + round],
    )
    .unwrap();
    let _ = fs::remove_file(root.join(format!("file-{}", (round + 3) % 7)));
    trees::describe(root)
}

fn ids(daemon: &Daemon) -> Vec<String> {
    let listed = daemon.client().get("/checkpoints").json();
    let listed = listed.as_array().unwrap().iter();
    listed
        .map(|checkpoint| checkpoint["id"].as_str().unwrap().to_owned())
        .collect()
}

/// Kills in the middle of an operation; whether it was done before, and the daemon as it is then.
fn cut_off(mut daemon: Daemon, n: usize, method: &str, path: &str) -> (Daemon, bool) {
    let main = daemon.client().status()["process"]["pid"].as_i64().unwrap();
    let killer = Killer::attach(&daemon, n);
    let answer = daemon.client().attempt(method, path);
    drop(killer);
    let done = answer
        .as_ref()
        .is_some_and(|answer| answer.status < 300 && !answer.text.contains("\"error\""));
    if answer.is_none() || daemon.has_ended() {
        daemon.wait_without_output();
        signal_process(i32::try_from(main).unwrap(), libc::SIGKILL);
        daemon = daemon.into_sprite().api().start();
        daemon.wait_running();
    }
    (daemon, done)
}

#[test]
fn an_operation_with_clones_killed_anywhere() {
    if !has("strace") {
        return;
    }
    let traced = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "true"])
        .status();
    if !traced.is_ok_and(|status| status.success()) {
        return skipped("this machine does not let us trace processes");
    }
    let Some(mut daemon) = image().and_then(|config| running(&config)) else {
        return;
    };
    let kills = std::env::var("SPRITE_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    trees::make(&tree(&daemon), true);
    let mut states = BTreeMap::new();
    let mut now = change(&tree(&daemon), 0);
    states.insert(daemon.client().checkpoint(), now.clone());
    for kill in 0..3 * kills {
        let n = random.usize(1..=LAST);
        let known: Vec<_> = states.keys().cloned().collect();
        let id = known[random.usize(..known.len())].clone();
        let (method, path) = match kill % 3 {
            0 => ("POST", "/checkpoint".to_owned()),
            1 => ("POST", format!("/checkpoints/{id}/restore")),
            _ if states.len() > 1 => ("DELETE", format!("/checkpoints/{id}")),
            _ => continue,
        };
        now = change(&tree(&daemon), kill + 1);
        let why = format!("seed {seed}, round {kill}, {method} {path} at call {n}");
        let (after, done) = cut_off(daemon, n, method, &path);
        daemon = after;
        let found = trees::describe(&tree(&daemon));
        let there = ids(&daemon);
        match kill % 3 {
            0 => {
                assert_eq!(found, now, "{why}");
                let new: Vec<_> = there
                    .iter()
                    .filter(|id| !states.contains_key(*id))
                    .collect();
                assert!(
                    new.len() <= 1 && (new.len() == 1 || !done),
                    "{why}: {there:?}"
                );
                states.extend(new.into_iter().map(|id| (id.clone(), now.clone())));
            }
            1 => {
                assert!(
                    found == now && !done || found == states[&id],
                    "{why}: {found:#?}"
                );
            }
            _ => {
                assert_eq!(found, now, "{why}");
                assert!(!done || !there.contains(&id), "{why}");
                if !there.contains(&id) {
                    states.remove(&id);
                }
            }
        }
        let mut wanted: Vec<_> = states.keys().cloned().collect();
        let mut there = there;
        wanted.sort();
        there.sort();
        assert_eq!(there, wanted, "{why}");
        // One of them, whichever.
        let id = &wanted[random.usize(..wanted.len())];
        let last = daemon.client().restore(id);
        assert_eq!(last["type"], "complete", "{why}, then {id}: {last}");
        assert_eq!(
            trees::describe(&tree(&daemon)),
            states[id],
            "{why}, then {id}"
        );
    }
    for (id, state) in &states {
        assert_eq!(daemon.client().restore(id)["type"], "complete");
        assert_eq!(trees::describe(&tree(&daemon)), *state, "seed {seed}, {id}");
    }
    daemon.stop(143);
}
