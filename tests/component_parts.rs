//! Components keep a part of a checkpoint of their own, and a restore that they cannot do is undone.

use std::fs;

use crate::support::{Daemon, Sprite, json, store};

/// One with a component that keeps a value outside the directory, now "one", and says what it does.
fn keeping_a_value(restore: &str) -> Daemon {
    let config = json!({"components": {"db": {
        "start_command": ["sleep", "1000"],
        "checkpoint_command": ["sh", "-c", "cp value $CHECKPOINT_DIR/; echo \"checkpoint $CHECKPOINT_ID\" >>calls"],
        "restore_command": ["sh", "-c", restore],
    }}});
    let sprite = Sprite::new().config(&config).storage();
    fs::write(sprite.path("value"), "one").unwrap();
    sprite.idle()
}

#[test]
fn components_save_and_restore_their_own_part() {
    let restore = "cp $CHECKPOINT_DIR/value .; echo \"restore $CHECKPOINT_ID\" >>calls";
    let daemon = keeping_a_value(restore);
    let client = daemon.client();
    client.checkpoint();
    fs::write(daemon.sprite.path("value"), "two").unwrap();
    assert_eq!(client.restore("v0")["type"], "complete");
    assert_eq!(
        fs::read_to_string(daemon.sprite.path("value")).unwrap(),
        "one"
    );
    let calls = fs::read_to_string(daemon.sprite.path("calls")).unwrap();
    let calls: Vec<_> = calls.lines().collect();
    assert_eq!(calls.len(), 3, "{calls:?}");
    assert_eq!(calls[0], "checkpoint v0");
    assert!(calls[1].starts_with("checkpoint auto-"));
    assert_eq!(calls[2], "restore v0");
}

#[test]
fn a_failing_restore_command_rolls_back() {
    let restore = "cp $CHECKPOINT_DIR/value .; case $CHECKPOINT_ID in auto-*) ;; *) echo broken >&2; exit 1;; esac";
    let daemon = keeping_a_value(restore);
    let client = daemon.client();
    fs::write(daemon.sprite.fs().join("file"), "one").unwrap();
    client.checkpoint();
    fs::write(daemon.sprite.fs().join("file"), "two").unwrap();
    fs::write(daemon.sprite.path("value"), "two").unwrap();
    let last = client.restore("v0");
    assert_eq!(last["type"], "error");
    let error = last["error"].as_str().unwrap();
    assert!(
        error.contains("put back as it was") && error.contains("broken"),
        "{error}"
    );
    assert_eq!(
        fs::read_to_string(daemon.sprite.fs().join("file")).unwrap(),
        "two"
    );
    assert_eq!(
        fs::read_to_string(daemon.sprite.path("value")).unwrap(),
        "two"
    );
    let status = client.status();
    assert_eq!(status["state"], "Online > Serving > Running");
    assert!(
        status["last_failure"]
            .as_str()
            .unwrap()
            .contains("restore_command of db failed")
    );
    // Nothing is left of it, and the next operation is as good as the first.
    assert_eq!(client.checkpoint(), "v1");
}

#[test]
fn a_roll_back_that_fails_too_ends_it_all_and_loses_nothing() {
    let mut daemon = keeping_a_value("exit 1");
    let client = daemon.client();
    client.checkpoint();
    fs::write(daemon.sprite.fs().join("file"), "new").unwrap();
    let answer = client.post("/checkpoints/v0/restore", &json!({}));
    assert_eq!(answer.status, 200);
    assert_eq!(daemon.wait(), 70);
    assert_eq!(
        fs::read_to_string(daemon.sprite.fs().join("file")).unwrap(),
        "new"
    );
    assert_eq!(store::checkpoints(&daemon.sprite)[0], "v0");
}

#[test]
fn a_failing_checkpoint_command_changes_nothing() {
    let config = json!({"components": {"db": {
        "start_command": ["sleep", "1000"],
        "checkpoint_command": ["sh", "-c", "echo disk on fire; exit 3"],
    }}});
    let daemon = Sprite::new().config(&config).storage().idle();
    let client = daemon.client();
    let last = client
        .post("/checkpoint", &json!({}))
        .lines()
        .pop()
        .unwrap();
    let error = last["error"].as_str().unwrap();
    assert!(
        error.contains("disk on fire") && error.contains("nothing was changed"),
        "{error}"
    );
    assert_eq!(client.get("/checkpoints").json(), json!([]));
    assert_eq!(client.status()["state"], "Online > Serving > Running");
}
