//! Commands, streams, files and ports over the wire, each beside a program that does the
//! same work and nothing else, in the same run. Prints a table; a missed bar fails it.
//!
//! `SPRITE_BENCH_EXECS` (50000) and `SPRITE_BENCH_GIB` (4) make it shorter.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_precision_loss,
    reason = "a benchmark"
)]

mod daemon;
mod peers;
#[path = "../shared.rs"]
mod shared;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use daemon::{Daemon, socket, until_exit};
use shared::{median, timed};
use tungstenite::Message;

/// The size of the messages that the daemon sends output in, frame byte included.
const CHUNK: usize = 32 * 1024;
const GIB: u64 = 1 << 30;

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let mut table = Table::default();
    println!("| what | sprite-env | peer | ratio | bar |\n|---|---|---|---|---|");
    let daemon = Daemon::start(dir.path());
    let bare = peers::websocket(CHUNK);
    latency(&daemon, &bare, &mut table);
    growth(&daemon, &mut table);
    idle_sessions(dir.path(), &mut table);
    stream(&daemon, &bare, &mut table);
    download(&daemon, dir.path(), &mut table);
    proxy(&daemon, &mut table);
    std::process::exit(i32::from(table.missed));
}

/// What is printed.
#[derive(Default)]
struct Table {
    missed: bool,
}

impl Table {
    fn row(
        &mut self,
        what: &str,
        ours: &str,
        peer: &str,
        ratio: Option<f64>,
        bar: Option<(&str, bool)>,
    ) {
        let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let bar = match bar {
            None => String::new(),
            Some((bar, true)) => bar.to_owned(),
            Some((bar, false)) => {
                self.missed = true;
                format!("{bar}: **missed**")
            }
        };
        println!("| {what} | {ours} | {peer} | {ratio} | {bar} |");
    }

    fn absent(&mut self, what: &str, peer: &str) {
        self.row(what, "", &format!("{peer} is not installed"), None, None);
    }
}

fn number(variable: &str, default: u64) -> u64 {
    let text = std::env::var(variable).ok();
    text.map_or(default, |text| text.parse().unwrap())
}

fn exec(daemon: &Daemon) {
    let mut socket = daemon.socket("/exec?cmd=/bin/true");
    until_exit(&mut socket);
    // As clients do: it lets the daemon close first.
    while socket.read().is_ok() {}
}

/// `/bin/true` from the connect to the exit, beside running it plus a round trip.
fn latency(daemon: &Daemon, bare: &str, table: &mut Table) {
    let (mut ours, mut runs, mut trips, mut connects) = (vec![], vec![], vec![], vec![]);
    let mut open = socket(bare, "/");
    for _ in 0..2000 {
        let start = Instant::now();
        let mut session = daemon.socket("/exec?cmd=/bin/true");
        until_exit(&mut session);
        ours.push(start.elapsed());
        while session.read().is_ok() {}
        runs.push(timed(|| {
            Command::new("/bin/true").status().unwrap();
        }));
        let echo = |socket: &mut tungstenite::WebSocket<TcpStream>| {
            socket.send(Message::Binary(vec![1].into())).unwrap();
            socket.read().unwrap();
        };
        trips.push(timed(|| echo(&mut open)));
        connects.push(timed(|| echo(&mut socket(bare, "/"))));
    }
    let (ours, run) = (median(ours), median(runs));
    for (name, trip, bar) in [
        ("a round trip on an open WebSocket", median(trips), false),
        ("a round trip on a new WebSocket", median(connects), true),
    ] {
        let peer = run + trip;
        let ratio = ours.as_secs_f64() / peer.as_secs_f64();
        let shown = format!("{peer:.2?}: fork, exec, wait {run:.2?} and {name} {trip:.2?}");
        let bar = bar.then_some(("at most 1.3", ratio <= 1.3));
        table.row(
            "`/bin/true`, connect to exit, median",
            &format!("{ours:.2?}"),
            &shown,
            Some(ratio),
            bar,
        );
    }
}

/// Many commands, one after another: how fast, and what is left of them.
fn growth(daemon: &Daemon, table: &mut Table) {
    let count = number("SPRITE_BENCH_EXECS", 50_000);
    for _ in 0..count / 10 {
        exec(daemon);
    }
    let before = (daemon.files(), daemon.threads(), daemon.memory("Rss:"));
    let took = timed(|| (0..count).for_each(|_| exec(daemon)));
    let after = (daemon.files(), daemon.threads(), daemon.memory("Rss:"));
    let rate = count as f64 / took.as_secs_f64();
    table.row(
        "commands a second, one after another, a connection each",
        &format!("{rate:.0}"),
        "",
        None,
        Some(("at least 300", rate >= 300.0)),
    );
    let grown = after.2.saturating_sub(before.2);
    // A thread of the blocking pool may come or go, and what it holds with it.
    let steady = after.0 <= before.0 && after.1 <= before.1 + 2 && grown < 1024;
    table.row(
        &format!("growth over {count} commands: files, threads, KiB"),
        &format!(
            "{}→{}, {}→{}, {}→{}",
            before.0, after.0, before.1, after.1, before.2, after.2
        ),
        "",
        None,
        Some(("none", steady)),
    );
}

fn idle_sessions(dir: &Path, table: &mut Table) {
    let daemon = Daemon::start(dir);
    let mut sockets: Vec<_> = (0..1000)
        .map(|_| {
            let mut socket = daemon.socket("/exec?cmd=sleep&cmd=100000&tty=true");
            socket.read().unwrap();
            socket
        })
        .collect();
    let (rss, pss) = (daemon.memory("Rss:"), daemon.memory("Pss:"));
    let ours = format!("{} MB (PSS {} MB)", rss / 1024, pss / 1024);
    let what = "memory with 1,000 idle attached terminals";
    table.row(
        what,
        &ours,
        "",
        None,
        Some(("under 60 MB", rss < 60 * 1024)),
    );
    for socket in &mut sockets {
        let _ = socket.close(None);
    }
}

/// Three rounds of each in turn; the best of each, in bytes a second.
fn best<const N: usize>(bytes: u64, mut ways: [&mut dyn FnMut(); N]) -> [f64; N] {
    let mut best = [Duration::MAX; N];
    for _ in 0..3 {
        for (way, best) in ways.iter_mut().zip(&mut best) {
            *best = timed(way).min(*best);
        }
    }
    best.map(|time| bytes as f64 / time.as_secs_f64())
}

fn rate(bytes: f64) -> String {
    format!("{:.0} MB/s", bytes / 1e6)
}

fn stream(daemon: &Daemon, bare: &str, table: &mut Table) {
    let bytes = number("SPRITE_BENCH_GIB", 4) * GIB;
    let command = format!("/exec?cmd=sh&cmd=-c&cmd=cat+/dev/zero+|+head+-c+{bytes}");
    let mut ours = || {
        let mut session = daemon.socket(&command);
        assert_eq!(until_exit(&mut session), bytes);
    };
    let mut echo = || {
        let mut reader = socket(bare, "/");
        let writer = reader.get_ref().try_clone().unwrap();
        let sending = std::thread::spawn(move || {
            let role = tungstenite::protocol::Role::Client;
            let mut writer = tungstenite::WebSocket::from_raw_socket(writer, role, None);
            let chunk = bytes::Bytes::from(vec![0; CHUNK]);
            for _ in 0..bytes / CHUNK as u64 {
                writer.send(Message::Binary(chunk.clone())).unwrap();
            }
        });
        let mut left = bytes;
        while left > 0 {
            left -= reader.read().unwrap().len() as u64;
        }
        sending.join().unwrap();
    };
    let mut one_way = || {
        let mut reader = socket(bare, "/");
        reader
            .send(Message::Text(bytes.to_string().into()))
            .unwrap();
        let mut left = bytes;
        while left > 0 {
            left -= reader.read().unwrap().len() as u64;
        }
    };
    let mut pipe = || {
        let script = format!("cat /dev/zero | head -c {bytes} | cat >/dev/null");
        Command::new("sh").args(["-c", &script]).status().unwrap();
    };
    let [ours, echo, one_way, pipe] = best(bytes, [&mut ours, &mut echo, &mut one_way, &mut pipe]);
    let what = format!(
        "`cat /dev/zero \\| head -c {}G` through the socket",
        bytes / GIB
    );
    let peers = [
        ("tokio-tungstenite, echo", echo, true),
        ("tokio-tungstenite, one way", one_way, false),
        ("the same into `cat`, no socket at all", pipe, false),
    ];
    for (name, peer, has_bar) in peers {
        let ratio = ours / peer;
        let bar = has_bar.then_some(("at least 0.60", ratio >= 0.6));
        table.row(
            &what,
            &rate(ours),
            &format!("{}: {name}", rate(peer)),
            Some(ratio),
            bar,
        );
    }
}

/// Reads an answer to a GET to its end; the bytes of its body.
fn get(address: &str, path: &str, headers: &str) -> u64 {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut buffer = vec![0; 256 * 1024];
    let mut bytes = 0;
    let mut head = Vec::new();
    loop {
        let read = stream.read(&mut buffer).unwrap();
        if read == 0 {
            return bytes;
        }
        if bytes > 0 {
            bytes += read as u64;
            continue;
        }
        head.extend_from_slice(&buffer[..read]);
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            assert!(
                head.starts_with(b"HTTP/1.1 200"),
                "{}",
                String::from_utf8_lossy(&head)
            );
            bytes = (head.len() - end - 4) as u64;
        }
    }
}

fn download(daemon: &Daemon, dir: &Path, table: &mut Table) {
    let what = "download of a file of 1 GiB";
    let Some(nginx) = peers::nginx(dir) else {
        return table.absent(what, "nginx");
    };
    std::fs::write(dir.join("big"), vec![7; 1 << 30]).unwrap();
    let path = format!("/fs/read?path={}/big", dir.display());
    let headers = Daemon::headers();
    let address = format!("127.0.0.1:{}", nginx.port);
    let [ours, peer] = best(
        GIB,
        [
            &mut || assert_eq!(get(daemon.address(), &path, &headers), GIB),
            &mut || assert_eq!(get(&address, "/big", ""), GIB),
        ],
    );
    let ratio = ours / peer;
    let peer = format!("{}: nginx, sendfile", rate(peer));
    table.row(
        what,
        &rate(ours),
        &peer,
        Some(ratio),
        Some(("at least 0.80", ratio >= 0.8)),
    );
}

/// A port that sends a GiB to whoever connects, through the proxy and through socat.
fn proxy(daemon: &Daemon, table: &mut Table) {
    let what = "1 GiB from a port through the proxy";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let chunk = vec![0; 128 * 1024];
            for _ in 0..GIB / chunk.len() as u64 {
                if stream.write_all(&chunk).is_err() {
                    break;
                }
            }
        }
    });
    let Some(socat) = peers::socat(port) else {
        return table.absent(what, "socat");
    };
    let mut ours = || {
        let mut socket = daemon.socket("/proxy");
        let target = format!("{{\"host\": \"localhost\", \"port\": {port}}}");
        socket.send(Message::Text(target.into())).unwrap();
        let mut left = GIB;
        while left > 0 {
            if let Message::Binary(bytes) = socket.read().unwrap() {
                left -= bytes.len() as u64;
            }
        }
    };
    let mut peer = || {
        let mut stream = TcpStream::connect(("127.0.0.1", socat.port)).unwrap();
        let mut buffer = vec![0; 256 * 1024];
        let mut left = GIB;
        while left > 0 {
            left -= stream.read(&mut buffer).unwrap() as u64;
        }
    };
    let [ours, peer] = best(GIB, [&mut ours, &mut peer]);
    let ratio = ours / peer;
    let peer = format!("{}: socat", rate(peer));
    table.row(
        what,
        &rate(ours),
        &peer,
        Some(ratio),
        Some(("at least 0.70", ratio >= 0.7)),
    );
}
