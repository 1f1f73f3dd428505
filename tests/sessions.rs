//! A session and its clients: signals, leaving and coming back, slow readers.

use std::time::Instant;

use crate::support::socket::Came;
use crate::support::{Daemon, PATIENCE, Sprite, Value, is_alive, json, wait_for_file};

/// The query of a shell script.
pub fn sh(script: &str) -> String {
    let mut query = form_urlencoded::Serializer::new("/exec?".to_owned());
    for word in ["sh", "-c", script] {
        query.append_pair("cmd", word);
    }
    query.finish().replacen('&', "", 1)
}

/// Waits until there are that many sessions.
pub fn wait_for_sessions(daemon: &Daemon, count: usize) {
    let start = Instant::now();
    while daemon.client().get("/exec").json()["count"] != count {
        assert!(
            start.elapsed() < PATIENCE,
            "{}",
            daemon.client().get("/exec").text
        );
        std::thread::yield_now();
    }
}

#[test]
fn signals_reach_the_whole_group_and_kill_tells_how_it_ends() {
    let mut daemon = Sprite::new().idle();
    let client = daemon.client();
    let script = "trap 'echo got it; exit 4' USR1; echo ready; while :; do sleep 0.01; done";
    let path = sh(script);
    for signal in [json!("usr1"), json!("SIGUSR1"), json!(10)] {
        let mut socket = client.socket(&path).unwrap();
        socket.info();
        assert_eq!(socket.next(), Came::Bytes(b"\x01ready\n".to_vec()));
        socket.json(&json!({"type": "signal", "signal": signal}));
        // The shell may say on standard error what became of its sleep.
        let (out, _, code) = socket.until_exit();
        assert_eq!((out, code), (b"got it\n".to_vec(), 4));
    }
    let stubborn = "trap '' TERM; echo ready; while :; do sleep 0.01; done";
    let path = sh(stubborn);
    let mut socket = client.socket(&path).unwrap();
    let id = socket.info()["session_id"].as_str().unwrap().to_owned();
    assert_eq!(socket.next(), Came::Bytes(b"\x01ready\n".to_vec()));
    for (query, needle) in [("signal=NONE", "signal"), ("timeout=soon", "timeout")] {
        let answer = client.post(&format!("/exec/{id}/kill?{query}"), &json!({}));
        answer.assert_problem(400, needle);
    }
    let kinds = |answer: &crate::support::http::Answer| {
        let lines = answer.lines();
        let kinds: Vec<_> = lines.iter().map(|line| line["type"].clone()).collect();
        (
            Value::from(kinds),
            lines.last().unwrap()["exit_code"].clone(),
        )
    };
    let told = client.post(&format!("/exec/{id}/kill?timeout=0s"), &json!({}));
    assert_eq!(kinds(&told), (json!(["signal", "complete"]), Value::Null));
    let body = json!({"signal": "SIGTERM", "timeout": 0.05});
    let killed = client.post(&format!("/exec/{id}/kill"), &body);
    let expected = json!(["signal", "timeout", "killed", "complete"]);
    assert_eq!(kinds(&killed), (expected, json!(137)));
    assert_eq!(socket.until_exit().2, 137);
    client
        .post(&format!("/exec/{id}/kill"), &json!({}))
        .assert_problem(410, "has ended");
    client
        .post("/exec/nobody/kill", &json!({}))
        .assert_problem(404, "session not found");
    daemon.stop(143);
}

#[test]
fn a_session_outlives_its_client_and_is_found_again() {
    let mut daemon = Sprite::new().idle();
    let client = daemon.client();
    let mut first = client.socket("/exec?cmd=sh&tty=true&env=PS1=").unwrap();
    let id = first.info()["session_id"].as_str().unwrap().to_owned();
    first.bytes(b"echo $((6*7)) >&2\n");
    first.until("42");
    first.vanish();
    // Two clients without stdin: a lone end of input out of habit logs nobody out.
    let mut second = client.socket(&format!("/exec/{id}")).unwrap();
    let info = second.info();
    assert_eq!(
        (&info["tty"], &info["is_owner"]),
        (&json!(true), &json!(false))
    );
    second.bytes(b"\x04");
    second.until("42");
    let mut third = client
        .socket(&format!("/exec?session_id={id}&cmd=ignored"))
        .unwrap();
    third.info();
    third.until("42");
    // Both see what either types, and the end.
    third.bytes(b"echo $((43*2)); exit 3\n");
    for socket in [&mut second, &mut third] {
        socket.until("86");
        let exit = json!({"type": "exit", "exit_code": 3});
        loop {
            match socket.next() {
                Came::Text(text) if text == exit => break,
                Came::Bytes(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    // It is remembered with its exit.
    let mut late = client.socket(&format!("/exec/{id}")).unwrap();
    late.info();
    late.until("86");
    let exit = json!({"type": "exit", "exit_code": 3});
    assert_eq!(late.next(), Came::Text(exit));
    daemon.stop(143);
}

#[test]
fn a_command_that_nobody_comes_back_to_is_ended() {
    let mut daemon = Sprite::new().idle();
    let client = daemon.client();
    let script = sh("echo $$ >pid; exec sleep 1000");
    let path = format!("{script}&max_run_after_disconnect=10ms");
    let mut socket = client.socket(&path).unwrap();
    socket.info();
    let pid: i32 = wait_for_file(&daemon.sprite.path("pid"))
        .trim()
        .parse()
        .unwrap();
    socket.vanish();
    wait_for_sessions(&daemon, 0);
    assert!(!is_alive(pid));
    // Coming back in time keeps it.
    let path = "/exec?cmd=sleep&cmd=1000&max_run_after_disconnect=1h";
    let mut socket = client.socket(path).unwrap();
    let id = socket.info()["session_id"].as_str().unwrap().to_owned();
    socket.close();
    let mut again = client.socket(&format!("/exec/{id}")).unwrap();
    again.info();
    daemon.stop(143);
}

#[test]
fn two_hundred_sessions_at_once() {
    let mut daemon = Sprite::new().idle();
    let client = daemon.client();
    let mut sockets: Vec<_> = (0..200)
        .map(|n| {
            let mut socket = client.socket("/exec?cmd=cat&stdin=true").unwrap();
            socket.info();
            socket.bytes(format!("\0line {n}\n").as_bytes());
            socket
        })
        .collect();
    for (n, socket) in sockets.iter_mut().enumerate() {
        assert_eq!(
            socket.next(),
            Came::Bytes(format!("\x01line {n}\n").into_bytes())
        );
    }
    assert_eq!(client.get("/exec").json()["count"], 200);
    for socket in &mut sockets {
        socket.bytes(b"\x04");
    }
    for socket in &mut sockets {
        assert_eq!(socket.until_exit().2, 0);
    }
    wait_for_sessions(&daemon, 0);
    daemon.stop(143);
}

#[test]
fn a_slow_reader_holds_up_the_command_and_not_our_memory() {
    let mut daemon = Sprite::new().idle();
    let client = daemon.client();
    let script = sh("head -c 300000000 /dev/zero; echo >done");
    let mut socket = client.socket(&script).unwrap();
    let id = socket.info()["session_id"].as_str().unwrap().to_owned();
    // The command cannot finish while nobody reads: it is still there after another one
    // came and went many times.
    for _ in 0..50 {
        assert_eq!(client.sh("true").code, 0);
    }
    assert!(!daemon.sprite.path("done").exists());
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let rss = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap()
        .to_owned();
    let kilobytes: u64 = rss.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kilobytes < 60_000, "{rss}");
    let (out, _, code) = socket.until_exit();
    assert_eq!((out.len(), code), (300_000_000, 0), "{id}");
    daemon.stop(143);
}
