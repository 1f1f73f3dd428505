//! Trees of many files.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::support::disk::Disk;
use crate::support::http::step;
use crate::support::{Daemon, Sprite};

const DIRECTORIES: usize = 10_000;
const FILES: usize = 100;

fn path(directory: usize, file: usize) -> String {
    format!("{:02}/{:02}/{file}", directory / 100, directory % 100)
}

/// Most are empty: it is the entries that count.
fn make(root: &Path) {
    std::thread::scope(|scope| {
        for half in 0..2 {
            scope.spawn(move || {
                for directory in (half..DIRECTORIES).step_by(2) {
                    let first = root.join(path(directory, 0));
                    fs::create_dir_all(first.parent().unwrap()).unwrap();
                    fs::write(first, directory.to_string()).unwrap();
                    for file in 1..FILES {
                        fs::File::create(root.join(path(directory, file))).unwrap();
                    }
                }
            });
        }
    });
}

/// A checkpoint; returns how many entries were looked at before it was taken.
fn checkpoint(daemon: &Daemon) -> u64 {
    let lines = daemon.client().measured_checkpoint();
    step(&lines, "pre_copy").map_or(0, |looked| looked["files_done"].as_u64().unwrap())
}

#[test]
fn a_million_files() {
    let sprite = Sprite::new();
    let Some(disk) = Disk::with_room_for_files(&sprite.path("data"), 1_200_000) else {
        return;
    };
    let daemon = sprite.storage().idle();
    let root = daemon.sprite.fs();
    make(&root);
    let entries = (DIRECTORIES * (FILES + 1) + 100) as u64;
    assert_eq!(checkpoint(&daemon), entries);
    let change = |text: &str| {
        for directory in [0, 77, 5_000, 9_999] {
            fs::write(root.join(path(directory, 7)), text).unwrap();
        }
        let _ = fs::remove_dir_all(root.join("50/50"));
    };
    change("changed");
    // From so many on, what changes is kept in mind, where the kernel tells of it.
    let looked_at = checkpoint(&daemon);
    assert!(looked_at < entries / 100, "{looked_at} of {entries}");
    change("changed again");
    assert_eq!(daemon.client().restore("v0")["type"], "complete");
    for directory in [0, 77, 5_000, 5_050, 9_999] {
        let there = fs::read_dir(root.join(path(directory, 0)).parent().unwrap());
        assert_eq!(there.unwrap().count(), FILES);
        let first = fs::read_to_string(root.join(path(directory, 0)));
        assert_eq!(first.unwrap(), directory.to_string());
        assert_eq!(
            fs::read_to_string(root.join(path(directory, 7))).unwrap(),
            ""
        );
    }
    let diff = daemon.client().get("/checkpoints/v0/diff/v1").json();
    let found = diff["differences"].as_array().unwrap();
    let of = |change: &str| found.iter().filter(|it| it["change"] == change).count();
    assert_eq!((of("modified"), of("removed")), (4, FILES + 1));
    drop((daemon, disk));
}

/// Each is of two blocks, which any thread may read or write.
#[test]
fn more_files_of_several_blocks_in_a_directory_than_may_be_open() {
    const FILES: usize = 2_000;
    let daemon = Sprite::new().storage().idle();
    let may_be_open = Rlimit {
        current: Some(400),
        maximum: Some(400),
    };
    prlimit(Pid::from_raw(daemon.pid()), Resource::Nofile, may_be_open).unwrap();
    let directory = daemon.sprite.fs().join("directory");
    fs::create_dir(&directory).unwrap();
    let path = |number: usize| directory.join(number.to_string());
    let change = |text: &str| {
        for number in 0..FILES {
            fs::write(path(number), format!("{text} {number}")).unwrap();
            let file = fs::OpenOptions::new().write(true).open(path(number));
            file.unwrap().set_len(70_000).unwrap();
        }
    };
    let is_restored = |number: usize| {
        let found = fs::read(path(number)).unwrap();
        found.len() == 70_000 && found.starts_with(format!("first {number}\0").as_bytes())
    };
    change("first");
    let id = daemon.client().checkpoint();
    // Patched where they are, and made where they are not.
    change("other");
    assert_eq!(daemon.client().restore(&id)["type"], "complete");
    assert!((0..FILES).all(is_restored));
    fs::remove_dir_all(&directory).unwrap();
    assert_eq!(daemon.client().restore(&id)["type"], "complete");
    assert!((0..FILES).all(is_restored));
}
