//! Requests for the environment's own web server, as an edge replays them to us.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use tungstenite::Message;

use crate::support::{PATIENCE, Sprite, TOKEN, json};

/// A web server that answers each connection with `answer`, after a whole request was
/// read; the requests it got.
fn server(answer: &'static str) -> (u16, std::sync::mpsc::Receiver<String>) {
    server_at(TcpListener::bind("127.0.0.1:0").unwrap(), answer)
}

fn server_at(
    listener: TcpListener,
    answer: &'static str,
) -> (u16, std::sync::mpsc::Receiver<String>) {
    let port = listener.local_addr().unwrap().port();
    let (sender, requests) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut request = String::new();
            while !request.ends_with("\r\n\r\n") && stream.read_line(&mut request).unwrap() > 0 {}
            let length = request
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            request += &String::from_utf8(body).unwrap();
            let _ = sender.send(request);
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
    (port, requests)
}

/// A listener at a free port.
fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn state(token: &str, port: u16) -> String {
    format!("instance=0; region=here;state=proxy:{token}:{port} ;t=1")
}

#[test]
fn a_request_goes_to_the_server_of_the_environment() {
    let mut daemon = Sprite::new().idle();
    let client = daemon.client();
    let answer = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nX-App: yes\r\n\
                  Connection: close, X-Hop\r\nX-Hop: 1\r\nContent-Length: 6\r\n\r\noh no\n";
    let (port, requests) = server(answer);
    let state = state(TOKEN, port);
    let headers = [
        ("fly-replay-src", state.as_str()),
        ("host", "app.example"),
        ("authorization", "Basic dGhlOmFwcA=="),
        ("connection", "x-private"),
        ("x-private", "1"),
        ("x-kept", "1"),
    ];
    // Whatever the path: even those that are ours otherwise. What it says is not touched.
    for path in ["/status", "/healthz", "/a%20b?c=d&e", "/"] {
        let came = client.send("POST", path, &headers, b"body");
        assert_eq!((came.status, came.text.as_str()), (400, "oh no\n"));
        assert_eq!(came.kind, "text/plain");
        let request = requests.recv_timeout(PATIENCE).unwrap();
        assert!(
            request.starts_with(&format!("POST {path} HTTP/1.1\r\n")),
            "{request}"
        );
        for kept in [
            &format!("host: localhost:{port}\r\n"),
            "x-forwarded-host: app.example\r\n",
            "x-kept: 1\r\n",
            "authorization: Basic dGhlOmFwcA==\r\n",
            "\r\n\r\nbody",
        ] {
            assert!(request.contains(kept), "{kept} is not in {request}");
        }
        for gone in ["replay", TOKEN, "x-private"] {
            assert!(!request.contains(gone), "{gone} is in {request}");
        }
    }
    // Our token is nobody else's business.
    let ours = format!("Bearer {TOKEN}");
    let headers = [("fly-replay-src", state.as_str()), ("authorization", &ours)];
    client.send("GET", "/", &headers, b"");
    let request = requests.recv_timeout(PATIENCE).unwrap();
    assert!(!request.contains("authorization"), "{request}");
    daemon.stop(143);
}

#[test]
fn the_token_is_checked_and_errors_say_whose_they_are() {
    let (port, requests) = server("HTTP/1.1 204 No Content\r\n\r\n");
    let config = json!({"url_proxy": {"port": port, "response_timeout": "100ms"}});
    let mut daemon = Sprite::new().config(&config).idle();
    let client = daemon.client();
    let send = |state: &str| client.send("GET", "/status", &[("fly-replay-src", state)], b"");
    for state in [
        format!("state=proxy:wrong:{port}"),
        format!("state=proxy::{port}"),
        "state=proxy::".to_owned(),
        "state=proxy:".to_owned(),
    ] {
        send(&state).assert_problem(401, "proxy:TOKEN:PORT");
    }
    for port in ["x", "0", "65536", "-1"] {
        send(&format!("state=proxy:{TOKEN}:{port}")).assert_problem(400, "is no port");
    }
    assert!(requests.try_recv().is_err());
    // Without a port: the configured one.
    for end in ["", ":"] {
        assert_eq!(send(&format!("state=proxy:{TOKEN}{end}")).status, 204);
    }
    // Nobody listens.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = taken.local_addr().unwrap().port();
    drop(taken);
    send(&state(TOKEN, nobody)).assert_problem(502, "Proxy error");
    // What listens speaks something else.
    let (odd, _requests) = server("SSH-2.0-OpenSSH_9.2\r\n\r\n");
    send(&state(TOKEN, odd)).assert_problem(502, "Proxy error");
    // What listens says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    send(&state(TOKEN, silent_port)).assert_problem(504, "did not begin to answer in 100ms");
    // A server that only comes up now is waited for.
    let late = thread::spawn(move || {
        let listener = TcpListener::bind(("127.0.0.1", nobody)).unwrap();
        server_at(
            listener,
            "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
        )
    });
    assert_eq!(send(&state(TOKEN, nobody)).status, 201);
    late.join().unwrap();
    daemon.stop(143);
}

#[test]
fn an_edge_that_is_trusted_needs_no_token() {
    let (port, _requests) = server("HTTP/1.1 204 No Content\r\n\r\n");
    let config = json!({"url_proxy": {"port": port, "trust_edge": true}});
    let mut daemon = Sprite::new().config(&config).idle();
    let client = daemon.client();
    let send = |state: &str| client.send("GET", "/status", &[("fly-replay-src", state)], b"");
    assert_eq!(send("state=proxy::whatever").status, 204);
    assert_eq!(send(&format!("state=proxy::{port}")).status, 204);
    send("state=proxy:wrong:").assert_problem(401, "Missing");
    // It opens the way to the web server, not to us.
    send("state=whatever").assert_problem(401, "Missing");
    daemon.stop(143);
}

#[test]
fn a_websocket_goes_through_and_ends_for_both() {
    let mut daemon = Sprite::new().idle();
    let (listener, port) = listener();
    let app = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut socket = tungstenite::accept(stream).unwrap();
        let mut count = 0;
        while let Ok(message) = socket.read() {
            if message.is_text() || message.is_binary() {
                count += 1;
                socket.send(message).unwrap();
            }
        }
        count
    });
    let address = daemon
        .client()
        .base()
        .strip_prefix("http://")
        .unwrap()
        .to_owned();
    let stream = TcpStream::connect(&address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request =
        tungstenite::ClientRequestBuilder::new(format!("ws://{address}/live?x=1").parse().unwrap())
            .with_header("fly-replay-src", state(TOKEN, port));
    let (mut socket, _) = tungstenite::client(request, stream).unwrap();
    for n in 0..100 {
        let message = Message::Binary(vec![n; 10_000].into());
        socket.send(message.clone()).unwrap();
        assert_eq!(socket.read().unwrap(), message);
    }
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
    assert_eq!(app.join().unwrap(), 100);
    daemon.stop(143);
}

#[test]
fn a_body_without_a_length_arrives_whatever_the_method() {
    let mut daemon = Sprite::new().idle();
    let (listener, port) = listener();
    let app = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut stream = BufReader::new(stream);
        let mut request = String::new();
        while !request.ends_with("0\r\n\r\n") && stream.read_line(&mut request).unwrap() > 0 {}
        let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
        stream.get_mut().write_all(answer).unwrap();
        request
    });
    let client = daemon.client();
    let address = client.base().strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!(
        "GET /_search HTTP/1.1\r\nHost: x\r\nfly-replay-src: {}\r\nConnection: close, host\r\n\
         Transfer-Encoding: chunked\r\n\r\n5\r\nquery\r\n0\r\n\r\n",
        state(TOKEN, port)
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    let request = app.join().unwrap();
    assert!(request.contains("5\r\nquery\r\n"), "{request}");
    assert!(request.contains("host: localhost:"), "{request}");
    daemon.stop(143);
}

#[test]
fn large_bodies_stream_both_ways() {
    let mut daemon = Sprite::new().idle();
    let (listener, port) = listener();
    // It answers while it reads, so neither side may wait for the other's end.
    let app = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).unwrap();
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut left = 50_000_000;
        let mut buffer = vec![0; 100_000];
        while left > 0 {
            let read = reader.read(&mut buffer).unwrap();
            stream.write_all(&buffer[..read]).unwrap();
            left -= read;
        }
    });
    let address = daemon
        .client()
        .base()
        .strip_prefix("http://")
        .unwrap()
        .to_owned();
    let mut stream = TcpStream::connect(address).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let state = state(TOKEN, port);
    let sending = thread::spawn(move || {
        let head = format!(
            "PUT /big HTTP/1.1\r\nHost: x\r\nfly-replay-src: {state}\r\n\
             Content-Length: 50000000\r\nConnection: close\r\n\r\n"
        );
        writer.write_all(head.as_bytes()).unwrap();
        for n in 0..500_u16 {
            writer.write_all(&vec![(n % 251) as u8; 100_000]).unwrap();
        }
    });
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    sending.join().unwrap();
    app.join().unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
    assert!(answer.len() > 50_000_000, "{}", answer.len());
    daemon.stop(143);
}
