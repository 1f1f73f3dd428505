//! sprite-env as an init, beside others, each as PID 1 of a PID namespace of its own, in the
//! same run. Needs root and a C compiler; a peer that is missing is said to be.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::unchecked_time_subtraction,
    reason = "a benchmark"
)]

mod behaviour;
mod inits;
#[path = "../shared.rs"]
#[allow(dead_code, reason = "each benchmark needs a part of it")]
mod shared;

use std::path::{Path, PathBuf};
use std::time::Duration;

use inits::{Init, Running, clock, wait_for_stamps};
use shared::median;

/// What is measured of one init.
#[derive(Debug, Default)]
struct Row {
    name: &'static str,
    start: Option<Duration>,
    end: Option<Duration>,
    signal: Option<(Duration, Duration)>,
    orphans: Option<(Duration, Duration)>,
    memory: Option<u64>,
    wakeups: Option<u64>,
    successor: Option<Duration>,
}

fn main() {
    if !rustix::process::geteuid().is_root() {
        println!("init: skipped, needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let helper = dir.path().join("helper");
    let built = std::process::Command::new("cc")
        .args(["-O2", "-static", "-o"])
        .arg(&helper)
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/benches/init/helper.c"
        ))
        .status();
    assert!(
        built.is_ok_and(|status| status.success()),
        "needs a C compiler"
    );
    let (missing, there): (Vec<_>, _) = inits::all().into_iter().partition(|it| it.is_missing());
    for init in missing {
        println!("{}: not installed", init.name());
    }
    let variants = [Init::SpriteWithApi, Init::Static, Init::StaticWithApi];
    let one_of_each: Vec<_> = there
        .iter()
        .copied()
        .filter(|init| !variants.contains(init))
        .collect();
    behaviour::matrix(&one_of_each, &helper, dir.path());
    let rows: Vec<_> = there
        .iter()
        .map(|init| measure(*init, &helper, dir.path()))
        .collect();
    print(&rows);
    judge(&rows);
}

fn measure(init: Init, helper: &Path, dir: &Path) -> Row {
    eprintln!("{}…", init.name());
    let dir = tempfile::tempdir_in(dir).unwrap();
    let bench = Bench {
        init,
        helper,
        dir: dir.path(),
    };
    let mut row = Row {
        name: init.name(),
        memory: Some(bench.memory()),
        wakeups: Some(bench.wakeups()),
        successor: bench.successor(),
        ..Row::default()
    };
    if init.runs_a_child() {
        row.start = Some(bench.start());
        row.end = Some(bench.end());
        row.signal = init.forwards().then(|| bench.signal());
        row.orphans = Some(bench.orphans());
    } else if init.name() == "s6-svscan" {
        row.start = Some(bench.start());
    }
    row
}

struct Bench<'a> {
    init: Init,
    helper: &'a Path,
    dir: &'a Path,
}

impl Bench<'_> {
    fn file(&self, name: &str) -> PathBuf {
        let path = self.dir.join(name);
        let _ = std::fs::remove_file(&path);
        path
    }

    fn run(&self, what: &str, file: &Path, more: &[&str]) -> Running {
        self.init.run(self.helper, self.dir, what, file, more)
    }

    /// From the exec of the init to the first instruction of its child.
    fn start(&self) -> Duration {
        let times = (0..51).map(|_| {
            let file = self.file("start");
            let mut running = self.run("stay", &file, &[]);
            let times = wait_for_stamps(&file, 2);
            running.kill();
            times[1] - times[0]
        });
        median(times.collect())
    }

    /// From SIGTERM to the end of the init, whose child ends at once.
    fn end(&self) -> Duration {
        let times = (0..51).map(|_| {
            let file = self.file("end");
            let mut running = self.run("stay", &file, &[]);
            wait_for_stamps(&file, 2);
            // The init may have to note first that its child runs.
            std::thread::sleep(Duration::from_millis(20));
            let start = clock();
            running.signal(rustix::process::Signal::TERM);
            running.wait();
            clock() - start
        });
        median(times.collect())
    }

    /// From the signal to its handler: median and 99th percentile.
    fn signal(&self) -> (Duration, Duration) {
        let file = self.file("signal");
        let mut running = self.run("hear", &file, &[]);
        wait_for_stamps(&file, 2);
        std::thread::sleep(Duration::from_millis(50));
        let mut times = Vec::new();
        for heard in 0..2_000 {
            let start = clock();
            running.signal(rustix::process::Signal::USR1);
            times.push(wait_for_stamps(&file, 3 + heard)[2 + heard] - start);
        }
        running.kill();
        times.sort();
        (times[times.len() / 2], times[times.len() * 99 / 100])
    }

    /// From the end of the last of 50,000 orphans until none is a zombie, and what processor
    /// time all of them cost the init.
    fn orphans(&self) -> (Duration, Duration) {
        let rounds = (0..3).map(|_| {
            let file = self.file("orphans");
            let mut running = self.run("orphans", &file, &["50000"]);
            wait_for_stamps(&file, 2);
            let before = running.processor_time();
            let time = wait_for_stamps(&file, 3)[2];
            let used = running.processor_time() - before;
            running.kill();
            (time, used)
        });
        let (times, used): (Vec<_>, Vec<_>) = rounds.unzip();
        (median(times), median(used))
    }

    /// The memory of the init, in KiB, its share of what others use too included.
    fn memory(&self) -> u64 {
        let mut running = self.idle();
        let memory = running.memory();
        running.kill();
        memory
    }

    /// How often the init wakes up within 10 seconds in which nothing happens.
    fn wakeups(&self) -> u64 {
        let mut running = self.idle();
        let before = running.switches();
        std::thread::sleep(Duration::from_secs(10));
        let wakeups = running.switches() - before;
        running.kill();
        wakeups
    }

    fn idle(&self) -> Running {
        let file = self.file("idle");
        let running = self.run("stay", &file, &[]);
        wait_for_stamps(&file, 2);
        // By then threads that were needed for the start are gone.
        std::thread::sleep(Duration::from_secs(12));
        running
    }

    /// From a crash of a service to the first instruction of its successor.
    fn successor(&self) -> Option<Duration> {
        if !self.init.restarts() {
            return None;
        }
        let file = self.file("crash");
        let mut running = self.run("crash", &file, &[]);
        let times = wait_for_stamps(&file, 2 + 2 * 9);
        running.kill();
        // After the launch: start, crash, start, crash, …
        let gaps = times[2..].chunks_exact(2).map(|pair| pair[1] - pair[0]);
        Some(median(gaps.collect()))
    }
}

fn print(rows: &[Row]) {
    let time = |time: Option<Duration>| {
        time.map_or_else(String::new, |time| {
            format!("{:.2} ms", time.as_secs_f64() * 1e3)
        })
    };
    let micros = |time: Duration| format!("{:.0} µs", time.as_secs_f64() * 1e6);
    println!(
        "| init | start | memory (PSS) | wakeups in 10 s | 50,000 orphans | of that, its processor \
         time | signal, median / p99 | SIGTERM to gone | crash to successor |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for row in rows {
        println!(
            "| {} | {} | {} KiB | {} | {} | {} | {} | {} | {} |",
            row.name,
            time(row.start),
            row.memory.unwrap_or_default(),
            row.wakeups.unwrap_or_default(),
            time(row.orphans.map(|(time, _)| time)),
            time(row.orphans.map(|(_, used)| used)),
            row.signal.map_or_else(String::new, |(median, p99)| {
                format!("{} / {}", micros(median), micros(p99))
            }),
            time(row.end),
            time(row.successor),
        );
    }
}

/// Says which bars are met, by the binary that is linked dynamically and the static one.
fn judge(rows: &[Row]) {
    judge_one(rows, "sprite-env", "sprite-env, API on");
    judge_one(rows, "sprite-env, static", "sprite-env, static, API on");
}

fn judge_one(rows: &[Row], name: &str, with_api: &str) {
    let row = |name| rows.iter().find(|row| row.name == name);
    let Some(ours) = row(name) else {
        return;
    };
    println!("{name}:");
    let ratio = |what: &str, ours: Option<Duration>, peer: Option<Duration>, bar: f64| {
        if let (Some(ours), Some(peer)) = (ours, peer) {
            let ratio = ours.as_secs_f64() / peer.as_secs_f64();
            let verdict = if ratio <= bar { "met" } else { "MISSED" };
            println!("{what}: {ratio:.2}, bar {bar}: {verdict}");
        }
    };
    if let Some(tini) = row("tini") {
        ratio("start / tini", ours.start, tini.start, 2.0);
        let time = |row: &Row| row.orphans.map(|(time, _)| time);
        ratio("orphans, time / tini", time(ours), time(tini), 1.2);
        let used = |row: &Row| row.orphans.map(|(_, used)| used);
        ratio("orphans, processor / tini", used(ours), used(tini), 1.2);
        let median = |row: &Row| row.signal.map(|(median, _)| median);
        ratio("signal, median / tini", median(ours), median(tini), 1.5);
        let p99 = |row: &Row| row.signal.map(|(_, p99)| p99);
        ratio("signal, p99 / tini", p99(ours), p99(tini), 2.0);
        ratio("SIGTERM to gone / tini", ours.end, tini.end, 1.5);
    }
    if let Some(s6) = row("s6-svscan") {
        ratio("start / s6-svscan", ours.start, s6.start, 0.6);
        ratio("successor / s6", ours.successor, s6.successor, 0.7);
    }
    let memory = row(with_api).and_then(|row| row.memory).unwrap_or(0);
    let supervisord = row("supervisord").and_then(|row| row.memory);
    println!("memory, API on: {:.1} MB, bar 6", memory as f64 / 1024.0);
    if let Some(peer) = supervisord {
        println!(
            "memory / supervisord: {:.2}, bar 0.35",
            memory as f64 / peer as f64
        );
    }
    println!("wakeups: {}, bar 0", ours.wakeups.unwrap_or_default());
}
