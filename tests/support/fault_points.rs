//! Fault points: each place where a daemon asks the kernel to change something, by the call and
//! what it changes. A daemon is killed there, before the call is carried out.
//!
//! They are found by tracing an operation once, so that none is forgotten; another process traces,
//! for what it is told of a daemon must not be taken for the daemon's end by those who wait.

mod calls;
mod tracing;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

pub use self::calls::without_numbers;
use super::Daemon;

/// What the environment of a process that traces says: the daemon's process id, its directory,
/// and where it is to be killed, if anywhere.
const ORDER: &str = "SPRITE_TEST_TRACE";
/// What its lines begin with.
const MARK: &str = "fault point: ";
/// What it says when it has begun, and when it cannot.
const TRACING: &str = "tracing";
const REFUSED: &str = "refused";
/// What it says when it has killed the daemon.
const KILLED: &str = "killed";

/// A place where a daemon can be killed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// The call and what it changes, numbers and random names left out.
    pub name: String,
    /// The how-manieth such call since tracing began, from 1.
    pub occurrence: usize,
}

impl fmt::Display for Point {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.name, self.occurrence)
    }
}

/// Traces a daemon; lets go of it when this is dropped.
pub struct Tracing {
    child: Child,
    /// What the process that traces has said in the end.
    said: Option<JoinHandle<Vec<String>>>,
}

impl Tracing {
    /// Begins; kills the daemon at `point`, if there is one. None where the kernel refuses.
    pub fn begin(daemon: &Daemon, point: Option<&Point>) -> Option<Self> {
        let order = serde_json::json!({
            "pid": daemon.pid(),
            "root": daemon.sprite.dir.path().canonicalize().unwrap(),
            "name": point.map(|point| &point.name),
            "occurrence": point.map(|point| point.occurrence),
        });
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture"])
            .arg("support::fault_points::traces_for_another_test")
            .env(ORDER, order.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let lines = lines.map_while(Result::ok);
        let mut said = lines.filter_map(|line| Some(line.split_once(MARK)?.1.to_owned()));
        let first = said.next();
        let tracing = Self {
            child,
            // It must never wait for somebody who reads.
            said: Some(std::thread::spawn(move || said.collect())),
        };
        match first.as_deref() {
            Some(TRACING) => Some(tracing),
            Some(REFUSED) => None,
            said => panic!("the process that traces said {said:?}"),
        }
    }

    /// Ends; each point that the daemon has come to, or that it was killed.
    fn end(mut self) -> Vec<String> {
        let _ = self.child.kill();
        self.said.take().unwrap().join().unwrap()
    }

    /// Ends; how often the daemon has come to each point, in the order of the first time.
    pub fn points(self) -> Vec<(String, usize)> {
        counted(self.end().into_iter())
    }

    /// Ends; whether the daemon was killed at the point.
    pub fn has_killed(self) -> bool {
        self.end().iter().any(|said| said == KILLED)
    }
}

/// How often each of these is there, in the order of the first time.
pub fn counted(names: impl Iterator<Item = String>) -> Vec<(String, usize)> {
    let mut found: Vec<(String, usize)> = Vec::new();
    let mut places = BTreeMap::new();
    for name in names {
        let place = *places.entry(name.clone()).or_insert(found.len());
        if place == found.len() {
            found.push((name, 0));
        }
        found[place].1 += 1;
    }
    found
}

impl Drop for Tracing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where to kill: each point once, at any of its times, as `SPRITE_SEED` says; with
/// `SPRITE_FAULT_POINTS=all` each time.
pub fn chosen(found: &[(String, usize)]) -> Vec<Point> {
    let all = std::env::var("SPRITE_FAULT_POINTS").is_ok_and(|points| points == "all");
    let seed =
        std::env::var("SPRITE_SEED").map_or_else(|_| fastrand::u64(..), |it| it.parse().unwrap());
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut points = Vec::new();
    for (name, count) in found {
        let one = random.usize(1..=*count);
        let times = if all { 1..=*count } else { one..=one };
        points.extend(times.map(|occurrence| Point {
            name: name.clone(),
            occurrence,
        }));
    }
    points
}

/// Traces as a process of its own, as another test has ordered.
#[test]
#[ignore = "it traces for other tests, in a process of its own"]
fn traces_for_another_test() {
    let Ok(order) = std::env::var(ORDER) else {
        return;
    };
    let order: serde_json::Value = serde_json::from_str(&order).unwrap();
    let pid = i32::try_from(order["pid"].as_i64().unwrap()).unwrap();
    let root = Path::new(order["root"].as_str().unwrap());
    let wanted = order["name"].as_str().map(|name| Point {
        name: name.to_owned(),
        occurrence: usize::try_from(order["occurrence"].as_u64().unwrap()).unwrap(),
    });
    match tracing::seize(pid) {
        Ok(()) => say(TRACING),
        Err(error) => {
            eprintln!("{error}");
            return say(REFUSED);
        }
    }
    tracing::follow(pid, root, wanted.as_ref(), &say);
}

/// Says something to the test that has ordered this.
fn say(what: &str) {
    println!("{MARK}{what}");
}
