//! Bugs that other inits and supervisors had, as far as no other test is about the same.

use crate::support::{
    Sprite, is_alive, json, pid_namespaces, signal_process, wait_for_file, wait_for_file_to_exist,
};

/// Ends in the same instant as 200 processes that it has left behind.
const ALL_AT_ONCE: &str = "import os, time\n\
    reader, writer = os.pipe()\n\
    if os.fork() == 0:\n    \
        for _ in range(200):\n        \
            if os.fork() == 0:\n            \
                os.close(writer); os.read(reader, 1); os._exit(0)\n    \
        os._exit(0)\n\
    os.wait()\n\
    os.close(reader)\n\
    os._exit(23)\n";

#[test]
fn the_end_of_the_main_process_is_not_lost_among_others() {
    // SIGCHLD is one signal however many have ended (catatonit 4, dumb-init 44).
    for round in 0..10 {
        let sprite = Sprite::new().command(&["python3", "-c", ALL_AT_ONCE]);
        let sprite = match round % 2 {
            1 if pid_namespaces() => sprite.pid_1(),
            _ => sprite,
        };
        let (code, text) = sprite.run();
        assert_eq!(code, 23, "{text}");
    }
}

#[test]
fn a_pipe_that_a_grandchild_holds_does_not_hide_the_end_of_a_component() {
    // Pebble 46 and 149: the service was shown as running for as long as the pipe was open.
    let script = "[ -e second ] && exec sleep 1000; touch second; \
                  setsid sleep 1000 & echo $! >holder; sleep 1000";
    let config = json!({"cgroups": "off", "components": {"c": {
        "start_command": ["sh", "-c", script],
        "on_failure": "restart", "backoff": {"min": "0s"},
    }}});
    let daemon = Sprite::new().config(&config).idle();
    let holder = wait_for_file(&daemon.sprite.path("holder"));
    let client = daemon.client();
    let pid = client.get("/components/c").json()["pid"].clone();
    signal_process(pid.as_i64().unwrap().try_into().unwrap(), 9);
    client.wait_status(|status| status["components"]["c"]["starts"] == 2);
    assert!(
        is_alive(holder.trim().parse().unwrap()),
        "it holds the pipe"
    );
}

#[test]
fn a_pipe_that_a_grandchild_holds_does_not_hold_us() {
    let script = "setsid sh -c 'trap \"\" TERM; touch up; sleep 1000' & \
                  while [ ! -e up ]; do sleep 0.01; done; exit 5";
    let sprite = Sprite::new().arg("-graceful-shutdown-timeout=200ms");
    let (code, text) = sprite.script(script).run();
    assert_eq!(code, 5, "{text}");
}

#[test]
fn what_was_killed_can_be_started_again_in_the_same_place() {
    // s6-overlay 387: what the first run had left made the second fail.
    let sprite = Sprite::new().storage();
    let socket = format!("unix:{}", sprite.path("api.sock").display());
    let config = json!({"api_listen_addr": socket, "components": {"c": {
        "start_command": ["sh", "-c", "touch up; exec sleep 1000"],
        "ready_command": ["test", "-e", "up"],
    }}});
    let mut sprite = sprite.config(&config);
    for _ in 0..3 {
        let daemon = sprite.command(&["sleep", "1000"]).start();
        daemon.wait_running();
        wait_for_file_to_exist(&daemon.sprite.path("api.sock"));
        sprite = daemon.crash();
        std::fs::remove_file(sprite.path("up")).unwrap();
    }
}
