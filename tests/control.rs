//! Control connections and the TCP proxy, message by message.

use crate::support::socket::{Came, Socket};
use crate::support::{Sprite, Value, json};

#[test]
fn operations_follow_one_another_on_a_control_connection() {
    let mut daemon = Sprite::new().idle();
    let client = daemon.client();
    assert_eq!(
        client.socket_as("/control", "sprites-go-sdk/1.0").err(),
        Some(404)
    );
    let mut socket = client.socket("/control").unwrap();
    let envelope = |came: Came| match came {
        Came::Words(words) => {
            let text = words.strip_prefix("control:").unwrap().to_owned();
            serde_json::from_str::<Value>(&text).unwrap()
        }
        other => panic!("{other:?} is no envelope"),
    };
    let error = |socket: &mut Socket| {
        envelope(socket.next())["args"]["code"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    socket.bytes(b"\x00nobody listens");
    assert_eq!(error(&mut socket), "op.not_active");
    socket.json(&json!({"type": "release"}));
    socket.text("control:{\"type\":\"op.start\",\"op\":\"dance\",\"args\":{}}");
    assert_eq!(error(&mut socket), "op.not_found");
    socket.text("control:{\"type\":\"op.start\",\"op\":\"exec\",\"args\":{\"cmd\":[]}}");
    assert_eq!(error(&mut socket), "op.failed");
    for code in [0, 7] {
        let args = json!({"cmd": ["sh", "-c", format!("cat; exit {code}")], "stdin": "true"});
        let start = json!({"type": "op.start", "op": "exec", "id": "x", "args": args});
        socket.text(&format!("control:{start}"));
        socket.info();
        socket.text(&format!("control:{start}"));
        assert_eq!(error(&mut socket), "op.busy");
        socket.bytes(b"\x00in");
        socket.bytes(b"\x04");
        assert_eq!(socket.next(), Came::Bytes(b"\x01in".to_vec()));
        assert_eq!(socket.next(), Came::Bytes(vec![3, code]));
        let complete = envelope(socket.next());
        assert_eq!(complete["type"], "op.complete");
        assert_eq!(
            (&complete["id"], &complete["args"]["exitCode"]),
            (&json!("x"), &json!(code))
        );
    }
    // Another client's dialect: raw input, told by its `path`.
    let args = json!({"cmd": ["cat"], "path": "cat", "stdin": "true"});
    let start = json!({"type": "op.start", "op": "exec", "args": args});
    socket.text(&format!("control:{start}"));
    socket.info();
    socket.bytes(b"\x01raw");
    socket.bytes(b"\x04");
    assert_eq!(socket.next(), Came::Bytes(b"\x01\x01raw".to_vec()));
    assert_eq!(socket.next(), Came::Bytes(vec![3, 0]));
    assert_eq!(envelope(socket.next())["args"]["ok"], true);
    daemon.stop(143);
}

#[test]
fn the_proxy_says_what_is_wrong() {
    let mut daemon = Sprite::new().idle();
    let client = daemon.client();
    client.get("/proxy").assert_problem(426, "WebSocket");
    for (first, code) in [
        ("no json", 1003),
        ("{\"port\": 0}", 1003),
        ("{\"port\": 70000}", 1003),
    ] {
        let mut socket = client.socket("/proxy").unwrap();
        socket.text(first);
        assert_eq!(socket.next(), Came::Close(code), "{first}");
    }
    let mut socket = client.socket("/proxy").unwrap();
    socket.bytes(b"binary");
    assert_eq!(socket.next(), Came::Close(1003));
    // A port that nobody listens at: bound, so that nobody can, and not listening.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    drop(taken);
    let mut socket = client.socket("/proxy").unwrap();
    socket.json(&json!({"host": "127.0.0.1", "port": port}));
    match socket.next() {
        Came::Text(status) => assert_eq!(status["status"], "error"),
        other => panic!("{other:?}"),
    }
    assert_eq!(socket.next(), Came::Close(1011));
    daemon.stop(143);
}

#[test]
fn what_the_target_said_last_arrives_while_the_client_still_sends() {
    use std::io::Write as _;
    let mut daemon = Sprite::new().idle();
    let client = daemon.client();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let target = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(&vec![b'x'; 3_000_000]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        stream
    });
    let mut socket = client.socket("/proxy").unwrap();
    socket.json(&json!({"port": port}));
    assert!(matches!(socket.next(), Came::Text(text) if text["status"] == "connected"));
    for _ in 0..100 {
        socket.bytes(&[0; 8192]);
    }
    let mut length = 0;
    loop {
        match socket.next() {
            Came::Bytes(bytes) => length += bytes.len(),
            other => break assert_eq!(other, Came::Close(1000), "after {length} bytes"),
        }
    }
    assert_eq!(length, 3_000_000);
    drop(target.join().unwrap());
    daemon.stop(143);
}
