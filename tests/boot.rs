//! Components are ready before the main process starts.

use crate::support::{Sprite, Value, json};

/// A component that writes what it does into `log`, and runs until it is told to go.
fn component(name: &str, before_ready: &str) -> Value {
    let start = format!(
        "echo {name} started >>log; trap 'echo {name} stopped >>log; exit 0' TERM; \
         {before_ready}; echo ready now; while :; do sleep 1 & wait $!; done"
    );
    json!({
        "start_command": ["sh", "-c", start],
        "ready_command": ["sh", "-c", format!("grep -q 'ready now' && echo {name} ready >>log")],
    })
}

fn log(sprite: &Sprite) -> Vec<String> {
    let log = std::fs::read_to_string(sprite.path("log")).unwrap();
    log.lines().map(str::to_owned).collect()
}

fn position(log: &[String], line: &str) -> usize {
    let found = log.iter().position(|l| l == line);
    found.unwrap_or_else(|| panic!("no line {line:?} in {log:?}"))
}

#[test]
fn components_start_by_need_and_stop_in_reverse() {
    let mut front = component("front", ":");
    front["needs"] = json!(["middle"]);
    let mut middle = component("middle", "sleep 0.05");
    middle["needs"] = json!(["back"]);
    let config = json!({"components": {
        "back": component("back", "sleep 0.05"),
        "front": front,
        "middle": middle,
        "alone": component("alone", ":"),
    }});
    let main = "echo main started >>log; trap 'echo main stopped >>log; exit 0' TERM; \
                while :; do sleep 1 & wait $!; done";
    let mut daemon = Sprite::new().config(&config).script(main).start();
    daemon.wait_running();
    // Running means started; the trap is set a moment later.
    crate::support::wait_for_file(&daemon.sprite.path("log"));
    while position_or_none(&log(&daemon.sprite), "main started").is_none() {
        std::thread::yield_now();
    }
    daemon.stop(0);
    let log = log(&daemon.sprite);
    let order = [
        "back started",
        "back ready",
        "middle started",
        "middle ready",
        "front started",
        "front ready",
        "main started",
        "main stopped",
        "front stopped",
        "middle stopped",
        "back stopped",
    ];
    for pair in order.windows(2) {
        assert!(
            position(&log, pair[0]) < position(&log, pair[1]),
            "{pair:?} in {log:?}"
        );
    }
    assert!(position(&log, "alone ready") < position(&log, "main started"));
    assert!(position(&log, "main stopped") < position(&log, "alone stopped"));
}

fn position_or_none(log: &[String], line: &str) -> Option<usize> {
    log.iter().position(|l| l == line)
}

#[test]
fn output_goes_to_ours_with_the_components_name() {
    let config = json!({"components": {"talker": {
        "start_command": ["sh", "-c", "echo to stdout; echo to stderr >&2; exec sleep 1000"],
        "ready_command": ["sh", "-c", "read line && read line"],
    }}});
    let (code, _) = Sprite::new().config(&config).script("exit 0").run();
    assert_eq!(code, 0);
    let mut daemon = Sprite::new()
        .config(&config)
        .script("printf 'raw\\nno end'")
        .start();
    assert_eq!(daemon.wait(), 0);
    assert!(
        daemon
            .output
            .of("out")
            .contains(&"[talker] to stdout".to_owned())
    );
    assert!(
        daemon
            .output
            .of("err")
            .contains(&"[talker] to stderr".to_owned())
    );
    // The main process's bytes are its own.
    let out = daemon.output.of("out");
    assert!(out.contains(&"raw".to_owned()) && out.iter().any(|l| l.starts_with("no end")));
    let mut daemon = Sprite::new()
        .config(&config)
        .arg("-log-json")
        .script("exit 0")
        .start();
    assert_eq!(daemon.wait(), 0);
    let line = daemon.wait_for("\"to stdout\"");
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["component"], "talker");
    assert_eq!(line["stream"], "stdout");
}

#[test]
fn a_component_that_never_gets_ready_ends_it_all_with_70() {
    let config = json!({"components": {"slow": {
        "start_command": ["sleep", "1000"],
        "ready_command": ["false"],
        "ready_timeout": "300ms",
    }}});
    let (code, text) = Sprite::new().config(&config).script("echo MAIN RAN").run();
    assert_eq!(code, 70, "{text}");
    assert!(!text.contains("MAIN RAN"), "{text}");
}

#[test]
fn a_ready_command_is_run_again_until_it_succeeds() {
    let config = json!({"components": {"third-time": {
        "start_command": ["sleep", "1000"],
        "ready_command": ["sh", "-c", "echo x >>tries; [ $(wc -l <tries) -ge 3 ]"],
    }}});
    let sprite = Sprite::new().config(&config).script("wc -l <tries");
    let mut daemon = sprite.start();
    assert_eq!(daemon.wait(), 0);
    assert!(
        daemon.output.of("out").contains(&"3".to_owned()),
        "{}",
        daemon.output.text()
    );
}

#[test]
fn a_command_that_does_not_exist_says_so() {
    let config = json!({"components": {"lost": {"start_command": ["/no/such/program"]}}});
    let (code, text) = Sprite::new().config(&config).script("exit 0").run();
    assert_eq!(code, 70);
    assert!(
        text.contains("lost: cannot run \"/no/such/program\""),
        "{text}"
    );
    let config = json!({"components": {"unready": {
        "start_command": ["sleep", "1000"], "ready_command": ["/no/such/check"],
        "ready_timeout": "0",
    }}});
    let (code, text) = Sprite::new().config(&config).script("exit 0").run();
    assert_eq!(code, 70, "{text}");
    assert!(text.contains("cannot run \"/no/such/check\""), "{text}");
}

fn dying(on_failure: &str, before_ready: bool) -> Value {
    // The first time it dies, later it stays; `died` tells which time it is.
    let start = if before_ready {
        "[ -e died ] || { touch died; exit 3; }; echo up; exec sleep 1000"
    } else {
        "echo up; [ -e died ] || { until [ -e ready ]; do sleep 0.01; done; touch died; exit 3; }; \
         exec sleep 1000"
    };
    json!({"components": {"c": {
        "start_command": ["sh", "-c", start],
        "ready_command": ["sh", "-c", "read up && touch ready"],
        "on_failure": on_failure,
        "backoff": {"min": "10ms"},
    }}})
}

const MAIN: &str = "trap 'exit 7' TERM; touch main; while :; do sleep 1 & wait $!; done";

#[test]
fn dying_before_ready_with_shutdown() {
    let (code, text) = Sprite::new()
        .config(&dying("shutdown", true))
        .script(MAIN)
        .run();
    assert_eq!(code, 70, "{text}");
    assert!(text.contains("c ended: exit code 3"));
}

#[test]
fn dying_after_ready_with_shutdown() {
    let (code, text) = Sprite::new()
        .config(&dying("shutdown", false))
        .script(MAIN)
        .run();
    assert_eq!(code, 70, "{text}");
}

#[test]
fn dying_before_ready_with_restart() {
    let mut daemon = Sprite::new()
        .config(&dying("restart", true))
        .script(MAIN)
        .api()
        .start();
    daemon.wait_running();
    let status = daemon.client().status();
    assert_eq!(status["components"]["c"]["restarts"], 1);
    crate::support::wait_for_file_to_exist(&daemon.sprite.path("main"));
    daemon.stop(7);
}

#[test]
fn dying_after_ready_with_restart_leaves_the_process_running() {
    let mut daemon = Sprite::new()
        .config(&dying("restart", false))
        .script(MAIN)
        .api()
        .start();
    daemon.wait_for("c ended: exit code 3");
    let client = daemon.client();
    // It comes back, and the main process was not touched.
    while client.status()["state"] != "Online > Serving > Running" {
        std::thread::yield_now();
    }
    assert_eq!(client.status()["components"]["c"]["restarts"], 1);
    crate::support::wait_for_file_to_exist(&daemon.sprite.path("main"));
    daemon.stop(7);
}

#[test]
fn dying_with_ignore_lets_the_rest_go_on() {
    for before_ready in [true, false] {
        let sprite = Sprite::new()
            .config(&dying("ignore", before_ready))
            .script(MAIN)
            .api();
        let mut daemon = sprite.start();
        daemon.wait_for("c ended: exit code 3");
        daemon.wait_for("the system is Online > Serving > Degraded");
        let status = daemon.client().status();
        assert_eq!(status["components"]["c"]["state"], "Failed");
        crate::support::wait_for_file_to_exist(&daemon.sprite.path("main"));
        daemon.stop(7);
    }
}

#[test]
fn restarts_that_are_used_up_end_it_all() {
    let config = json!({"components": {"c": {
        "start_command": ["sh", "-c", "echo x >>starts; exit 1"],
        "ready_command": ["false"],
        "on_failure": "restart",
        "backoff": {"min": "1ms", "max_restarts": 3},
    }}});
    let sprite = Sprite::new().config(&config).script("exit 0");
    let mut daemon = sprite.start();
    assert_eq!(daemon.wait(), 70);
    let starts = std::fs::read_to_string(daemon.sprite.path("starts")).unwrap();
    assert_eq!(starts.lines().count(), 4);
}

#[test]
fn a_stop_while_components_start_ends_in_order() {
    let config = json!({"components": {"slow": {
        "start_command": ["sleep", "1000"], "ready_command": ["sleep", "1000"],
    }}});
    let mut daemon = Sprite::new().config(&config).script("exit 0").start();
    daemon.wait_for("StartingComponents");
    daemon.stop(0);
}
