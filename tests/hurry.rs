//! A second signal means that there is no time: what was not told to go yet is killed,
//! and a checkpoint in the middle of its instant is let go of.

use std::process::Command;

use crate::support::{Sprite, json};

/// Sends SIGTERM and SIGINT right after one another.
fn signal_twice(pid: i32) {
    let script = format!("kill -TERM {pid}; kill -INT {pid}");
    assert!(
        Command::new("sh")
            .args(["-c", &script])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn it_kills_components_that_were_not_told_to_go_yet() {
    let stubborn = "trap '' TERM; echo up; while :; do sleep 0.1; done";
    let config = json!({"components": {
        "base": {"start_command": ["sh", "-c", stubborn], "ready_command": ["grep", "-q", "up"]},
        "dies": {
            "start_command": ["sh", "-c", "until [ -e die ]; do sleep 0.01; done; exit 1"],
            "on_failure": "restart", "backoff": {"min": "300s", "max": "300s"},
        },
        "top": {
            "start_command": ["sh", "-c", stubborn], "ready_command": ["grep", "-q", "up"],
            "needs": ["base", "dies"], "stop_timeout": "300s",
        },
    }});
    let mut daemon = Sprite::new()
        .config(&config)
        .command(&["sleep", "1000"])
        .start();
    daemon.wait_running();
    std::fs::write(daemon.sprite.path("die"), "").unwrap();
    daemon.wait_for("dies ended: exit code 1");
    daemon.terminate();
    daemon.wait_for("the system is Stopping > StoppingComponents");
    daemon.terminate();
    assert_eq!(daemon.wait(), 143);
}

/// Takes checkpoints of a file that is written all the time, which makes the pause and
/// the sealing long, until one is seen in `phase` for long enough: does `then`, and expects
/// `code`.
fn in_phase(phase: &str, code: i32, then: fn(i32)) {
    let script = "while :; do head -c 100000000 /dev/urandom >data/fs/file; done";
    let config = json!({"checkpoint": {"freeze_timeout": "60s"}});
    let mut missed = None;
    'tries: for _ in 0..20 {
        let sprite = Sprite::new().config(&config).script(script);
        let mut daemon = sprite.storage().api().start();
        daemon.wait_running();
        let client = daemon.client();
        let taker = daemon.client();
        let checkpoint = std::thread::spawn(move || taker.attempt_checkpoint());
        while !checkpoint.is_finished() {
            let operation = client.status()["operation"].as_str().unwrap().to_owned();
            if operation.contains(phase) {
                then(daemon.pid());
                if daemon.wait() == code {
                    return;
                }
                // As a rule it was over before the last signal came.
                missed = Some(daemon.output.text());
                continue 'tries;
            }
        }
        daemon.stop(143);
    }
    if let Some(text) = missed {
        panic!("never ended with {code}:\n{text}");
    }
    crate::support::skipped(&format!(
        "no checkpoint was ever seen in {phase}: the disk is too fast"
    ));
}

#[test]
fn a_stop_lets_go_of_a_checkpoint_in_its_pause() {
    in_phase("Pausing", 143, |pid| {
        crate::support::signal_process(pid, libc::SIGTERM);
    });
}

#[test]
fn it_kills_the_process_while_a_checkpoint_is_sealed() {
    in_phase("Sealing", 137, signal_twice);
}
