//! Commands over WebSockets, frame by frame: what the SDKs' own tests do not reach.

use std::time::Instant;

use crate::support::socket::Came;
use crate::support::{Daemon, PATIENCE, Sprite, Value, is_alive, json, wait_for_file};

fn running() -> Daemon {
    let sprite = Sprite::new().command(&["sleep", "1000"]);
    let daemon = sprite.api().start();
    daemon.wait_running();
    daemon
}

/// The query of a shell script.
fn sh(script: &str) -> String {
    let mut query = form_urlencoded::Serializer::new("/exec?".to_owned());
    for word in ["sh", "-c", script] {
        query.append_pair("cmd", word);
    }
    query.finish().replacen('&', "", 1)
}

/// Waits until there are that many sessions.
fn wait_for_sessions(daemon: &Daemon, count: usize) {
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
fn frames_without_a_terminal() {
    let mut daemon = running();
    let client = daemon.client();
    let mut socket = client
        .socket(&(sh("cat; echo e >&2; exit 9") + "&stdin=true"))
        .unwrap();
    assert_eq!(socket.headers["x-sprite-capabilities"], "signal");
    assert!(socket.headers.contains_key("sprite-version"));
    let info = socket.info();
    assert_eq!(
        (&info["is_owner"], &info["tty"]),
        (&Value::Bool(true), &Value::Bool(false))
    );
    assert!(info["session_id"].is_string());
    socket.bytes(b"\x00one ");
    socket.bytes(b""); // Nothing.
    socket.bytes(b"\x07what is this");
    socket.text("no json");
    socket.json(&json!({"type": "unheard of"}));
    socket.json(&json!({"type": "resize", "rows": 1, "cols": 1}));
    socket.bytes(b"\x00two");
    socket.bytes(b"\x04");
    socket.bytes(b"\x00too late");
    assert_eq!(
        socket.until_exit(),
        (b"one two".to_vec(), b"e\n".to_vec(), 9)
    );
    // Without stdin=true there is none, and what is sent is thrown away.
    let mut socket = client.socket("/exec?cmd=cat").unwrap();
    socket.info();
    socket.bytes(b"\x00ignored");
    assert_eq!(socket.until_exit(), (vec![], vec![], 0));
    daemon.stop(143);
}

#[test]
fn not_one_byte_of_short_commands_is_lost() {
    let mut daemon = running();
    let client = daemon.client();
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            let client = client.clone();
            std::thread::spawn(move || {
                for n in 0..250 {
                    let path = sh(&format!("seq 1 2000; echo {worker}.{n} >&2"));
                    let mut socket = client.socket(&path).unwrap();
                    socket.info();
                    let (out, err, code) = socket.until_exit();
                    assert_eq!((out.len(), code), (8893, 0), "{worker}.{n}");
                    assert_eq!(err, format!("{worker}.{n}\n").as_bytes());
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    assert_eq!(client.get("/exec").json()["sessions"], json!([]));
    daemon.stop(143);
}

#[test]
fn a_terminal_tells_its_exit_three_ways() {
    let mut daemon = running();
    let client = daemon.client();
    for (code, close) in [(0, 1000), (5, 4005)] {
        let path = sh(&format!("stty size; exit {code}")) + "&tty=true";
        let mut socket = client.socket(&path).unwrap();
        let info = socket.info();
        assert_eq!((&info["rows"], &info["cols"]), (&json!(24), &json!(80)));
        socket.until("24 80\r\n");
        let exit = json!({"type": "exit", "exit_code": code});
        assert_eq!(socket.next(), Came::Text(exit));
        assert_eq!(socket.next(), Came::Close(close));
        // TCP is closed too, which one client waits for.
        assert_eq!(socket.next(), Came::End);
    }
    daemon.stop(143);
}

#[test]
fn what_cannot_be_started_says_why_and_exits() {
    let mut daemon = running();
    let client = daemon.client();
    for (query, code) in [
        ("cmd=/no/such/program", 127),
        ("cmd=/etc/passwd", 126),
        ("cmd=pwd&dir=/no/such/dir", 127),
    ] {
        let mut socket = client.socket(&format!("/exec?{query}")).unwrap();
        socket.info();
        let (out, err, found) = socket.until_exit();
        assert!(out.is_empty());
        assert!(
            String::from_utf8(err).unwrap().contains("cannot run"),
            "{query}"
        );
        assert_eq!(found, code, "{query}");
    }
    for (query, needle) in [
        ("cmd=", "No command specified"),
        ("cmd=x&env=novalue", "NAME=VALUE"),
        ("cmd=x&dir=%00", "NUL"),
        ("cmd=x&max_run_after_disconnect=soon", "duration"),
    ] {
        assert_eq!(
            client.socket(&format!("/exec?{query}")).err(),
            Some(400),
            "{query}"
        );
        client
            .get(&format!("/exec?{query}"))
            .assert_problem(426, "WebSocket");
        client
            .post(&format!("/exec?{query}"), &json!({}))
            .assert_problem(400, needle);
    }
    assert_eq!(client.socket("/exec/nobody").err(), Some(404));
    assert_eq!(client.socket("/exec?id=nobody").err(), Some(404));
    client
        .get("/exec/nobody")
        .assert_problem(404, "session not found: nobody");
    daemon.stop(143);
}

#[test]
fn signals_reach_the_whole_group_and_kill_tells_how_it_ends() {
    let mut daemon = running();
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
    let mut daemon = running();
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
    let mut daemon = running();
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
fn a_slow_reader_holds_up_the_command_and_not_our_memory() {
    let mut daemon = running();
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

#[test]
fn two_hundred_sessions_at_once() {
    let mut daemon = running();
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
fn garbage_ends_its_connection_and_nothing_else() {
    use std::io::Write as _;
    let mut daemon = running();
    let client = daemon.client();
    let address = client.base().strip_prefix("http://").unwrap().to_owned();
    // A frame with reserved bits, a handshake that is cut off, a request that never ends.
    for bytes in [
        &b"GET /exec?cmd=cat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
           Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
           Authorization: Bearer test-token\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..],
        b"GET /exec?cmd=cat HTTP/1.1\r\nUpgrade: webso",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ] {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        stream.write_all(bytes).unwrap();
    }
    assert_eq!(client.sh("echo still here").stdout, "still here\n");
    wait_for_sessions(&daemon, 0);
    daemon.stop(143);
}

#[test]
fn a_signal_is_heard_behind_input_that_nobody_reads() {
    let mut daemon = running();
    let client = daemon.client();
    for query in [
        "cmd=sleep&cmd=1000&stdin=true",
        "cmd=sleep&cmd=1000",
        "cmd=sleep&cmd=1000&tty=true",
    ] {
        let mut socket = client.socket(&format!("/exec?{query}")).unwrap();
        let tty = socket.info()["tty"] == true;
        for _ in 0..20 {
            socket.bytes(&vec![0; 32 * 1024]);
        }
        socket.json(&json!({"type": "signal", "signal": "KILL"}));
        if tty {
            loop {
                match socket.next() {
                    Came::Bytes(_) => {}
                    Came::Text(exit) => break assert_eq!(exit["exit_code"], 137),
                    other => panic!("{other:?}"),
                }
            }
        } else {
            assert_eq!(socket.until_exit().2, 137, "{query}");
        }
    }
    daemon.stop(143);
}

#[test]
fn no_terminal_is_larger_than_a_screen() {
    let mut daemon = running();
    let client = daemon.client();
    for size in ["rows=65535&cols=65535", "rows=1000&cols=1000", "rows=1001"] {
        let path = format!("/exec?cmd=true&tty=true&{size}");
        assert_eq!(client.socket(&path).err(), Some(400), "{size}");
    }
    let mut socket = client.socket("/exec?cmd=sh&tty=true&env=PS1=").unwrap();
    socket.info();
    socket.json(&json!({"type": "resize", "rows": 65535, "cols": 65535}));
    socket.json(&json!({"type": "resize", "rows": 0, "cols": 0}));
    socket.bytes(b"stty size; exit\n");
    socket.until("24 80\r\n");
    daemon.stop(143);
}

#[test]
fn a_body_that_is_cut_off_is_no_end_of_input() {
    use std::io::Write as _;
    let mut daemon = running();
    let client = daemon.client();
    let path = sh("cat >part && mv part whole; echo over >over") + "&stdin=true";
    let address = client.base().strip_prefix("http://").unwrap().to_owned();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer test-token\r\n\
         Content-Length: 1000000\r\n\r\nthe beginning"
    );
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(wait_for_file(&daemon.sprite.path("part")), "the beginning");
    drop(stream);
    wait_for_sessions(&daemon, 0);
    assert!(!daemon.sprite.path("whole").exists() && !daemon.sprite.path("over").exists());
    daemon.stop(143);
}
