//! The newest checkpoints can be looked at as directories.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Daemon, Sprite, is_root, json, skipped, trees};

fn can_mount() -> bool {
    if !is_root() {
        skipped("only root can mount something");
        return false;
    }
    if !Path::new("/dev/fuse").exists() {
        skipped("there is no /dev/fuse here");
        return false;
    }
    true
}

fn sprite() -> Sprite {
    let sprite = Sprite::new().storage();
    let config = json!({"checkpoint": {"mount": sprite.path("mnt")}});
    sprite.config(&config)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// What a tree looks like, but for holes.
fn looks(root: &Path) -> BTreeMap<PathBuf, String> {
    let looks = trees::describe(root).into_iter();
    looks
        .map(|(path, text)| (path, text.replace("sparse true", "sparse false")))
        .collect()
}

fn is_mounted(daemon: &Daemon) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.contains(daemon.sprite.path("mnt").to_str().unwrap())
}

#[test]
fn checkpoints_are_directories_that_can_be_read() {
    if !can_mount() {
        return;
    }
    let mut daemon = sprite().idle();
    let mnt = daemon.sprite.path("mnt");
    assert_eq!(names(&mnt), [""; 0]);
    trees::make(&daemon.sprite.fs(), true);
    fs::create_dir(daemon.sprite.fs().join("many")).unwrap();
    for number in 0..1000 {
        fs::write(daemon.sprite.fs().join(format!("many/{number}")), "x").unwrap();
    }
    let first = looks(&daemon.sprite.fs());
    let client = daemon.client();
    client.checkpoint();
    assert_eq!(looks(&mnt.join("v0")), first);
    fs::write(daemon.sprite.fs().join("plain"), "changed").unwrap();
    let second = looks(&daemon.sprite.fs());
    client.checkpoint();
    assert_eq!(looks(&mnt.join("v1")), second);
    assert_eq!(looks(&mnt.join("v0")), first);
    assert_eq!(fs::read_link(mnt.join("active")).unwrap(), Path::new("v1"));
    let compared = Command::new("cmp")
        .args([
            mnt.join("v0/deep/er/still/file"),
            daemon.sprite.fs().join("deep/er/still/file"),
        ])
        .status();
    assert!(compared.unwrap().success());
    // Nobody changes them, and rights count.
    let refused = fs::write(mnt.join("v0/plain"), "x").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    fs::set_permissions(daemon.sprite.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let other = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "ls"])
        .arg(mnt.join("v0/empty-dir"))
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&other.stderr);
    assert!(complaint.contains("Permission denied"), "{complaint}");
    // The newest five.
    for _ in 0..4 {
        client.checkpoint();
    }
    assert_eq!(client.request("DELETE", "/checkpoints/v4", b"").status, 204);
    assert_eq!(names(&mnt), ["active", "v0", "v1", "v2", "v3", "v5"]);
    assert_eq!(client.checkpoint(), "v6");
    assert_eq!(names(&mnt), ["active", "v1", "v2", "v3", "v5", "v6"]);
    daemon.stop(143);
    assert!(!is_mounted(&daemon));
}

#[test]
fn what_is_read_while_a_checkpoint_is_taken_is_in_nobodys_way() {
    if !can_mount() {
        return;
    }
    let script = "while :; do cat mnt/v0/file >/dev/null 2>&1 || :; done";
    let daemon = sprite().script(script).api().start();
    daemon.wait_running();
    fs::write(daemon.sprite.fs().join("file"), vec![7; 3_000_000]).unwrap();
    for _ in 0..10 {
        daemon.client().checkpoint();
    }
    assert_eq!(daemon.client().restore("v0")["type"], "complete");
}

#[test]
fn what_a_killed_daemon_left_is_mounted_again() {
    if !can_mount() {
        return;
    }
    let daemon = sprite().idle();
    fs::write(daemon.sprite.fs().join("file"), "one").unwrap();
    daemon.client().checkpoint();
    let sprite = daemon.crash();
    assert!(fs::read_dir(sprite.path("mnt")).is_err());
    let mut daemon = sprite.idle();
    let there = fs::read_to_string(daemon.sprite.path("mnt/v0/file"));
    assert_eq!(there.unwrap(), "one");
    daemon.stop(143);
}

#[test]
fn where_nothing_can_be_mounted_the_rest_works() {
    let sprite = Sprite::new().storage();
    fs::write(sprite.path("file"), "").unwrap();
    let config = json!({"checkpoint": {"mount": sprite.path("file/below")}});
    let daemon = sprite.config(&config).idle();
    daemon.wait_for("the checkpoints are not mounted");
    daemon.client().checkpoint();
}
