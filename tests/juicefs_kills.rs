//! What a JuiceFS volume in a bucket keeps when anything is killed at any moment.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use crate::support::bucket::Service;
use crate::support::juicefs::{fs as tree, in_bucket, lose, pid_of, started, wait_for_copy};
use crate::support::{Value, json, signal_process};

/// How many times something is killed at any moment; `SPRITE_KILLS` says another number.
const KILLS: usize = 8;

#[test]
fn whatever_is_killed_whenever_what_was_made_durable_is_there() {
    let (Some(service), Some(mut config)) = (Service::start(), in_bucket()) else {
        return;
    };
    config["juicefs"]["on_failure"] = json!("restart");
    let kills = std::env::var("SPRITE_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut daemon = started(service.sprite_with(&config));
    let (mut written, mut in_a_row) = (0, 0);
    for kill in 0..kills {
        let pause = std::time::Duration::from_millis(random.u64(..1_500));
        let mut victim = ["juicefs", "litestream", "daemon"][random.usize(..3)];
        // Nobody is started again more than five times within a minute.
        if in_a_row == 4 {
            victim = "daemon";
        }
        in_a_row = if victim == "daemon" { 0 } else { in_a_row + 1 };
        let pid = match victim {
            "daemon" => daemon.pid(),
            component => pid_of(&daemon, component),
        };
        let begun = written;
        let killer = std::thread::spawn(move || {
            std::thread::sleep(pause);
            signal_process(pid, libc::SIGKILL);
        });
        // Until the mount goes away, or for as long as the killer waits.
        while !killer.is_finished() && write_durably(&tree(&daemon), written).is_ok() {
            written += 1;
        }
        killer.join().unwrap();
        if victim == "daemon" {
            assert_eq!(daemon.wait_without_output(), 137);
            daemon = started(daemon.into_sprite());
        } else {
            let is_back = |status: &Value| {
                let part = &status["components"][victim];
                part["state"] == "Up > Ready" && part["pid"] != pid
            };
            daemon.client().wait_status(is_back);
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

/// Writes a file that is there from then on, whatever comes.
fn write_durably(dir: &Path, number: usize) -> std::io::Result<()> {
    let mut file = fs::File::create(dir.join(number.to_string()))?;
    file.write_all(number.to_string().repeat(100).as_bytes())?;
    file.sync_all()
}
