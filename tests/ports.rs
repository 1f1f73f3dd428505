//! Which ports are open: for whoever watches, for the clients of a session, and in a
//! network namespace of the environment's own.

use std::net::TcpListener;

use crate::sessions::sh;
use crate::support::socket::{Came, Socket};
use crate::support::{Sprite, Value, is_root, json, skipped, wait_for_file};

/// The next message about `port`; those about others' ports are passed over.
fn about(socket: &mut Socket, port: u16) -> Value {
    loop {
        match socket.next() {
            Came::Text(text) if text["port"] == port => return text,
            Came::Text(_) | Came::Bytes(_) => {}
            other => panic!("{other:?}; waiting for port {port}"),
        }
    }
}

/// Listens at a free port and says which, until its standard input ends.
const SERVER: &str = "import socket, sys\n\
    s = socket.create_server((sys.argv[1], 0), family=getattr(socket, sys.argv[2]))\n\
    sys.stdout.write(f'{s.getsockname()[1]}\\n')\nsys.stdout.flush()\n\
    sys.stdin.read()\n\
    s.close()\n\
    print('closed', flush=True)\n\
    sys.stdin = open('/dev/null')\n\
    import time; time.sleep(1000)\n";

#[test]
fn ports_that_open_and_close_are_told() {
    let mut daemon = Sprite::new().idle();
    let client = daemon.client();
    client.get("/ports/watch").assert_problem(426, "WebSocket");
    let before = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = before.local_addr().unwrap().port();
    let mut watch = client.socket("/ports/watch").unwrap();
    let Came::Text(list) = watch.next() else {
        panic!("no list came first")
    };
    assert_eq!(list["type"], "port_list");
    let ports = list["ports"].as_array().unwrap();
    let ours = json!({"port": port, "address": "127.0.0.1", "pid": std::process::id()});
    assert!(ports.contains(&ours), "{list}");
    drop(before);
    let closed = about(&mut watch, port);
    assert_eq!(closed["type"], "port_closed");
    let again = TcpListener::bind("[::1]:0").unwrap();
    let port = again.local_addr().unwrap().port();
    let opened = json!({
        "type": "port_opened", "port": port, "address": "::1", "pid": std::process::id(),
    });
    assert_eq!(about(&mut watch, port), opened);
    watch.close();
    // Who comes later starts with a list of now.
    let mut later = client.socket("/v1/sprites/nobody/ports/watch");
    assert_eq!(later.as_mut().err(), Some(&mut 404));
    let mut later = client.socket("/ports/watch").unwrap();
    assert!(matches!(later.next(), Came::Text(list) if list["type"] == "port_list"));
    daemon.stop(143);
}

#[test]
fn a_session_is_told_of_its_own_ports() {
    let mut daemon = Sprite::new().idle();
    let client = daemon.client();
    // Behind a shell, and in a session of its own: still a descendant.
    let script = format!("cat >server.py <<'E'\n{SERVER}E\npython3 server.py 127.0.0.1 AF_INET; :");
    let mut socket = client.socket(&(sh(&script) + "&stdin=true")).unwrap();
    let id = socket.info()["session_id"].as_str().unwrap().to_owned();
    let mut said = String::new();
    while !said.ends_with('\n') {
        match socket.next() {
            Came::Bytes(bytes) => said += &String::from_utf8_lossy(&bytes[1..]),
            other => panic!("{other:?}"),
        }
    }
    let port: u16 = said.trim().parse().unwrap();
    // Somebody else's is none of the session's business.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let opened = socket.next();
    let Came::Text(opened) = opened else {
        panic!("{opened:?}")
    };
    assert_eq!(
        (&opened["type"], &opened["port"], &opened["address"]),
        (&json!("port_opened"), &json!(port), &json!("127.0.0.1"))
    );
    let pid = opened["pid"].as_i64().unwrap();
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert!(name.starts_with("python"), "{name}");
    // Who attaches is told what is open.
    let mut second = client.socket(&format!("/exec/{id}")).unwrap();
    second.info();
    assert_eq!(about(&mut second, port), opened);
    // It is where the proxy reaches it.
    let mut proxy = client.socket("/proxy").unwrap();
    proxy.json(&json!({"host": opened["address"], "port": port}));
    assert!(matches!(proxy.next(), Came::Text(text) if text["status"] == "connected"));
    socket.bytes(b"\x04");
    for socket in [&mut socket, &mut second] {
        assert_eq!(about(socket, port)["type"], "port_closed");
    }
    drop(other);
    daemon.stop(143);
}

#[test]
fn ports_in_a_network_namespace_of_the_environments_own() {
    if !is_root() {
        return skipped("only root can make a network namespace");
    }
    let sprite = Sprite::new();
    let ready = sprite.path("port");
    let script = sprite.path("server.py");
    std::fs::write(&script, SERVER).unwrap();
    // The namespace of a process that is there before us.
    let inside = format!(
        "ip link set lo up && exec python3 {} 127.0.0.1 AF_INET >{}",
        script.display(),
        ready.display()
    );
    let mut server = std::process::Command::new("unshare")
        .args(["--net", "sh", "-c", &inside])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let port: u16 = wait_for_file(&ready).trim().parse().unwrap();
    let namespace = format!("/proc/{}/ns/net", server.id());
    let config = json!({"network": {"namespace": namespace}});
    let mut daemon = sprite.config(&config).idle();
    let client = daemon.client();
    let mut proxy = client.socket("/proxy").unwrap();
    proxy.json(&json!({"port": port}));
    let connected = json!({"status": "connected", "target": format!("localhost:{port}")});
    assert_eq!(proxy.next(), Came::Text(connected));
    let mut watch = client.socket("/ports/watch").unwrap();
    let ours = json!([{"port": port, "address": "127.0.0.1", "pid": server.id()}]);
    let Came::Text(list) = watch.next() else {
        panic!("no list")
    };
    // Ours are not in it.
    assert_eq!(list["ports"], ours);
    // Outside of it the same port is closed, unless by chance somebody has it.
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(about(&mut watch, port)["type"], "port_closed");
    let mut gone = client.socket("/proxy").unwrap();
    gone.json(&json!({"port": port}));
    match gone.next() {
        Came::Text(status) => {
            let why = status["error"].as_str().unwrap();
            assert!(why.contains("network namespace"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    daemon.stop(143);
}
