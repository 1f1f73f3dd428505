//! What happens when two things happen at once: each arrow of the diagrams that the
//! other tests do not take.

use std::fs;

use crate::support::{Daemon, Sprite, Value, json, store, wait_for_file_to_exist};

/// A component whose commands wait until `go-checkpoint` or `go-restore` is there.
fn slow_hooks(checkpoint: &str, restore: &str) -> Value {
    let wait = |what: &str, then: &str| {
        format!("touch {what}-begun; until [ -e go-{what} ]; do sleep 0.01; done; {then}")
    };
    json!({
        "start_command": ["sh", "-c", "echo $$ >db-pid; exec sleep 1000"],
        "checkpoint_command": ["sh", "-c", wait("checkpoint", checkpoint)],
        "restore_command": ["sh", "-c", wait("restore", restore)],
    })
}

const MAIN: &str = "echo $$ >main-pid; until [ -e end ]; do sleep 0.01; done; exit $(cat end)";

fn start(sprite: Sprite) -> Daemon {
    let daemon = sprite.storage().api().start();
    daemon.wait_for("the system is Online > Serving");
    daemon
}

fn touch(daemon: &Daemon, name: &str) {
    fs::write(daemon.sprite.path(name), "").unwrap();
}

/// Lets the component's commands go on, now and later.
fn go(daemon: &Daemon) {
    touch(daemon, "go-checkpoint");
    touch(daemon, "go-restore");
}

/// Writes the exit code that the main process is to end with.
fn end_with(daemon: &Daemon, code: i32) {
    fs::write(daemon.sprite.path("end.new"), code.to_string()).unwrap();
    fs::rename(daemon.sprite.path("end.new"), daemon.sprite.path("end")).unwrap();
}

fn kill_db(daemon: &Daemon) {
    let pid = crate::support::wait_for_file(&daemon.sprite.path("db-pid"));
    crate::support::signal_process(pid.trim().parse().unwrap(), libc::SIGKILL);
}

fn begin_checkpoint(daemon: &Daemon) {
    let client = daemon.client();
    std::thread::spawn(move || client.attempt_checkpoint());
    wait_for_file_to_exist(&daemon.sprite.path("checkpoint-begun"));
}

fn with(component: &Value, more: &Value) -> Value {
    crate::support::objects::with(json!({"components": {"db": component}}), more)
}

#[test]
fn the_process_ends_during_a_checkpoint() {
    for code in [0, 5] {
        let config = with(&slow_hooks(":", ":"), &json!({}));
        let mut daemon = start(Sprite::new().config(&config).script(MAIN));
        begin_checkpoint(&daemon);
        end_with(&daemon, code);
        daemon.wait_for("the system is Stopping > StoppingOperation");
        go(&daemon);
        assert_eq!(daemon.wait(), code);
        assert!(store::checkpoints(&daemon.sprite).is_empty());
    }
}

#[test]
fn the_process_uses_up_its_restarts_during_a_checkpoint() {
    let more = json!({"process_restart_max_retries": 1, "process_restart_backoff_max": "1ms"});
    let config = with(&slow_hooks(":", ":"), &more);
    let mut daemon = start(Sprite::new().config(&config).script(MAIN));
    begin_checkpoint(&daemon);
    end_with(&daemon, 5);
    daemon.wait_for("the system is Stopping > StoppingOperation");
    go(&daemon);
    assert_eq!(daemon.wait(), 5);
}

#[test]
fn the_process_fails_during_a_checkpoint_and_the_system_is_kept_alive() {
    for then in [":", "exit 1"] {
        let config = with(&slow_hooks(then, ":"), &json!({}));
        let sprite = Sprite::new().config(&config).script(MAIN);
        let mut daemon = start(sprite.env("SPRITE_KEEP_ALIVE_ON_ERROR", "true"));
        begin_checkpoint(&daemon);
        end_with(&daemon, 5);
        daemon.wait_for("main process ended: exit code 5");
        go(&daemon);
        daemon.wait_for("the system is Online > Parked");
        let made = daemon.client().get("/checkpoints").json();
        assert_eq!(made.as_array().unwrap().len(), usize::from(then == ":"));
        daemon.stop(5);
    }
}

#[test]
fn a_component_fails_during_a_checkpoint() {
    let config = with(&slow_hooks(":", ":"), &json!({}));
    let mut daemon = start(Sprite::new().config(&config).script(MAIN));
    begin_checkpoint(&daemon);
    kill_db(&daemon);
    daemon.wait_for("the system is Stopping > StoppingOperation");
    go(&daemon);
    assert_eq!(daemon.wait(), 70);
}

#[test]
fn a_checkpoint_while_degraded() {
    for then in [":", "exit 1"] {
        let mut db = slow_hooks(then, ":");
        db["on_failure"] = json!("ignore");
        let config = with(
            &db,
            &json!({"process_restart_max_retries": 1, "process_restart_backoff_max": "1ms"}),
        );
        let mut daemon = start(Sprite::new().config(&config).script(MAIN));
        kill_db(&daemon);
        daemon.wait_for("the system is Online > Serving > Degraded");
        begin_checkpoint(&daemon);
        go(&daemon);
        daemon.wait_for_times("the system is Online > Serving > Degraded", 2);
        // And it ends from there as from anywhere.
        end_with(&daemon, 6);
        assert_eq!(daemon.wait(), 6);
    }
}

#[test]
fn restores_bring_back_what_was_lost_or_parked() {
    let mut db = slow_hooks(":", ":");
    db["on_failure"] = json!("ignore");
    let sprite = Sprite::new().config(&with(&db, &json!({}))).script(MAIN);
    let mut daemon = start(sprite.env("SPRITE_KEEP_ALIVE_ON_ERROR", "true"));
    go(&daemon);
    let client = daemon.client();
    let id = client.checkpoint();
    kill_db(&daemon);
    daemon.wait_for("the system is Online > Serving > Degraded");
    assert_eq!(client.restore(&id)["type"], "complete");
    assert_eq!(client.status()["components"]["db"]["state"], "Up > Ready");
    // Without a component that is lost it is simply running, and without a process parked.
    end_with(&daemon, 5);
    daemon.wait_for("the system is Online > Parked");
    fs::remove_file(daemon.sprite.path("end")).unwrap();
    assert_eq!(client.restore(&id)["type"], "complete");
    assert_eq!(client.status()["state"], "Online > Serving > Running");
    end_with(&daemon, 0);
    assert_eq!(daemon.wait(), 0);
}

#[test]
fn a_roll_back_that_fails_parks_a_system_that_is_kept_alive() {
    let config = with(&slow_hooks(":", "exit 1"), &json!({}));
    let sprite = Sprite::new().config(&config).script(MAIN);
    let mut daemon = start(sprite.env("SPRITE_KEEP_ALIVE_ON_ERROR", "true"));
    go(&daemon);
    let client = daemon.client();
    let id = client.checkpoint();
    let error = client.restore(&id);
    assert_eq!(error["type"], "error");
    daemon.wait_for("the system is Online > Parked");
    assert_eq!(client.sh("echo alive").stdout, "alive\n");
    // It can be brought up again by hand.
    assert_eq!(client.post("/process/start", &json!({})).status, 200);
    daemon.wait_for_times("the system is Online > Serving > Running", 2);
    end_with(&daemon, 0);
    assert_eq!(daemon.wait(), 0);
}

#[test]
fn a_stop_during_a_restore() {
    // Before anything was stopped, it is given up; past the swap it is finished, or undone.
    for (held_at, then) in [
        ("checkpoint", ":"),
        ("restore", ":"),
        ("restore", "case $CHECKPOINT_ID in v*) exit 1;; esac"),
    ] {
        let config = with(&slow_hooks(":", then), &json!({}));
        let mut daemon = start(Sprite::new().config(&config).command(&["sleep", "1000"]));
        go(&daemon);
        let client = daemon.client();
        let id = client.checkpoint();
        fs::remove_file(daemon.sprite.path(&format!("go-{held_at}"))).unwrap();
        fs::remove_file(daemon.sprite.path("checkpoint-begun")).unwrap();
        std::thread::spawn(move || client.attempt_restore(&id));
        wait_for_file_to_exist(&daemon.sprite.path(&format!("{held_at}-begun")));
        daemon.terminate();
        daemon.wait_for("the system is Stopping");
        go(&daemon);
        assert_eq!(daemon.wait(), 143, "{}", daemon.output.text());
        assert!(!daemon.sprite.path("data/store/restore.json").exists());
    }
}

#[test]
fn a_stop_while_a_restore_drains() {
    let script = "trap '' TERM; echo up; while :; do sleep 0.1; done";
    let config = with(
        &slow_hooks(":", ":"),
        &json!({"process_graceful_shutdown_timeout": "1h"}),
    );
    let mut daemon = start(Sprite::new().config(&config).script(script));
    go(&daemon);
    daemon.wait_for("up");
    let client = daemon.client();
    let id = client.checkpoint();
    std::thread::spawn(move || client.attempt_restore(&id));
    daemon.wait_for("DrainingProcess");
    daemon.terminate();
    daemon.wait_for("the system is Stopping > StoppingProcess");
    daemon.terminate();
    assert_eq!(daemon.wait(), 137);
}

#[test]
fn a_pause_that_takes_too_long_is_given_up_and_everything_goes_on() {
    let config = json!({"checkpoint": {"freeze_timeout": "1ms"}});
    // A large file that is written all the time is read in the pause, and that takes longer.
    let script = "while :; do dd if=/dev/urandom of=data/fs/large bs=1M count=100 conv=notrunc; \
        done 2>/dev/null & \
        while :; do n=$((n+1)); echo $n >beat.new; mv beat.new beat; sleep 0.01; done";
    let sprite = Sprite::new().config(&config).script(script).storage();
    fs::create_dir_all(sprite.fs()).unwrap();
    fs::write(sprite.fs().join("large"), vec![1; 100 << 20]).unwrap();
    for n in 0..3_000 {
        fs::create_dir_all(sprite.fs().join(format!("d{n}"))).unwrap();
    }
    let mut daemon = start(sprite);
    let answer = daemon.client().post("/checkpoint", &json!({}));
    let last = answer.lines().pop().unwrap();
    assert!(
        last["error"].as_str().unwrap().contains("given up"),
        "{last}"
    );
    let beat = || fs::read_to_string(daemon.sprite.path("beat")).unwrap();
    let before = beat();
    while beat() == before {
        std::thread::yield_now();
    }
    assert_eq!(
        daemon.client().status()["state"],
        "Online > Serving > Running"
    );
    daemon.stop(143);
}

#[test]
fn a_restore_command_that_moves_the_directory_away_loses_nothing() {
    let restore = "case $CHECKPOINT_ID in v*) mv data/fs data/moved; mkdir data/fs;; esac";
    let config = with(&slow_hooks(":", restore), &json!({}));
    let mut daemon = start(Sprite::new().config(&config).script(MAIN));
    go(&daemon);
    fs::write(daemon.sprite.fs().join("file"), "one").unwrap();
    let client = daemon.client();
    let id = client.checkpoint();
    fs::write(daemon.sprite.fs().join("file"), "two").unwrap();
    let error = client.restore(&id);
    assert!(
        error["error"]
            .as_str()
            .unwrap()
            .contains("is not the restored tree"),
        "{error}"
    );
    // The old tree came back, and the stranger waits where it can be found no more.
    assert_eq!(
        fs::read_to_string(daemon.sprite.fs().join("file")).unwrap(),
        "two"
    );
    assert_eq!(
        fs::read_to_string(daemon.sprite.path("data/moved/file")).unwrap(),
        "one"
    );
    daemon.stop(143);
}

#[test]
fn a_command_that_cannot_be_run_uses_up_its_restarts() {
    let config = json!({"process_restart_max_retries": 1, "process_restart_backoff_max": "1ms"});
    let (code, _) = Sprite::new()
        .config(&config)
        .command(&["/no/such/program"])
        .run();
    assert_eq!(code, 127);
    let sprite = Sprite::new().config(&config).command(&["/no/such/program"]);
    let mut daemon = sprite.env("SPRITE_KEEP_ALIVE_ON_ERROR", "true").start();
    daemon.wait_for("the system is Online > Parked");
    daemon.stop(127);
}

#[test]
fn a_stop_while_things_wait_to_be_restarted() {
    let config = json!({
        "process_restart_max_retries": 1, "process_restart_backoff_max": "30s",
        "components": {
            "dies": {
                "start_command": ["sh", "-c", "until [ -e die ]; do sleep 0.01; done; exit 1"],
                "on_failure": "restart", "backoff": {"min": "30s"},
            },
            "stubborn": {
                "start_command": ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"],
                "ready_command": ["grep", "-q", "up"], "stop_timeout": "200ms",
            },
        },
    });
    let mut daemon = Sprite::new().config(&config).script(MAIN).start();
    daemon.wait_running();
    touch(&daemon, "die");
    daemon.wait_for("dies ended: exit code 1");
    end_with(&daemon, 5);
    daemon.wait_for("main process ended: exit code 5");
    daemon.stop(5);

    let config = json!({"components": {
        "never": {"start_command": ["sleep", "1000"], "ready_command": ["sleep", "1000"]},
        "waits": {"start_command": ["sleep", "1000"], "needs": ["never"]},
    }});
    let mut daemon = Sprite::new().config(&config).script(MAIN).start();
    daemon.wait_for("StartingComponents");
    daemon.stop(0);
}
