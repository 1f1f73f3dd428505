//! `POST /exec`: a command's output whole and in order, its exit, its end.

use crate::support::{Daemon, PATIENCE, Sprite, is_alive, json};

fn daemon() -> Daemon {
    let daemon = Sprite::new().command(&["sleep", "1000"]).api().start();
    daemon.wait_running();
    daemon
}

#[test]
fn output_exit_code_and_streams() {
    let daemon = daemon();
    let client = daemon.client();
    let outcome = client.sh("echo out; echo err >&2; printf 'no newline'; exit 3");
    assert_eq!(outcome.code, 3);
    assert_eq!(outcome.stdout, "out\nno newline");
    assert_eq!(outcome.stderr, "err\n");
    let answer = client.post("/exec", &json!({"command": ["echo", "hi"]}));
    assert_eq!(answer.kind, "application/x-ndjson");
    for event in answer.lines() {
        let time = event["time"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.len() <= "2026-01-02T03:04:05.123456Z".len());
    }
    assert_eq!(client.sh("kill -9 $$").code, 137);
}

#[test]
fn environment_directory_and_input() {
    let daemon = daemon();
    let client = daemon.client();
    let body = json!({
        "command": ["sh", "-c", "echo $A-$B; pwd; cat"],
        "env": {"A": "1", "B": "two words"}, "dir": "/tmp", "stdin": "line\nlast",
    });
    assert_eq!(client.exec(&body).stdout, "1-two words\n/tmp\nline\nlast");
    let body = json!({"command": ["sh", "-c", "echo $A; cat"], "env": ["A=list"]});
    assert_eq!(client.exec(&body).stdout, "list\n");
    // A command that does not read its input is no problem.
    let body = json!({"command": ["true"], "stdin": "x".repeat(500_000)});
    assert_eq!(client.exec(&body).code, 0);
}

#[test]
fn what_is_not_text_comes_as_base64() {
    let daemon = daemon();
    let body = json!({"command": ["printf", "\\377\\376\\n"]});
    let events = daemon.client().post("/exec", &body).lines();
    assert_eq!(events[0]["data_b64"], "//4K");
    assert!(events[0].get("data").is_none());
}

#[test]
fn fifty_megabytes_arrive_whole_and_in_order() {
    let daemon = daemon();
    let lines = 6_700_000;
    let outcome = daemon.client().sh(&format!("seq {lines}"));
    assert!(outcome.stdout.len() > 50_000_000);
    assert!(
        outcome
            .stdout
            .lines()
            .map(str::parse)
            .eq((1..=lines).map(Ok))
    );
}

#[test]
fn fast_commands_lose_nothing_in_a_thousand_runs() {
    let daemon = daemon();
    let client = daemon.client();
    for run in 0..1_000 {
        let outcome = client.exec(&json!({"command": ["echo", format!("run {run}")]}));
        assert_eq!((outcome.code, outcome.stdout), (0, format!("run {run}\n")));
    }
}

#[test]
fn each_line_is_sent_when_it_is_there() {
    let daemon = daemon();
    let path = daemon.sprite.path("go-on");
    let script = format!(
        "echo first; printf part; until [ -e {} ]; do sleep 0.01; done; echo last",
        path.display()
    );
    let mut events = daemon
        .client()
        .exec_stream(&json!({"command": ["sh", "-c", script]}));
    assert_eq!(events.next().unwrap()["data"], "first\n");
    assert_eq!(events.next().unwrap()["data"], "part");
    std::fs::write(path, "").unwrap();
    assert_eq!(events.next().unwrap()["data"], "last\n");
    assert_eq!(events.next().unwrap()["exit_code"], 0);
    assert!(events.next().is_none());
}

#[test]
fn a_command_that_takes_too_long_is_killed_with_its_group() {
    let daemon = daemon();
    let client = daemon.client();
    for timeout in [json!("200ms"), json!(200_000_000)] {
        let script = "sh -c 'echo $$; exec sleep 1000' & wait";
        let body = json!({"command": ["sh", "-c", script], "timeout": timeout});
        let outcome = client.exec(&body);
        assert_eq!(outcome.code, 124);
        assert_eq!(
            outcome.errors,
            ["timed out after 200ms; the command was killed"]
        );
        gone(outcome.stdout.trim().parse().unwrap());
    }
}

#[test]
fn a_client_that_leaves_takes_its_command_with_it() {
    let daemon = daemon();
    let script = "sh -c 'echo $$; exec sleep 1000' & wait";
    let mut events = daemon
        .client()
        .exec_stream(&json!({"command": ["sh", "-c", script]}));
    let pid = events.next().unwrap()["data"]
        .as_str()
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(is_alive(pid));
    drop(events);
    gone(pid);
    // The place among the sessions is free again.
    while daemon.client().status()["sessions"] != 0 {
        std::thread::yield_now();
    }
}

fn gone(pid: i32) {
    let start = std::time::Instant::now();
    while is_alive(pid) {
        assert!(start.elapsed() < PATIENCE, "process {pid} lives on");
        std::thread::yield_now();
    }
}

#[test]
fn a_grandchild_that_keeps_the_output_open_does_not_hold_up_the_exit() {
    let daemon = daemon();
    let outcome = daemon.client().sh("echo done; sleep 1000 &");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (0, "done\n"));
}

#[test]
fn commands_that_cannot_be_run() {
    let daemon = daemon();
    let client = daemon.client();
    let missing = client.exec(&json!({"command": ["/no/such/program"]}));
    assert_eq!(missing.code, 127);
    assert!(missing.errors[0].contains("cannot run \"/no/such/program\""));
    let forbidden = client.exec(&json!({"command": ["/etc/passwd"]}));
    assert_eq!(forbidden.code, 126);
    let nowhere = client.exec(&json!({"command": ["true"], "dir": "/no/such/dir"}));
    assert!(nowhere.errors[0].contains("/no/such/dir"), "{nowhere:?}");
}

#[test]
fn a_wrapper_is_put_in_front() {
    for config in [
        json!({"exec": {"wrapper_command": ["env", "WRAPPED=yes"]}}),
        json!({"exec_wrapper_command": ["env", "WRAPPED=yes"]}),
    ] {
        let daemon = Sprite::new()
            .config(&config)
            .command(&["sleep", "1000"])
            .api()
            .start();
        daemon.wait_running();
        assert_eq!(daemon.client().sh("echo $WRAPPED").stdout, "yes\n");
    }
}

#[test]
fn bad_requests_say_what_was_expected() {
    let daemon = daemon();
    let client = daemon.client();
    for (body, needle) in [
        (json!({}), "missing field `command`"),
        (json!({"command": []}), "\"command\" is empty"),
        (json!({"command": [""]}), "\"command\" is empty"),
        (json!({"command": "ls"}), "expected a sequence"),
        (
            json!({"command": ["ls"], "timeout": "soon"}),
            "\"timeout\" is \"soon\"",
        ),
        (
            json!({"command": ["ls"], "timeout": -1}),
            "nanoseconds, or a duration",
        ),
        (json!({"command": ["ls"], "cmd": 1}), "unknown field `cmd`"),
        (json!({"command": ["l\0s"]}), "NUL"),
        (
            json!({"command": ["ls"], "env": {"A=B": "1"}}),
            "\"env\" has a name",
        ),
        (json!({"command": ["ls"], "env": ["A"]}), "NAME=VALUE"),
    ] {
        client.post("/exec", &body).assert_problem(400, needle);
    }
    client
        .request("POST", "/exec", b"{not json")
        .assert_problem(400, "the body is not such as");
    let large = json!({"command": ["x".repeat(2 << 20)]});
    client
        .post("/exec", &large)
        .assert_problem(413, "limits.request_body");
}

#[test]
fn secrets_do_not_reach_commands() {
    let sprite = Sprite::new().script("env >main-env; exec sleep 1000").api();
    let daemon = sprite
        .env("SPRITE_S3_SECRET_ACCESS_KEY", "s3-secret")
        .start();
    daemon.wait_running();
    let outcome = daemon.client().sh("env");
    let main = crate::support::wait_for_file(&daemon.sprite.path("main-env"));
    for environment in [outcome.stdout, main] {
        assert!(
            !environment.contains(crate::support::TOKEN),
            "{environment}"
        );
        assert!(!environment.contains("s3-secret"), "{environment}");
    }
}

#[test]
fn there_is_a_bound_on_commands() {
    let config = json!({"limits": {"exec_sessions": 2}});
    let daemon = Sprite::new()
        .config(&config)
        .command(&["sleep", "1000"])
        .api()
        .start();
    daemon.wait_running();
    let client = daemon.client();
    let body = json!({"command": ["sh", "-c", "echo up; exec sleep 1000"]});
    let mut running: Vec<_> = (0..2).map(|_| client.exec_stream(&body)).collect();
    for events in &mut running {
        assert_eq!(events.next().unwrap()["data"], "up\n");
    }
    client
        .post("/exec", &body)
        .assert_problem(429, "limits.exec_sessions");
    drop(running);
    while client.status()["sessions"] != 0 {
        std::thread::yield_now();
    }
    assert_eq!(client.sh("echo again").stdout, "again\n");
}
