//! A disk that is full at any write: what fails says so, and nothing is lost.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::support::disk::{Disk, PAGE};
use crate::support::{Daemon, Sprite, Value, json, trees};

type Tree = BTreeMap<PathBuf, String>;

fn noise(length: usize) -> Vec<u8> {
    trees::noise(&mut fastrand::Rng::new(), length)
}

/// An environment on a disk of its own, with a checkpoint v0 and what it looked like.
fn prepare() -> Option<(Disk, Daemon, Tree)> {
    let sprite = Sprite::new();
    let disk = Disk::in_memory(&sprite.path("data"))?;
    let daemon = sprite.storage().idle();
    trees::make(&daemon.sprite.fs(), true);
    for name in ["one", "two", "three"] {
        fs::write(daemon.sprite.fs().join(name), noise(30_000)).unwrap();
    }
    let first = trees::describe(&daemon.sprite.fs());
    assert_eq!(daemon.client().checkpoint(), "v0");
    Some((disk, daemon, first))
}

fn last_line(daemon: &Daemon, path: &str) -> Value {
    let lines = daemon.client().request("POST", path, b"").lines();
    lines.last().unwrap().clone()
}

fn assert_whole(daemon: &Daemon) {
    let verified = daemon
        .client()
        .post("/checkpoints/verify", &json!({"read_data": true}))
        .json();
    assert_eq!(verified["whole"], true, "{verified}");
}

#[test]
fn a_checkpoint_on_a_full_disk() {
    let Some((disk, daemon, first)) = prepare() else {
        return;
    };
    let at = |name: &str| daemon.sprite.fs().join(name);
    fs::write(at("one"), noise(70_000)).unwrap();
    fs::create_dir(at("new")).unwrap();
    fs::write(at("new/file"), noise(9_000)).unwrap();
    let second = trees::describe(&daemon.sprite.fs());
    let mut failed = 0;
    let made = (0..).find_map(|pages| {
        disk.leave(pages);
        let last = last_line(&daemon, "/checkpoint");
        disk.empty_again();
        if last["type"] == "complete" {
            return Some(last["checkpoint_id"].as_str().unwrap().to_owned());
        }
        failed += 1;
        let why = last["error"].as_str().unwrap();
        assert!(why.contains("No space left on device"), "{pages}: {why}");
        assert_eq!(trees::describe(&daemon.sprite.fs()), second, "{pages}");
        let listed = daemon.client().get("/checkpoints").json();
        assert_eq!(listed.as_array().unwrap().len(), 1, "{pages}: {listed}");
        assert_whole(&daemon);
        None
    });
    assert!(failed > 10, "it failed {failed} times only");
    assert_eq!(
        daemon.client().status()["state"],
        "Online > Serving > Running"
    );
    assert_eq!(daemon.client().restore("v0")["type"], "complete");
    assert_eq!(trees::describe(&daemon.sprite.fs()), first);
    assert_eq!(daemon.client().restore(&made.unwrap())["type"], "complete");
    assert_eq!(trees::describe(&daemon.sprite.fs()), second);
}

#[test]
fn a_restore_on_a_full_disk() {
    let Some((disk, daemon, first)) = prepare() else {
        return;
    };
    // So much is kept for undoing it before anything is changed.
    let reserve = (8 << 20) / PAGE;
    let mut failed = 0;
    for pages in (0..3).chain(reserve - 3..) {
        let at = |name: &str| daemon.sprite.fs().join(name);
        for name in ["one", "two"] {
            let _ = fs::remove_file(at(name));
        }
        fs::write(at("three"), noise(1_000)).unwrap();
        fs::write(at("four"), pages.to_string()).unwrap();
        let before = trees::describe(&daemon.sprite.fs());
        disk.leave(pages);
        let last = last_line(&daemon, "/checkpoints/v0/restore");
        if last["type"] == "complete" {
            disk.empty_again();
            assert_eq!(trees::describe(&daemon.sprite.fs()), first);
            break;
        }
        failed += 1;
        let why = last["error"].as_str().unwrap_or_default();
        assert!(why.contains("No space left on device"), "{pages}: {last}");
        disk.empty_again();
        assert_eq!(trees::describe(&daemon.sprite.fs()), before, "{pages}");
        assert_whole(&daemon);
    }
    assert!(failed > 10, "it failed {failed} times only");
    assert_eq!(daemon.client().restore("v0")["type"], "complete");
}
