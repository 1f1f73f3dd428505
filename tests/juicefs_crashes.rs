//! The daemon, or a program that it runs, killed at any system call of an operation with clones,
//! and started again: the directory is one state or the other, and every checkpoint is there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::juicefs::{fs as tree, image, running};
use crate::support::tracer::{Tracer, can_trace};
use crate::support::{Daemon, signal_process, trees};

/// What changes something.
const CALLS: &str = "mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,ftruncate,write,\
    pwrite64,copy_file_range,fsync,fdatasync,syncfs,ioctl,mount,umount2,execve,chmod,fchmodat";
/// How often each operation is cut off; `SPRITE_KILLS` says another number.
const KILLS: usize = 5;
/// An operation has so many such calls, or a few more.
const LAST: usize = 40;

/// Changes the directory.
fn change(root: &Path, round: usize) -> trees::Looks {
    fs::write(root.join("round"), round.to_string()).unwrap();
    fs::write(
        root.join(format!("file-{}", round % 7)),
        vec![b'x'; 100_000 + round],
    )
    .unwrap();
    let _ = fs::remove_file(root.join(format!("file-{}", (round + 3) % 7)));
    trees::describe(root)
}

/// Kills in the middle of an operation; whether it was done before, and the daemon as it is then.
fn cut_off(mut daemon: Daemon, n: usize, method: &str, path: &str) -> (Daemon, bool) {
    let main = daemon.client().status()["process"]["pid"].as_i64().unwrap();
    let inject = format!("inject={CALLS}:signal=KILL:when={n}");
    let killer = Tracer::attach(&daemon, CALLS, &inject);
    let answer = daemon.client().attempt(method, path);
    drop(killer);
    let done = answer
        .as_ref()
        .is_some_and(|answer| answer.status < 300 && !answer.text.contains("\"error\""));
    // One whose roll-back was cut off too ends by itself.
    if answer.is_none() || daemon.wait_running_or_over() {
        daemon.wait_without_output();
        signal_process(i32::try_from(main).unwrap(), libc::SIGKILL);
        daemon = daemon.into_sprite().api().start();
        daemon.wait_running();
    }
    (daemon, done)
}

/// A checkpoint whose image cannot be mounted.
fn damaged(daemon: &Daemon) -> String {
    let id = daemon.client().checkpoint();
    let image = format!("data/juicefs/mnt/checkpoints/{id}/fs.ext4");
    let image = fs::File::options()
        .write(true)
        .open(daemon.sprite.path(&image))
        .unwrap();
    std::os::unix::fs::FileExt::write_all_at(&image, &vec![0xff; 64 << 10], 0).unwrap();
    image.sync_all().unwrap();
    id
}

#[test]
fn an_operation_with_clones_killed_anywhere() {
    if !can_trace() {
        return;
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
    let damaged = damaged(&daemon);
    for kill in 0..4 * kills {
        let n = random.usize(1..=LAST);
        let known: Vec<_> = states.keys().cloned().collect();
        let id = known[random.usize(..known.len())].clone();
        let (method, path) = match kill % 4 {
            0 => ("POST", "/checkpoint".to_owned()),
            1 => ("POST", format!("/checkpoints/{id}/restore")),
            2 => ("POST", format!("/checkpoints/{damaged}/restore")),
            _ if states.len() > 1 => ("DELETE", format!("/checkpoints/{id}")),
            _ => continue,
        };
        now = change(&tree(&daemon), kill + 1);
        let why = format!("seed {seed}, round {kill}, {method} {path} at call {n}");
        let (after, done) = cut_off(daemon, n, method, &path);
        daemon = after;
        let found = trees::describe(&tree(&daemon));
        let mut there = daemon.client().checkpoint_ids(false);
        assert!(there.contains(&damaged), "{why}");
        there.retain(|id| *id != damaged);
        match kill % 4 {
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
            2 => assert!(found == now && !done, "{why}: {found:#?}"),
            _ => {
                assert_eq!(found, now, "{why}");
                assert!(!done || !there.contains(&id), "{why}");
                if !there.contains(&id) {
                    states.remove(&id);
                }
            }
        }
        let mut wanted: Vec<_> = states.keys().cloned().collect();
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
