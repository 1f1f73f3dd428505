//! Fault points: each place where a daemon asks the kernel to change something, by the call and
//! what it changes. A daemon is killed there, before the call is carried out.
//!
//! They are found by tracing an operation once, so that none is forgotten; another process traces,
//! for what it is told of a daemon must not be taken for the daemon's end by those who wait.

mod calls;
mod tracing;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

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
    lines: Lines<BufReader<ChildStdout>>,
}

impl Tracing {
    /// Begins; kills the daemon at `point`, if there is one. None where the kernel refuses.
    pub fn begin(daemon: &Daemon, point: Option<&Point>) -> Option<Self> {
        let order = serde_json::json!({
            "pid": daemon.pid(),
            "root": daemon.sprite.dir.path(),
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
        let mut tracing = Self { child, lines };
        match tracing.next().as_deref() {
            Some(TRACING) => Some(tracing),
            Some(REFUSED) => None,
            said => panic!("the process that traces said {said:?}"),
        }
    }

    /// What it says next; none when it has ended.
    fn next(&mut self) -> Option<String> {
        let mut said = self.lines.by_ref().map_while(Result::ok);
        said.find_map(|line| Some(line.split_once(MARK)?.1.to_owned()))
    }

    /// Ends; how often the daemon has come to each point, in the order of the first time.
    pub fn end(mut self) -> Vec<(String, usize)> {
        let _ = self.child.kill();
        counted(std::iter::from_fn(|| self.next()))
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

/// Where to kill: each point once, at any of its times; with `SPRITE_FAULT_POINTS=all` each time.
pub fn chosen(found: &[(String, usize)]) -> Vec<Point> {
    let all = std::env::var("SPRITE_FAULT_POINTS").is_ok_and(|points| points == "all");
    let times = |count: usize| {
        if all {
            1..=count
        } else {
            let one = fastrand::usize(1..=count);
            one..=one
        }
    };
    let points = found.iter().flat_map(|(name, count)| {
        times(*count).map(|occurrence| Point {
            name: name.clone(),
            occurrence,
        })
    });
    points.collect()
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
