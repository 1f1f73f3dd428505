//! A component is ready when what the configuration names says so, and its checks go on
//! while it is up.

use std::net::TcpListener;

use crate::support::objects::with;
use crate::support::{Sprite, Value, json};

/// A port that nobody uses.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// One component that runs `script`, with more settings.
fn component(script: &str, settings: &Value) -> Value {
    let component = with(json!({"start_command": ["sh", "-c", script]}), settings);
    json!({"components": {"c": component}})
}

/// What the main process says that a component has left behind when it starts.
fn left_behind(config: &Value) {
    let sprite = Sprite::new().config(config).script("cat told");
    let (code, text) = sprite.run();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("told to the main process"), "{text}");
}

const TELL: &str = "sleep 0.2; echo told to the main process >told";

#[test]
fn by_an_answer_over_http() {
    let port = free_port();
    let server = format!("{TELL}; exec python3 -m http.server --bind 127.0.0.1 {port}");
    let url = format!("http://127.0.0.1:{port}/");
    left_behind(&component(&server, &json!({"ready": {"http": url}})));
    // An answer that is an error is none.
    let missing = format!("http://127.0.0.1:{port}/missing");
    let settings = json!({"ready": {"http": missing}, "ready_timeout": "1s"});
    let (code, text) = Sprite::new()
        .config(&component(&server, &settings))
        .arg("-debug")
        .script("exit 0")
        .run();
    assert_eq!(code, 70, "{text}");
    assert!(text.contains("404"), "{text}");
}

#[test]
fn by_a_connection_that_is_taken() {
    let port = free_port();
    let server = format!("{TELL}; exec python3 -m http.server --bind 127.0.0.1 {port}");
    let ready = json!({"ready": {"tcp": format!("localhost:{port}"), "interval": "20ms",
                                 "threshold": 3}});
    left_behind(&component(&server, &ready));
}

#[test]
fn by_a_line_of_its_output() {
    let server = format!(
        "echo not ready yet; {TELL}; printf 'ready for 2'; echo 00 clients; \
                          exec sleep 1000"
    );
    let ready = json!({"ready": {"log": "^ready for [0-9]+ clients$"}});
    left_behind(&component(&server, &ready));
}

#[test]
fn by_its_own_word_to_the_notify_socket() {
    let notify = r#"
import os, socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect("\0" + os.environ["NOTIFY_SOCKET"][1:])
s.send(b"STATUS=reading the log\n")
s.send(b"MAINPID=1\nREADY=1\n")
"#;
    let script = format!("{TELL}; python3 -c '{notify}'; exec sleep 1000");
    let config = component(&script, &json!({"ready": {"notify": true}}));
    left_behind(&config);
    let (_, text) = Sprite::new().config(&config).script("exit 0").run();
    assert!(text.contains("reading the log"), "{text}");
}

#[test]
fn a_stranger_cannot_say_that_it_is_ready() {
    if !crate::support::is_root() {
        return crate::support::skipped("needs root, to be somebody else");
    }
    let script = "echo $NOTIFY_SOCKET >socket; exec sleep 1000";
    let settings = json!({"ready": {"notify": true}, "ready_timeout": "0"});
    let daemon = Sprite::new()
        .config(&component(script, &settings))
        .api()
        .script("exit 0")
        .start();
    let name = crate::support::wait_for_file(&daemon.sprite.path("socket"));
    let send = format!(
        "import os, socket\nos.setuid(65534)\n\
         s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
         s.sendto(b'READY=1', '\\0' + '{}'[1:])",
        name.trim()
    );
    let done = std::process::Command::new("python3")
        .args(["-c", &send])
        .status();
    assert!(done.unwrap().success());
    daemon.wait_for("a stranger says that it is ready");
    assert_eq!(
        daemon.client().status()["components"]["c"]["state"],
        "Up > Starting"
    );
}

#[test]
fn by_a_line_to_a_descriptor() {
    let script = format!("{TELL}; printf 'o' >&7; echo k >&7; exec sleep 1000");
    left_behind(&component(&script, &json!({"ready": {"fd": 7}})));
    let settings = json!({"ready": {"fd": 3}});
    let closed = component("exec 3>&-; exec sleep 1000", &settings);
    let (code, text) = Sprite::new().config(&closed).script("exit 0").run();
    assert_eq!(code, 70, "{text}");
    assert!(
        text.contains("it closed the descriptor without a word"),
        "{text}"
    );
}

#[test]
fn a_component_that_is_unready_degrades_the_system_until_it_is_well() {
    let settings = json!({
        "readiness": {"command": ["test", "!", "-e", "ill"], "interval": "20ms", "threshold": 2},
    });
    let config = component("exec sleep 1000", &settings);
    let mut daemon = Sprite::new().config(&config).idle();
    let pid = daemon.client().status()["components"]["c"]["pid"].clone();
    let ill = daemon.sprite.path("ill");
    std::fs::write(&ill, "").unwrap();
    daemon.client().wait_component("c", "Unready");
    let status = daemon.client().status();
    assert_eq!(status["state"], "Online > Serving > Degraded");
    let failure = status["last_failure"].as_str().unwrap();
    assert!(failure.contains("its readiness check fails"), "{failure}");
    std::fs::remove_file(ill).unwrap();
    daemon.client().wait_component("c", "Ready");
    let status = daemon.client().status();
    assert_eq!(status["state"], "Online > Serving > Running");
    assert_eq!(
        status["components"]["c"]["pid"], pid,
        "nothing was restarted"
    );
    daemon.stop(143);
}

#[test]
fn what_is_not_alive_is_told_to_go_and_started_again() {
    let port = free_port();
    // It hangs: it takes no connection any more, and does not end.
    let script = format!(
        "trap 'echo told to go >>gone; exit 0' TERM; python3 -m http.server --bind 127.0.0.1 {port} & \
         echo $! >server; while :; do wait; sleep 0.01; done"
    );
    let address = format!("127.0.0.1:{port}");
    let config = component(
        &script,
        &json!({
            "ready": {"tcp": address},
            "liveness": {"tcp": address, "interval": "50ms", "threshold": 2},
            "on_failure": "restart", "backoff": {"min": "10ms"},
        }),
    );
    let mut daemon = Sprite::new().config(&config).idle();
    let server = crate::support::wait_for_file(&daemon.sprite.path("server"));
    crate::support::signal_process(server.trim().parse().unwrap(), 9);
    let status = daemon.client().wait_status(|status| {
        status["components"]["c"]["starts"] == 2 && status["state"] == "Online > Serving > Running"
    });
    assert_eq!(status["components"]["c"]["state"], "Up > Ready");
    crate::support::wait_for_file(&daemon.sprite.path("gone"));
    daemon.wait_for("its liveness check fails");
    daemon.stop(143);
}

#[test]
fn what_is_not_alive_ends_it_all_if_so_configured() {
    let config = component(
        "exec sleep 1000",
        &json!({"liveness": {"command": ["sleep", "1000"], "interval": "10ms", "timeout": "20ms",
                             "threshold": 1}}),
    );
    let (code, text) = Sprite::new()
        .config(&config)
        .script("exec sleep 1000")
        .run();
    assert_eq!(code, 70, "{text}");
    assert!(text.contains("no answer within 20ms"), "{text}");
}

#[test]
fn checks_that_make_no_sense_are_refused() {
    for (settings, why) in [
        (
            json!({"ready": {}}),
            "give one of command, http, tcp, log, notify and fd",
        ),
        (
            json!({"ready": {"tcp": "x:1", "http": "http://x"}}),
            "give one of",
        ),
        (json!({"ready": {"http": "ftp://x"}}), "is no URL"),
        (json!({"ready": {"tcp": "localhost"}}), "is no address"),
        (json!({"ready": {"log": "("}}), "is no regular expression"),
        (json!({"ready": {"fd": 2}}), "must be from 3 to 15"),
        (
            json!({"ready": {"fd": 3}, "listen": ["127.0.0.1:0"]}),
            "take a higher one",
        ),
        (
            json!({"ready": {"log": "x", "timeout": "1s"}}),
            "mean nothing with log",
        ),
        (
            json!({"ready": {"log": "x"}, "ready_command": ["x"]}),
            "keep one",
        ),
        (
            json!({"readiness": {"log": "x"}}),
            "log tells the start only",
        ),
        (
            json!({"liveness": {"tcp": "x:1", "interval": "0"}}),
            "must be more than 0",
        ),
        (
            json!({"liveness": {"tcp": "x:1", "threshold": 0}}),
            "must be 1 or more",
        ),
        (
            json!({"type": "oneshot", "liveness": {"tcp": "x:1"}}),
            "ends by itself",
        ),
        (json!({"type": "twoshot"}), "there are service and oneshot"),
        (json!({"schedule": "now"}), "is no cron expression"),
        (
            json!({"schedule": "@daily", "type": "service"}),
            "leave out one",
        ),
        (
            json!({"schedule": "@daily", "on_failure": "restart"}),
            "give ignore or shutdown",
        ),
        (json!({"pre_stop": {"timeout": "1s"}}), "give the program"),
        (json!({"listen": ["nowhere"]}), "is not host:port"),
    ] {
        let config = component("exit 0", &settings);
        let (code, text) = Sprite::new().config(&config).script("exit 0").run();
        assert_eq!(code, 78, "{settings}: {text}");
        assert!(text.contains(why), "{settings}: {text}");
    }
}
