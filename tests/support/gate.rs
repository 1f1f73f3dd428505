//! A gate in front of a service, which does what networks and services do on bad days, and kills
//! whoever sends or awaits a certain request.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::bucket::{BUCKET, with_bucket};
use super::fault_points::{Point, without_numbers};
use super::{Sprite, Value, json, signal_process};

/// What happens at a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Weather {
    /// Nothing.
    Fair,
    /// Connections are closed at once.
    Closed,
    /// Every request is answered with 500.
    Error,
    /// Every request is answered with 503.
    Unavailable,
    /// Answers end in the middle.
    CutOff,
    /// A byte of every long answer is another.
    Garbled,
    /// Everything takes its time.
    Slow,
    /// The condition of a write does not arrive.
    Unconditional,
}

const WEATHER: [Weather; 8] = [
    Weather::Fair,
    Weather::Closed,
    Weather::Error,
    Weather::Unavailable,
    Weather::CutOff,
    Weather::Garbled,
    Weather::Slow,
    Weather::Unconditional,
];

/// A gate in front of a service.
pub struct Gate {
    address: String,
    weather: Arc<Sky>,
}

/// What it does, and how often it has done so.
#[derive(Default)]
struct Sky {
    weather: AtomicU8,
    spoilt: AtomicUsize,
    /// The requests that have come, by name.
    requests: Mutex<Vec<String>>,
    ambush: Mutex<Option<(Moment, i32)>>,
}

/// A moment at which somebody is killed: a request, by its name and occurrence.
#[derive(Clone, Debug)]
pub struct Moment {
    pub request: Point,
    /// Whether the service has carried it out by then, and only the answer is missing.
    pub is_done: bool,
}

impl std::fmt::Display for Moment {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let moment = if self.is_done { "after" } else { "before" };
        write!(formatter, "{moment} {}", self.request)
    }
}

impl Gate {
    pub(super) fn before(service: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let weather = Arc::<Sky>::default();
        let (service, told) = (service.to_owned(), Arc::clone(&weather));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (service, weather) = (service.clone(), Arc::clone(&told));
                std::thread::spawn(move || pass(client, &service, &weather));
            }
        });
        Self { address, weather }
    }

    pub fn set(&self, weather: Weather) {
        self.weather.spoilt.store(0, Ordering::SeqCst);
        self.weather.weather.store(weather as u8, Ordering::SeqCst);
    }

    /// How many requests and answers it has spoilt since.
    pub fn spoilt(&self) -> usize {
        self.weather.spoilt.load(Ordering::SeqCst)
    }

    /// Kills this process at this moment, as counted since the requests were last asked for.
    pub fn ambush(&self, pid: i32, moment: &Moment) {
        *self.weather.ambush.lock().unwrap() = Some((moment.clone(), pid));
    }

    /// The requests that have come since this was last called; nobody is killed any more.
    pub fn requests(&self) -> Vec<String> {
        *self.weather.ambush.lock().unwrap() = None;
        std::mem::take(&mut *self.weather.requests.lock().unwrap())
    }

    /// A sprite that uses the bucket through the gate.
    pub fn sprite(&self) -> Sprite {
        self.sprite_with(&json!({}))
    }

    /// The same with more settings.
    pub fn sprite_with(&self, config: &Value) -> Sprite {
        with_bucket(&format!("http://{}", self.address), config)
    }
}

impl Sky {
    /// Takes note of a request; whether somebody is to be killed now, or when it was carried out.
    fn arrived(&self, bytes: &[u8]) -> Option<(Moment, i32)> {
        let name = request_name(bytes)?;
        let mut requests = self.requests.lock().unwrap();
        requests.push(name.clone());
        let occurrence = requests.iter().filter(|it| **it == name).count();
        let request = Point { name, occurrence };
        let ambush = &mut *self.ambush.lock().unwrap();
        ambush.take_if(|(moment, _)| moment.request == request)
    }
}

/// The name of the request that begins here, if one does: what is done, and the object's kind.
fn request_name(bytes: &[u8]) -> Option<String> {
    let line = bytes.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let (method, target, _http) = (words.next()?, words.next()?, words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let key = path.strip_prefix(&format!("/{BUCKET}"))?.trim_matches('/');
    let of = |name: &str| query.split('&').find_map(|it| it.strip_prefix(name));
    Some(match (method, of("prefix=")) {
        (_, Some(prefix)) => {
            let last = prefix.trim_end_matches("%2F").rsplit("%2F").next()?;
            format!("LIST {last}")
        }
        _ if !query.is_empty() && key.is_empty() => format!("{method} ?{query}"),
        // What comes before it is the test's.
        _ => format!(
            "{method} {}",
            without_numbers(key.split_once('/').map_or(key, |(_, key)| key))
        ),
    })
}

fn now(sky: &Sky) -> Weather {
    let weather = WEATHER[usize::from(sky.weather.load(Ordering::SeqCst))];
    if weather != Weather::Fair {
        sky.spoilt.fetch_add(1, Ordering::SeqCst);
    }
    weather
}

/// Passes one connection on, both ways.
fn pass(mut client: TcpStream, service: &str, weather: &Arc<Sky>) {
    let Ok(mut service) = TcpStream::connect(service) else {
        return;
    };
    let (mut answers, mut back) = (service.try_clone().unwrap(), client.try_clone().unwrap());
    let told = Arc::clone(weather);
    // Who is to be killed when the answer comes.
    let awaits = Arc::<Mutex<Option<i32>>>::default();
    let awaiting = Arc::clone(&awaits);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = answers.read(&mut buffer) {
            let pid = awaiting.lock().unwrap().take();
            if let Some(pid) = pid {
                signal_process(pid, libc::SIGKILL);
                break;
            }
            let bytes = &mut buffer[..length];
            let mut wanted = length;
            match now(&told) {
                Weather::CutOff => wanted = length / 2,
                Weather::Garbled if length > 1_000 => bytes[length / 2] ^= 0xff,
                Weather::Slow => std::thread::sleep(Duration::from_millis(20)),
                _ => {}
            }
            if back.write_all(&bytes[..wanted]).is_err() || wanted < length {
                break;
            }
        }
        let _ = back.shutdown(Shutdown::Both);
    });
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = client.read(&mut buffer) {
        let mut bytes = buffer[..length].to_vec();
        match weather.arrived(&bytes) {
            Some((moment, pid)) if !moment.is_done => {
                signal_process(pid, libc::SIGKILL);
                break;
            }
            Some((_, pid)) => *awaits.lock().unwrap() = Some(pid),
            None => {}
        }
        match now(weather) {
            Weather::Closed => break,
            Weather::Error => return refuse(&mut client, "500 Internal Server Error"),
            Weather::Unavailable => return refuse(&mut client, "503 Slow Down"),
            Weather::Slow => std::thread::sleep(Duration::from_millis(20)),
            Weather::Unconditional => {
                let condition = b"if-none-match: *";
                let at = bytes
                    .windows(condition.len())
                    .position(|it| it == condition);
                if let Some(at) = at {
                    bytes[at..at + 2].copy_from_slice(b"x-");
                }
            }
            _ => {}
        }
        if service.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = service.shutdown(Shutdown::Both);
    let _ = client.shutdown(Shutdown::Both);
}

fn refuse(client: &mut TcpStream, status: &str) {
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let _ = client.write_all(answer.as_bytes());
    let _ = client.shutdown(Shutdown::Both);
}
