//! Where the filesystem can do more than a copy, the instant is taken with it.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::disk::Disk;
use crate::support::{Daemon, Sprite, Value, store, trees};

const LARGE: usize = 40 << 20;
/// What a change of a few pages may cost: their blocks, before and behind, and some.
const FEW: u64 = 2 << 20;

fn start(sprite: Sprite) -> Daemon {
    let daemon = sprite.idle();
    daemon.wait_running();
    daemon
}

/// An environment on a disk of this kind, with a large file; on btrfs, in a subvolume.
fn prepare(kind: &str) -> Option<(Disk, Daemon)> {
    let sprite = Sprite::new();
    let disk = Disk::of_kind(kind, &sprite.path("data"))?;
    if kind == "btrfs" {
        let mut btrfs = Command::new("btrfs");
        let made = btrfs.args(["-q", "subvolume", "create"]).arg(sprite.fs());
        assert!(made.status().unwrap().success());
    }
    let daemon = start(sprite.storage());
    let noise = std::iter::repeat_with(|| fastrand::u8(..));
    fs::write(
        daemon.sprite.fs().join("large"),
        noise.take(LARGE).collect::<Vec<_>>(),
    )
    .unwrap();
    Some((disk, daemon))
}

/// Changes some pages; returns what the file is then.
fn change(fs_dir: &Path) -> Vec<u8> {
    let path = fs_dir.join("large");
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    for _ in 0..3 {
        let at = fastrand::u64(..(LARGE as u64 - 4096));
        file.write_all_at(&[fastrand::u8(..); 4096], at).unwrap();
    }
    fs::read(path).unwrap()
}

/// A checkpoint; returns how many bytes of files were read for it.
fn bytes_read(daemon: &Daemon) -> u64 {
    let answer = daemon
        .client()
        .request("POST", "/checkpoint?progress=true", b"");
    let lines = answer.lines();
    assert_eq!(lines.last().unwrap()["type"], "complete", "{}", answer.text);
    let of = |phase: &str| {
        let found = lines.iter().rfind(|line| line["phase"] == phase);
        found.map_or(0, |line: &Value| line["bytes_done"].as_u64().unwrap())
    };
    of("pre_copy") + of("capture") + of("seal")
}

fn check(kind: &str, source: &str) {
    let Some((disk, daemon)) = prepare(kind) else {
        return;
    };
    assert_eq!(daemon.client().status()["capture_source"], source);
    let first = fs::read(daemon.sprite.fs().join("large")).unwrap();
    assert!(bytes_read(&daemon) >= LARGE as u64);
    let second = change(&daemon.sprite.fs());
    let read = bytes_read(&daemon);
    assert!((4096..FEW).contains(&read), "{read} bytes were read");
    // Nothing of it shows beside the names of the tree.
    assert_eq!(trees::describe(&daemon.sprite.fs()).len(), 2);
    // What is kept to compare with is kept across a restart.
    let mut daemon = daemon;
    daemon.stop(143);
    let daemon = start(daemon.into_sprite());
    let third = change(&daemon.sprite.fs());
    let read = bytes_read(&daemon);
    assert!(read < FEW, "{read} bytes were read after a restart");
    // A restore is a change like others; what it wrote is read once.
    let is = |wanted: &[u8]| fs::read(daemon.sprite.fs().join("large")).unwrap() == wanted;
    for (id, wanted) in [("v0", &first), ("v2", &third), ("v1", &second)] {
        assert_eq!(daemon.client().restore(id)["type"], "complete");
        assert!(is(wanted), "{id}");
    }
    let last = change(&daemon.sprite.fs());
    bytes_read(&daemon);
    assert_eq!(daemon.client().restore("v0")["type"], "complete");
    assert_eq!(daemon.client().restore("v3")["type"], "complete");
    assert!(is(&last));
    drop((daemon, disk));
}

#[test]
fn a_btrfs_subvolume_is_snapshot() {
    check("btrfs", "btrfs");
}

#[test]
fn on_xfs_large_files_are_cloned() {
    check("xfs", "reflink");
}

#[test]
fn what_a_killed_daemon_froze_is_forgotten() {
    for kind in ["btrfs", "xfs"] {
        let Some((disk, daemon)) = prepare(kind) else {
            return;
        };
        let client = daemon.client();
        bytes_read(&daemon);
        change(&daemon.sprite.fs());
        let going = std::thread::spawn(move || client.attempt_checkpoint());
        let aside = daemon.sprite.path("data/.fs.checkpoint/taken");
        while !going.is_finished() && store::try_files(&aside).is_empty() {
            std::thread::yield_now();
        }
        let sprite = daemon.crash();
        going.join().unwrap();
        let daemon = start(sprite);
        assert!(store::try_files(&aside).is_empty(), "{kind}");
        let wanted = change(&daemon.sprite.fs());
        assert!(bytes_read(&daemon) < LARGE as u64 / 2, "{kind}");
        let id = daemon.client().get("/checkpoints/Current").json()["id"].clone();
        fs::remove_file(daemon.sprite.fs().join("large")).unwrap();
        assert_eq!(
            daemon.client().restore(id.as_str().unwrap())["type"],
            "complete"
        );
        assert!(fs::read(daemon.sprite.fs().join("large")).unwrap() == wanted);
        drop((daemon, disk));
    }
}

#[test]
fn elsewhere_it_is_a_copy() {
    let daemon = start(Sprite::new().storage());
    let source = daemon.client().status()["capture_source"].clone();
    assert!(
        ["precopy", "reflink"].contains(&source.as_str().unwrap()),
        "{source}"
    );
}
