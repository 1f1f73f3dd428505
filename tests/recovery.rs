//! Crash anywhere: the next start recovers.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use crate::support::{Daemon, Sprite, json};

fn start(sprite: Sprite) -> Daemon {
    let daemon = sprite.command(&["sleep", "1000"]).storage().api().start();
    daemon.wait_running();
    daemon
}

/// Kills the daemon and everything below it at once, as a crash of the machine would.
fn crash(mut daemon: Daemon) -> Sprite {
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", daemon.pid()));
    daemon.signal(libc::SIGKILL);
    assert_eq!(daemon.wait_without_output(), 137);
    for child in children.unwrap().split_ascii_whitespace() {
        crate::support::signal_process(child.parse().unwrap(), libc::SIGKILL);
    }
    daemon.into_sprite()
}

#[test]
fn a_crash_in_a_restore_before_the_swap_leaves_everything_as_it_was() {
    let config = json!({"components": {"db": {
        "start_command": ["sleep", "1000"],
        // The first is v0; the second is the automatic one of the restore.
        "checkpoint_command": ["sh", "-c", "case $CHECKPOINT_ID in auto-*) touch begun; exec sleep 1000; esac"],
    }}});
    let daemon = start(Sprite::new().config(&config));
    let client = daemon.client();
    fs::write(daemon.sprite.fs().join("file"), "one").unwrap();
    client.checkpoint();
    fs::write(daemon.sprite.fs().join("file"), "two").unwrap();
    std::thread::spawn(move || client.attempt_restore("v0"));
    crate::support::wait_for_file_to_exist(&daemon.sprite.path("begun"));
    let daemon = start(crash(daemon));
    assert_eq!(
        fs::read_to_string(daemon.sprite.fs().join("file")).unwrap(),
        "two"
    );
    assert!(!daemon.sprite.path("data/checkpoints/work").exists());
}

#[test]
fn a_crash_in_a_restore_after_the_swap_is_finished_by_the_next_start() {
    let config = json!({"components": {"db": {
        "start_command": ["sleep", "1000"],
        "restore_command": ["sh", "-c", "echo $CHECKPOINT_ID >>restores; [ -e go ] || { touch begun; exec sleep 1000; }"],
    }}});
    let daemon = start(Sprite::new().config(&config));
    let client = daemon.client();
    fs::write(daemon.sprite.fs().join("file"), "one").unwrap();
    client.checkpoint();
    fs::write(daemon.sprite.fs().join("file"), "two").unwrap();
    std::thread::spawn(move || client.attempt_restore("v0"));
    crate::support::wait_for_file_to_exist(&daemon.sprite.path("begun"));
    let sprite = crash(daemon);
    fs::write(sprite.path("go"), "").unwrap();
    let daemon = start(sprite);
    daemon.wait_for("a restore was cut off");
    assert_eq!(
        fs::read_to_string(daemon.sprite.fs().join("file")).unwrap(),
        "one"
    );
    assert_eq!(
        fs::read_to_string(daemon.sprite.path("restores")).unwrap(),
        "v0\nv0\n"
    );
    // What was replaced is kept as if nothing had happened.
    let all = daemon.client().get("/checkpoints?includeAuto=true").json();
    let auto = all
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["is_auto"] == true)
        .unwrap();
    let id = auto["id"].as_str().unwrap();
    assert_eq!(daemon.client().restore(id)["type"], "complete");
    assert_eq!(
        fs::read_to_string(daemon.sprite.fs().join("file")).unwrap(),
        "two"
    );
}

#[test]
fn a_crash_in_a_roll_back_is_finished_by_the_next_start() {
    let config = json!({"components": {"db": {
        "start_command": ["sleep", "1000"],
        "restore_command": ["sh", "-c", "case $CHECKPOINT_ID in v*) exit 1;; esac; \
            [ -e go ] || { touch begun; exec sleep 1000; }"],
    }}});
    let daemon = start(Sprite::new().config(&config));
    let client = daemon.client();
    fs::write(daemon.sprite.fs().join("file"), "one").unwrap();
    client.checkpoint();
    fs::write(daemon.sprite.fs().join("file"), "two").unwrap();
    std::thread::spawn(move || client.attempt_restore("v0"));
    crate::support::wait_for_file_to_exist(&daemon.sprite.path("begun"));
    let sprite = crash(daemon);
    fs::write(sprite.path("go"), "").unwrap();
    let daemon = start(sprite);
    assert_eq!(
        fs::read_to_string(daemon.sprite.fs().join("file")).unwrap(),
        "two"
    );
    assert_eq!(daemon.client().checkpoint(), "v1");
}

#[test]
fn a_crash_at_any_moment_loses_no_checkpoint() {
    let mut sprite = Sprite::new();
    let mut sealed = Vec::new();
    for round in 0..10 {
        let daemon = start(sprite);
        fs::write(daemon.sprite.fs().join("round"), round.to_string()).unwrap();
        let client = daemon.client();
        sealed.push((client.checkpoint(), round));
        std::thread::spawn(move || client.attempt_checkpoint());
        // Somewhere in the next one: sooner or later in each round.
        std::thread::sleep(std::time::Duration::from_micros(700 * round));
        sprite = crash(daemon);
    }
    let daemon = start(sprite);
    let client = daemon.client();
    for (id, round) in &sealed {
        assert_eq!(client.restore(id)["type"], "complete");
        let text = fs::read_to_string(daemon.sprite.fs().join("round")).unwrap();
        assert_eq!(text, round.to_string());
    }
    let ids = client.get("/checkpoints").json();
    let mut ids: Vec<_> = ids
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["id"].to_string())
        .collect();
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all, "no id twice");
}

#[test]
fn a_damaged_checkpoint_hides_no_other() {
    let mut daemon = start(Sprite::new());
    let client = daemon.client();
    client.checkpoint();
    client.checkpoint();
    let manifest = daemon.sprite.path("data/checkpoints/v0/manifest.json");
    fs::write(&manifest, "{half").unwrap();
    assert_eq!(client.get("/checkpoints").json()[0]["id"], "v1");
    client
        .get("/checkpoints/v0")
        .assert_problem(500, "v0/manifest.json: damaged");
    client
        .post("/checkpoints/v0/restore", &json!({}))
        .assert_problem(500, "damaged");
    fs::write(
        &manifest,
        r#"{"format": 99, "id": "v0", "create_time": ""}"#,
    )
    .unwrap();
    client
        .get("/checkpoints/v0")
        .assert_problem(500, "newer than this program's");
    assert_eq!(client.restore("v1")["type"], "complete");
    // A tree that lost a file is noticed before anything is stopped.
    fs::write(daemon.sprite.fs().join("file"), "x").unwrap();
    let id = client.checkpoint();
    fs::remove_file(
        daemon
            .sprite
            .path(&format!("data/checkpoints/{id}/tree/file")),
    )
    .unwrap();
    let pid = client.status()["process"]["pid"].clone();
    let error = client.restore(&id)["error"].to_string();
    assert!(error.contains("its manifest says"), "{error}");
    assert_eq!(client.status()["process"]["pid"], pid);
    daemon.stop(143);
}

#[test]
fn directories_that_cannot_be_used_are_refused_before_anything_starts() {
    let refused = |config: crate::support::Value, needle: &str| {
        let sprite = Sprite::new().script("echo MAIN RAN");
        fs::create_dir(sprite.path("dir")).unwrap();
        fs::write(sprite.path("file"), "").unwrap();
        let (code, text) = sprite.config(&config).run();
        assert_eq!(code, 78, "{text}");
        assert!(
            text.contains(needle) && !text.contains("MAIN RAN"),
            "{needle}: {text}"
        );
    };
    let dirs = |storage: &str, checkpoints: &str| json!({"storage": {"dir": storage}, "checkpoint": {"dir": checkpoints}});
    refused(dirs("missing", "store"), "cannot use as storage.dir");
    refused(dirs("file", "store"), "is not a directory");
    refused(dirs("dir", "dir/store"), "must not be inside one another");
    refused(
        json!({"storage": {"dir": "dir"}}),
        "checkpoint.dir: missing",
    );
    refused(
        json!({"checkpoint": {"dir": "dir"}}),
        "storage.dir: missing",
    );
    let elsewhere = fs::metadata("/dev/shm").map(|m| m.dev()).ok();
    if elsewhere.is_some_and(|dev| dev != fs::metadata("/tmp").unwrap().dev()) {
        let store = format!("/dev/shm/sprite-env-test-{}", std::process::id());
        refused(dirs("dir", &store), "must be on the same filesystem");
        let _ = fs::remove_dir(store);
    } else {
        crate::support::skipped("there is no second filesystem to try");
    }
}
