//! What each init does: the same questions to all of them, each answered by what happens.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::inits::{Init, Running, wait_for_stamps};

/// How long something may take that is to happen.
const SOON: Duration = Duration::from_secs(3);

/// The signals that a process can catch, but for those that begin the end, tell of children or
/// are of job control.
fn standard() -> impl Iterator<Item = i32> {
    (1..=31).filter(|signal| ![2, 9, 15, 17, 18, 19, 20, 21, 22].contains(signal))
}

/// A question, and how it is answered for one init; none = it does not apply.
type Question = (&'static str, fn(&Case<'_>) -> Option<String>);

const QUESTIONS: &[Question] = &[
    ("exit code 42 of the child is its own", |case| {
        case.init
            .runs_a_child()
            .then(|| yes(case.exit_of("exit", &["42"]) == Some(42)))
    }),
    ("a child killed by SIGKILL: 137", |case| {
        case.init
            .runs_a_child()
            .then(|| yes(case.exit_of("exit", &["-9"]) == Some(137)))
    }),
    (
        "of 22 signals (not of job control, nor TERM, INT, CHLD) the child hears",
        |case| {
            let heard = case.heard(standard().map(|signal| (signal, 1)));
            Some(format!("{heard}"))
        },
    ),
    (
        "of 5 equal real-time signals, sent at once, it hears",
        |case| Some(format!("{}", case.heard([(37, 5)].into_iter()))),
    ),
    ("SIGTERM ends it, and the child hears it first", |case| {
        let mut running = case.run("tally", &[]);
        running.signal(Signal::TERM);
        let ends = ends_soon(&mut running);
        running.kill();
        Some(yes(ends && case.tally().contains(&15)))
    }),
    ("an orphan that has ended is reaped within 0.3 s", |case| {
        let mut running = case.run("zombie", &[]);
        std::thread::sleep(Duration::from_millis(300));
        let left = running.zombies();
        running.kill();
        Some(yes(left == 0))
    }),
    (
        "a daemon that the child has left behind is told, and has time",
        |case| {
            let mut running = case.run("daemon", &[]);
            running.signal(Signal::TERM);
            ends_soon(&mut running);
            running.kill();
            Some(yes(case.tally().contains(&99)))
        },
    ),
    ("a child that ignores SIGTERM is killed after 1 s", |case| {
        let mut running = case.run("deaf", &[]);
        running.signal(Signal::TERM);
        let ends = ends_soon(&mut running);
        running.kill();
        Some(yes(ends))
    }),
    ("what crashes is started again", |case| {
        let mut running = case.run("crash", &[]);
        let start = Instant::now();
        while case.stamps() < 4 && start.elapsed() < 2 * SOON {
            std::thread::sleep(Duration::from_millis(20));
        }
        running.kill();
        Some(yes(case.stamps() >= 4))
    }),
];

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

fn ends_soon(running: &mut Running) -> bool {
    running.ends_within(SOON)
}

struct Case<'a> {
    init: Init,
    helper: &'a Path,
    dir: &'a Path,
    file: PathBuf,
}

impl Case<'_> {
    /// Runs the helper below the init, once its first line is there.
    fn run(&self, what: &str, more: &[&str]) -> Running {
        let _ = std::fs::remove_file(&self.file);
        let running = self.init.run(self.helper, self.dir, what, &self.file, more);
        wait_for_stamps(&self.file, 2);
        // An init may have to note that its child runs.
        std::thread::sleep(Duration::from_millis(100));
        running
    }

    fn stamps(&self) -> usize {
        std::fs::read_to_string(&self.file)
            .unwrap_or_default()
            .lines()
            .count()
    }

    /// What the helper has noted since its start.
    fn tally(&self) -> Vec<i64> {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        text.lines().skip(2).flat_map(str::parse).collect()
    }

    /// How many of these signals the child hears; each is sent so many times.
    fn heard(&self, signals: impl Iterator<Item = (i32, usize)>) -> usize {
        let mut running = self.run("tally", &[]);
        for (signal, count) in signals {
            for _ in 0..count {
                let pid = running.pid().to_string();
                // An init may have ended by the one before.
                let _ = Command::new("kill")
                    .args([&format!("-{signal}"), &pid])
                    .stderr(Stdio::null())
                    .status();
            }
        }
        std::thread::sleep(Duration::from_millis(200));
        running.kill();
        let mut heard = self.tally();
        if heard.iter().all(|signal| *signal != 37) {
            heard.sort_unstable();
            heard.dedup();
        }
        heard.len()
    }

    fn exit_of(&self, what: &str, more: &[&str]) -> Option<i32> {
        let _ = std::fs::remove_file(&self.file);
        let mut command = self
            .init
            .command(self.helper, self.dir, what, &self.file, more);
        command.status().unwrap().code()
    }
}

/// Asks all of them everything, and prints the table.
pub fn matrix(inits: &[Init], helper: &Path, dir: &Path) {
    let names: Vec<_> = inits.iter().map(|init| init.name()).collect();
    println!("| | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(names.len()));
    for (question, answer) in QUESTIONS {
        let answers = inits.iter().map(|init| {
            let dir = tempfile::tempdir_in(dir).unwrap();
            let case = Case {
                init: *init,
                helper,
                dir: dir.path(),
                file: dir.path().join("file"),
            };
            answer(&case).unwrap_or_else(|| "–".to_owned())
        });
        println!(
            "| {question} | {} |",
            answers.collect::<Vec<_>>().join(" | ")
        );
    }
}
