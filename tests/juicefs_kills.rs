//! What a JuiceFS volume in a bucket keeps when anything is killed at any moment.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::bucket::{Service, durable};
use crate::support::juicefs::{fs as tree, in_bucket, lose, pid_of, started, wait_for_copy};
use crate::support::{Daemon, Value, json, signal_process};

/// How many times something is killed at any moment; `SPRITE_KILLS` says another number.
const KILLS: usize = 8;

#[test]
fn whatever_is_killed_whenever_what_was_made_durable_is_there() {
    let (Some(service), Some(mut config)) = (Service::start(), in_bucket()) else {
        return;
    };
    config["juicefs"]["on_failure"] = json!("restart");
    let (kills, seed, mut random) = chance();
    let mut daemon = started(service.sprite_with(&config));
    let (mut written, mut in_a_row) = (0, 0);
    let victims = ["juicefs", "litestream", "daemon"];
    for kill in 0..kills {
        let pause = Duration::from_millis(random.u64(..1_500));
        let victim = next_victim(&mut random, &victims, &mut in_a_row, 4);
        let begun = written;
        let (pid, killer) = kill_soon(&daemon, victim, pause);
        // Until the mount goes away, or for as long as the killer waits.
        while !killer.is_finished() && write_durably(&tree(&daemon), written).is_ok() {
            written += 1;
        }
        killer.join().unwrap();
        if victim == "daemon" {
            assert_eq!(daemon.wait_without_output(), 137);
            daemon = started(daemon.into_sprite());
        } else {
            let client = daemon.client();
            client.wait_status(|status| is_back(status, victim, pid));
        }
        // The last, and some; all of them at the end.
        let some: Vec<usize> = (0..50)
            .map(|_| random.usize(..written.max(1)))
            .filter(|it| *it < written)
            .collect();
        for number in (begun..written).chain(some) {
            let found = fs::read_to_string(tree(&daemon).join(number.to_string()));
            let why = format!("seed {seed}, {victim} killed in round {kill}");
            assert_eq!(found.expect(&why), number.to_string().repeat(100), "{why}");
        }
    }
    wait_for_copy(&daemon, &tree(&daemon));
    lose(daemon);
    let mut daemon = started(service.sprite_with(&config));
    for number in 0..written {
        let found = fs::read_to_string(tree(&daemon).join(number.to_string()));
        assert_eq!(
            found.unwrap(),
            number.to_string().repeat(100),
            "seed {seed}"
        );
    }
    daemon.stop(143);
}

/// How often something is killed; what is random, and the seed that it comes from.
fn chance() -> (usize, u64, fastrand::Rng) {
    let kills = std::env::var("SPRITE_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let seed =
        std::env::var("SPRITE_SEED").map_or_else(|_| fastrand::u64(..), |it| it.parse().unwrap());
    println!("seed {seed}");
    (kills, seed, fastrand::Rng::with_seed(seed))
}

/// Chooses who is killed next. Nobody is started again more than five times within a minute, so
/// after `most` components in a row it is the daemon.
fn next_victim<'a>(
    random: &mut fastrand::Rng,
    victims: &[&'a str],
    in_a_row: &mut usize,
    most: usize,
) -> &'a str {
    let chosen = victims[random.usize(..victims.len())];
    let victim = if *in_a_row == most { "daemon" } else { chosen };
    *in_a_row = if victim == "daemon" { 0 } else { *in_a_row + 1 };
    victim
}

/// Kills the daemon or a component after a while; whose process it is.
fn kill_soon(daemon: &Daemon, victim: &str, pause: Duration) -> (i32, JoinHandle<()>) {
    let pid = match victim {
        "daemon" => daemon.pid(),
        component => pid_of(daemon, component),
    };
    let killer = std::thread::spawn(move || {
        std::thread::sleep(pause);
        signal_process(pid, libc::SIGKILL);
    });
    (pid, killer)
}

/// Whether a component has another process than that, and is ready.
fn is_back(status: &Value, component: &str, before: i32) -> bool {
    let part = &status["components"][component];
    part["state"] == "Up > Ready" && part["pid"] != before
}

/// What must be there: files with the numbers below some number, in the environment and in each
/// checkpoint.
#[derive(Debug, Default)]
struct Promised {
    files: usize,
    /// What may be there instead, if a restore was cut off.
    instead: Option<usize>,
    checkpoints: BTreeMap<String, usize>,
}

impl Promised {
    /// Does something; false once the volume is gone.
    fn act(&mut self, daemon: &Daemon, random: &mut fastrand::Rng) -> bool {
        let chosen = self.checkpoints.iter().nth(random.usize(..20));
        match (random.usize(..12), chosen) {
            (0 | 1, _) => {
                let Some(id) = done(daemon, "/checkpoint") else {
                    return false;
                };
                self.checkpoints.insert(id, self.files);
                true
            }
            (2, Some((id, files))) => {
                let is_done = done(daemon, &format!("/checkpoints/{id}/restore")).is_some();
                if is_done {
                    self.files = *files;
                } else {
                    self.instead = Some(*files);
                }
                is_done
            }
            _ => {
                let is_written = write_durably(&tree(daemon), self.files).is_ok();
                self.files += usize::from(is_written);
                is_written
            }
        }
    }

    /// Looks at all of it.
    fn check(&mut self, daemon: &Daemon, why: &str) {
        if let Some(instead) = self.instead.take() {
            let most = self.files.max(instead);
            let has_most = most > 0 && has(daemon, most - 1);
            self.files = if has_most {
                most
            } else {
                self.files.min(instead)
            };
        }
        for number in 0..self.files {
            assert!(has(daemon, number), "{number} of {}: {why}", self.files);
        }
        let listed = daemon.client().checkpoint_ids(false);
        for id in self.checkpoints.keys() {
            assert!(listed.contains(id), "{id} is not in {listed:?}: {why}");
        }
    }
}

fn has(daemon: &Daemon, number: usize) -> bool {
    let found = fs::read_to_string(tree(daemon).join(number.to_string()));
    found.is_ok_and(|found| found == number.to_string().repeat(100))
}

/// The id that an operation has ended well with.
fn done(daemon: &Daemon, path: &str) -> Option<String> {
    let answer = daemon.client().attempt("POST", path)?;
    let last = answer.lines().pop()?;
    (last["type"] == "complete").then(|| last["checkpoint_id"].as_str().unwrap().to_owned())
}

#[test]
fn whatever_is_killed_whenever_checkpoints_that_are_clones_are_whole() {
    let (Some(service), Some(mut config)) = (Service::start(), in_bucket()) else {
        return;
    };
    config["storage"]["volume"]["size"] = json!("1G");
    config["juicefs"]["layout"] = json!("image");
    config["juicefs"]["on_failure"] = json!("restart");
    let (kills, seed, mut random) = chance();
    let mut daemon = started(service.sprite_with(&config));
    let (mut promised, mut in_a_row) = (Promised::default(), 0);
    let victims = ["juicefs", "juicefs-image", "litestream", "daemon"];
    for kill in 0..kills {
        let pause = Duration::from_millis(random.u64(..2_500));
        let victim = next_victim(&mut random, &victims, &mut in_a_row, 2);
        let (before, killer) = kill_soon(&daemon, victim, pause);
        while !killer.is_finished() && promised.act(&daemon, &mut random) {}
        killer.join().unwrap();
        let why = format!("seed {seed}, {victim} killed in round {kill}");
        if victim == "daemon" || is_over(&mut daemon, victim, before) {
            daemon.wait_without_output();
            daemon = started(daemon.into_sprite());
        }
        promised.check(&daemon, &why);
    }
    let why = format!("seed {seed}");
    assert_eq!(durable(&daemon)["type"], "complete", "{why}");
    wait_for_copy(&daemon, &daemon.sprite.path("data/juicefs/mnt"));
    lose(daemon);
    let mut daemon = started(service.sprite_with(&config));
    promised.check(&daemon, &why);
    let checkpoints: Vec<_> = promised.checkpoints.clone().into_iter().collect();
    for _ in 0..checkpoints.len().min(5) {
        let (id, files) = &checkpoints[random.usize(..checkpoints.len())];
        assert_eq!(daemon.client().restore(id)["type"], "complete", "{why}");
        promised.files = *files;
        promised.check(&daemon, &why);
        assert!(!has(&daemon, *files), "{id}: {why}");
    }
    daemon.stop(143);
}

/// Waits until a component that was killed is back; whether everything ended instead.
fn is_over(daemon: &mut Daemon, component: &str, before: i32) -> bool {
    let client = daemon.client();
    loop {
        if daemon.wait_running_or_over() {
            return true;
        }
        let answer = client.attempt("GET", "/status");
        if answer.is_some_and(|answer| is_back(&answer.json(), component, before)) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Writes a file that is there from then on, whatever comes.
fn write_durably(dir: &Path, number: usize) -> std::io::Result<()> {
    let mut file = fs::File::create(dir.join(number.to_string()))?;
    file.write_all(number.to_string().repeat(100).as_bytes())?;
    file.sync_all()
}
