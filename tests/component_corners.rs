//! What is asked of components in states in which they seldom are.

use crate::support::objects::with;
use crate::support::{Daemon, Sprite, Value, json};

fn told(daemon: &Daemon, path: &str) {
    let answer = daemon.client().post(path, &json!({}));
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
}

fn one(component: &Value) -> Sprite {
    Sprite::new().config(&json!({"components": {"c": component}}))
}

/// It crashes as long as a file is there, and stays in its pause for ever.
const CRASHING: &str = "[ ! -e well ] && exit 1; exec sleep 1000";

#[test]
fn one_in_its_pause_is_started_at_once_or_left_down() {
    let backoff = json!({"start_command": ["sh", "-c", CRASHING],
                         "on_failure": "restart", "backoff": {"min": "900s", "max": "900s"}});
    let needy = json!({"start_command": ["sleep", "1000"], "needs": ["c"]});
    let config = json!({"components": {"c": backoff, "needy": needy}});
    let sprite = Sprite::new().config(&config);
    let well = sprite.path("well");
    std::fs::write(&well, "").unwrap();
    let mut daemon = sprite.idle();
    let crash = || {
        let _ = std::fs::remove_file(&well);
        let _ = daemon
            .client()
            .post("/components/c/signal", &json!({"signal": "KILL"}));
        daemon.client().wait_component("c", "Backoff");
    };
    crash();
    // What needs it waits once it is started anew, and may be told not to.
    told(&daemon, "/components/needy/restart");
    daemon.client().wait_component("needy", "Waiting");
    told(&daemon, "/components/needy/stop?wait=60s");
    std::fs::write(&well, "").unwrap();
    told(&daemon, "/components/c/restart?wait=60s");
    told(&daemon, "/components/needy/start?wait=60s");
    crash();
    told(&daemon, "/components/c/stop?wait=60s");
    std::fs::write(&well, "").unwrap();
    told(&daemon, "/components/c/restart?wait=60s");
    assert_eq!(
        daemon.client().status()["state"],
        "Online > Serving > Running"
    );
    daemon.stop(143);
}

#[test]
fn one_that_failed_for_good_is_started_again() {
    let component = json!({"start_command": ["sh", "-c", CRASHING], "on_failure": "ignore"});
    let daemon = one(&component).command(&["sleep", "1000"]).api().start();
    daemon.wait_for("the system is Online > Serving");
    daemon.client().wait_component("c", "Failed");
    std::fs::write(daemon.sprite.path("well"), "").unwrap();
    told(&daemon, "/components/c/restart?wait=60s");
    assert_eq!(
        daemon.client().status()["state"],
        "Online > Serving > Running"
    );
}

#[test]
fn what_was_done_once_is_done_once_more_or_forgotten() {
    let component = json!({"type": "oneshot", "start_command": ["sh", "-c", "echo x >>log"]});
    let daemon = one(&component).idle();
    told(&daemon, "/components/c/restart?wait=60s");
    let log = std::fs::read_to_string(daemon.sprite.path("log")).unwrap();
    assert_eq!(log, "x\nx\n");
    told(&daemon, "/components/c/stop?wait=60s");
    assert_eq!(
        daemon.client().status()["components"]["c"]["state"],
        "Stopped"
    );
}

#[test]
fn a_run_that_takes_too_long_is_ended_and_the_next_time_awaited() {
    let component = json!({"schedule": "@yearly", "start_command": ["sleep", "1000"],
                           "ready_timeout": "100ms"});
    let mut daemon = one(&component).idle();
    told(&daemon, "/components/c/restart");
    daemon.client().wait_component("c", "Working");
    let status = daemon.client().wait_component("c", "Scheduled");
    assert_eq!(status["starts"], 1);
    daemon.wait_for("c ended: signal 15");
    told(&daemon, "/components/c/stop?wait=60s");
    told(&daemon, "/components/c/start?wait=60s");
    daemon.stop(143);
}

#[test]
fn a_run_that_must_not_fail_ends_it_all() {
    let component = json!({"schedule": "* * * * * *", "start_command": ["false"],
                           "on_failure": "shutdown"});
    let (code, text) = one(&component).command(&["sleep", "1000"]).run();
    assert_eq!(code, 70, "{text}");
}

#[test]
fn what_waits_for_its_time_is_not_waited_for_in_a_hurry() {
    let stubborn = json!({"needs": ["c"], "stop_timeout": "900s",
        "start_command": ["sh", "-c", "trap '' TERM; touch up; while :; do sleep 0.02; done"],
        "ready": {"command": ["test", "-e", "up"]}});
    let config = json!({"components": {
        "c": {"schedule": "@yearly", "start_command": ["true"]}, "stubborn": stubborn,
    }});
    let mut daemon = Sprite::new().config(&config).idle();
    daemon.terminate();
    daemon.wait_for("StoppingComponents");
    daemon.terminate();
    assert_eq!(daemon.wait(), 143);
}

/// Up, and not ready any more.
fn unready(settings: &Value) -> Daemon {
    let component = json!({"start_command": ["sleep", "1000"],
        "readiness": {"command": ["test", "!", "-e", "ill"], "interval": "10ms", "threshold": 1}});
    let daemon = one(&with(component, settings)).idle();
    std::fs::write(daemon.sprite.path("ill"), "").unwrap();
    daemon.client().wait_component("c", "Unready");
    daemon
}

#[test]
fn one_that_is_unready_may_still_end_or_be_ended() {
    let kill = |daemon: &Daemon| {
        let killed = daemon
            .client()
            .post("/components/c/signal", &json!({"signal": 9}));
        assert_eq!(killed.status, 200, "{}", killed.text);
    };
    let mut daemon = unready(&json!({}));
    kill(&daemon);
    assert_eq!(daemon.wait(), 70);

    let restart = json!({"on_failure": "restart", "backoff": {"min": "1ms"}});
    let daemon = unready(&restart);
    kill(&daemon);
    daemon
        .client()
        .wait_status(|status| status["components"]["c"]["starts"] == 2);

    let liveness = json!({"command": ["test", "!", "-e", "dead"], "interval": "10ms"});
    let daemon = unready(&json!({"on_failure": "restart", "backoff": {"min": "1ms"},
                                 "liveness": liveness}));
    std::fs::write(daemon.sprite.path("dead"), "").unwrap();
    daemon.wait_for("its liveness check fails");
    daemon
        .client()
        .wait_status(|status| status["components"]["c"]["starts"].as_u64() >= Some(2));
}

#[test]
fn a_process_that_was_stopped_is_restarted() {
    let mut daemon = Sprite::new().idle();
    told(&daemon, "/process/stop?wait=60s");
    told(&daemon, "/process/restart?wait=60s");
    daemon.stop(143);
}

#[test]
fn components_are_controlled_while_the_main_process_is_down() {
    let mut daemon = one(&json!({"start_command": ["sleep", "1000"]})).idle();
    told(&daemon, "/process/stop?wait=60s");
    told(&daemon, "/components/c/restart?wait=60s");
    told(&daemon, "/components/c/stop?wait=60s");
    told(&daemon, "/components/c/start?wait=60s");
    assert_eq!(daemon.client().status()["components"]["c"]["starts"], 3);
    daemon.stop(143);
}

#[test]
fn one_that_is_never_well_uses_up_its_restarts() {
    let config = json!({"start_command": ["sleep", "1000"], "on_failure": "restart",
        "backoff": {"min": "1ms", "max_restarts": 2},
        "liveness": {"command": ["false"], "interval": "10ms", "threshold": 1}});
    let mut daemon = one(&config).command(&["sleep", "1000"]).start();
    assert_eq!(daemon.wait(), 70);
    daemon.wait_for_times("its liveness check fails", 3);
    let config = json!({"start_command": ["sleep", "1000"], "on_failure": "ignore",
        "liveness": {"command": ["false"], "interval": "10ms", "threshold": 1}});
    let daemon = one(&config).idle();
    daemon.client().wait_component("c", "Failed");
}

#[test]
fn one_that_does_not_go_is_killed() {
    let stubborn = json!({"stop_timeout": "50ms", "on_failure": "ignore",
        "start_command": ["sh", "-c", "trap '' TERM; touch up; while :; do sleep 0.02; done"],
        "ready": {"command": ["test", "-e", "up"]},
        "liveness": {"command": ["false"], "interval": "10ms", "threshold": 1}});
    let daemon = one(&stubborn).idle();
    daemon.client().wait_component("c", "Failed");
    daemon.wait_for("c ended: signal 9");
}

#[test]
fn one_that_is_going_is_wanted_back() {
    let slow = json!({"stop_timeout": "900s", "start_command": ["sh", "-c",
        "trap 'until [ -e go ]; do sleep 0.01; done; exit' TERM; touch up; \
         while :; do sleep 0.02; done"],
        "ready": {"command": ["test", "-e", "up"]}});
    let mut daemon = one(&slow).idle();
    told(&daemon, "/components/c/stop");
    daemon.client().wait_component("c", "Terminating");
    told(&daemon, "/components/c/start");
    told(&daemon, "/components/c/stop");
    told(&daemon, "/components/c/restart");
    std::fs::write(daemon.sprite.path("go"), "").unwrap();
    daemon.client().wait_status(|status| {
        let part = &status["components"]["c"];
        part["starts"] == 2 && part["state"] == "Up > Ready"
    });
    daemon.stop(143);
}

#[test]
fn restarts_are_used_up_wherever_it_ends() {
    let failing = |settings: Value| {
        let component = json!({"start_command": ["sh", "-c", "sleep 0.1; exit 1"],
            "on_failure": "restart", "backoff": {"min": "1ms", "max_restarts": 1}});
        let (code, text) = one(&with(component, &settings))
            .command(&["sleep", "1000"])
            .run();
        assert_eq!(code, 70, "{text}");
        assert_eq!(text.matches("c ended: exit code 1").count(), 2, "{text}");
    };
    failing(json!({}));
    failing(json!({"type": "oneshot"}));
    failing(json!({"readiness": {"command": ["false"], "interval": "1ms", "threshold": 1}}));
}
