//! Components that do something once, or at their times, and sockets that outlive them.

use std::io::Read as _;
use std::net::TcpStream;

use crate::support::objects::with;
use crate::support::{Sprite, json, wait_for_file, wait_for_file_to_exist};

#[test]
fn what_is_done_once_is_done_before_what_needs_it_starts() {
    let config = json!({"components": {
        "migrate": {"type": "oneshot", "start_command": ["sh", "-c", "sleep 0.2; echo done >log"]},
        "server": {"needs": ["migrate"],
                   "start_command": ["sh", "-c", "echo with $(cat log) >>log; exec sleep 1000"],
                   "ready": {"command": ["grep", "-q", "with", "log"]}},
    }});
    let daemon = Sprite::new().config(&config).idle();
    let log = std::fs::read_to_string(daemon.sprite.path("log")).unwrap();
    assert_eq!(log, "done\nwith done\n");
    let migrate = &daemon.client().status()["components"]["migrate"];
    assert_eq!(migrate["state"], "Completed");
    assert!(migrate["pid"].is_null());
}

#[test]
fn what_cannot_be_done_once_follows_its_policy() {
    let run = |settings: serde_json::Value| {
        let once = json!({"type": "oneshot", "backoff": {"min": "10ms"},
            "start_command": ["sh", "-c", "echo try >>tries; [ $(wc -l <tries) -ge 3 ] || exit 9"]});
        let config = json!({"components": {"once": with(once, &settings)}});
        Sprite::new()
            .config(&config)
            .script("echo tries: $(cat tries)")
            .run()
    };
    let (code, text) = run(json!({}));
    assert_eq!(code, 70, "{text}");
    let (code, text) = run(json!({"on_failure": "restart"}));
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("tries: try try try"), "{text}");
    let (code, text) = run(json!({"on_failure": "ignore"}));
    assert!(code == 0 && text.contains("tries: try\n"), "{text}");
    let (code, text) = run(json!({"success_exit_codes": [9]}));
    assert!(code == 0 && text.contains("tries: try\n"), "{text}");
    // It has all the time that it needs, unless it is given less.
    let endless = json!({"start_command": ["sleep", "1000"], "ready_timeout": "100ms"});
    let (code, text) = run(endless);
    assert_eq!(code, 70, "{text}");
}

#[test]
fn what_is_done_once_is_done_again_after_a_restore() {
    let once = json!({"type": "oneshot", "start_command": ["sh", "-c", "echo done >>log"]});
    let config = json!({"components": {"once": once}});
    let daemon = Sprite::new().config(&config).storage().idle();
    daemon.client().checkpoint();
    assert_eq!(daemon.client().restore("v0")["type"], "complete");
    let log = std::fs::read_to_string(daemon.sprite.path("log")).unwrap();
    assert_eq!(log, "done\ndone\n");
}

#[test]
fn what_has_a_schedule_runs_at_its_times_and_may_fail() {
    let job = json!({"schedule": "* * * * * *",
                     "start_command": ["sh", "-c", "date +%s%N >>times; exit 1"]});
    let config = json!({"components": {"job": job}});
    let mut daemon = Sprite::new().config(&config).idle();
    let times = daemon.sprite.path("times");
    let count = || {
        std::fs::read_to_string(&times)
            .unwrap_or_default()
            .lines()
            .count()
    };
    while count() < 2 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let status = daemon.client().wait_component("job", "Scheduled");
    assert!(status["starts"].as_u64().unwrap() >= 2, "{status}");
    assert_eq!(
        daemon.client().status()["state"],
        "Online > Serving > Running"
    );
    // Each within its second, and not before.
    for time in std::fs::read_to_string(&times).unwrap().lines() {
        assert!(
            time.parse::<u128>().unwrap() % 1_000_000_000 < 900_000_000,
            "{time}"
        );
    }
    daemon.stop(143);
}

#[test]
fn what_has_a_schedule_can_be_run_at_once() {
    let job = json!({"schedule": "@yearly", "start_command": ["sh", "-c", "echo ran >>log"]});
    let config = json!({"components": {"job": job}});
    let daemon = Sprite::new().config(&config).idle();
    assert!(!daemon.sprite.path("log").exists());
    let answer = daemon
        .client()
        .post("/components/job/restart?wait=60s", &json!({}));
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(
        std::fs::read_to_string(daemon.sprite.path("log")).unwrap(),
        "ran\n"
    );
}

const SERVER: &str = r#"
import os, socket
assert int(os.environ["LISTEN_PID"]) == os.getpid(), os.environ["LISTEN_PID"]
assert os.environ["LISTEN_FDS"] == "2"
s = socket.socket(fileno=3)
open("port", "w").write(str(s.getsockname()[1]))
assert socket.socket(fileno=4).getsockname() == os.path.abspath("inner.sock")
# The first one waits to be killed before it takes a connection.
while not os.path.exists("second"):
    open("second", "w").close()
    os.kill(os.getpid(), 9)
while True:
    c, _ = s.accept()
    c.send(b"hello from %d" % os.getpid())
    c.close()
"#;

#[test]
fn sockets_are_open_before_a_component_and_while_it_is_restarted() {
    let config = json!({"components": {"server": {
        "start_command": ["python3", "-c", SERVER],
        "listen": ["127.0.0.1:0", "unix:inner.sock"],
        "on_failure": "restart", "backoff": {"min": "10ms"},
    }}});
    let mut daemon = Sprite::new().config(&config).idle();
    let port: u16 = wait_for_file(&daemon.sprite.path("port")).parse().unwrap();
    let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut said = String::new();
    connection.read_to_string(&mut said).unwrap();
    wait_for_file_to_exist(&daemon.sprite.path("second"));
    let pid = &daemon.client().status()["components"]["server"]["pid"];
    assert_eq!(said, format!("hello from {pid}"));
    daemon.stop(143);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = json!({"components": {"server": {
        "start_command": ["sleep", "1000"], "listen": [address],
    }}});
    let (code, text) = Sprite::new().config(&config).script("exit 0").run();
    assert_eq!(code, 69, "{text}");
    assert!(
        text.contains("components.server.listen: cannot listen at"),
        "{text}"
    );
}
