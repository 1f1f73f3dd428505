//! Commands over WebSockets, frame by frame: what the SDKs' own tests do not reach.

use crate::sessions::{sh, wait_for_sessions};
use crate::support::socket::Came;
use crate::support::{Sprite, Value, json, wait_for_file};

#[test]
fn frames_without_a_terminal() {
    let mut daemon = Sprite::new().idle();
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
    let mut daemon = Sprite::new().idle();
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
    let mut daemon = Sprite::new().idle();
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
    let mut daemon = Sprite::new().idle();
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
fn a_script_that_does_not_say_whose_it_is_is_a_shells() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut daemon = Sprite::new().idle();
    let script = daemon.sprite.path("script");
    std::fs::write(&script, "echo \"$0 $1\"; exit 6\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let script = script.display();
    let path = format!("/exec?cmd={script}&cmd=word");
    let mut socket = daemon.client().socket(&path).unwrap();
    socket.info();
    let expected = format!("{script} word\n").into_bytes();
    assert_eq!(socket.until_exit(), (expected, vec![], 6));
    daemon.stop(143);
}

#[test]
fn garbage_ends_its_connection_and_nothing_else() {
    use std::io::Write as _;
    let mut daemon = Sprite::new().idle();
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
    let mut daemon = Sprite::new().idle();
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
    let mut daemon = Sprite::new().idle();
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
    let mut daemon = Sprite::new().idle();
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
