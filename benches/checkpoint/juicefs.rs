//! Environments on JuiceFS volumes, in both layouts, beside `juicefs mount` and `juicefs clone` by
//! hand.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::daemon::Daemon;
use crate::rounds::{Changed, changed, repeated};
use crate::shared::timed;
use crate::table::Table;
use crate::{Disk, limits, run, sync, trees};

/// By how much a start may be slower than `juicefs mount`.
const START: Duration = Duration::from_millis(300);

/// How long a checkpoint of an image may take until it is sealed.
const SEALED: Duration = Duration::from_millis(300);
/// How long everything may be held for it.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a restore of one may take, with a process that stops and starts at once.
const RESTORED: Duration = Duration::from_secs(1);

/// Where tests/setup.sh puts it.
const PROGRAM: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/target/tools/python/bin/juicefs"
);

pub fn rows(table: &mut Table) {
    if !Path::new(PROGRAM).exists() || !Path::new("/dev/fuse").exists() {
        println!("| JuiceFS: skipped, there is no {PROGRAM} or no /dev/fuse | | | | |");
        return;
    }
    let wanted = std::env::var("SPRITE_BENCH_LAYOUTS").unwrap_or_else(|_| "image tree".to_owned());
    for layout in wanted.split(' ') {
        println!("| **layout {layout}** | | | | |");
        let disk = Disk::new(16);
        let config = configuration(&disk, layout);
        // The first makes the volume.
        drop(Daemon::configured(&disk.dir, Some(&config)));
        start(table, &disk, &config);
        if layout == "tree" {
            tree_of_t1(table, &disk, &config);
        } else {
            image_of_t1(table, &disk, &config);
            drop(disk);
            image_of_t2(table);
        }
    }
}

fn configuration(disk: &Disk, layout: &str) -> PathBuf {
    let path = disk.dir.join("config.json");
    let text = format!(
        "{{\"storage\": {{\"volume\": {{\"type\": \"juicefs\", \"size\": \"20G\"}}}}, \
         \"juicefs\": {{\"binary\": \"{PROGRAM}\", \"layout\": \"{layout}\"}}, \
         \"checkpoint\": {{\"freeze_timeout\": \"120s\"}}}}"
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// A start on a volume that is there, and the mount by hand.
fn start(table: &mut Table, disk: &Disk, config: &Path) {
    let ours = repeated(|| {
        let start = Instant::now();
        let daemon = Daemon::configured(&disk.dir, Some(config));
        let time = start.elapsed();
        drop(daemon);
        time
    });
    let volume = disk.dir.join("data/juicefs");
    let (at, url) = (
        volume.join("mnt"),
        format!("sqlite3://{}", volume.join("metadata.db").display()),
    );
    let by_hand = repeated(|| {
        let time = timed(|| {
            run(Command::new(PROGRAM)
                .args(["mount", "-d", "--no-usage-report", &url])
                .arg(&at)
                .stdout(Stdio::null()));
            std::fs::metadata(at.join("active/fs")).unwrap();
        });
        run(Command::new(PROGRAM).arg("umount").arg(&at));
        time
    });
    let what = "start on a volume that is there, to ready";
    table.beyond(what, ours, "juicefs mount -d", by_hand, START);
}

/// Makes T1 in the environment's directory, and measures what all layouts have.
fn made_t1(table: &mut Table, disk: &Disk, daemon: &Daemon) -> PathBuf {
    let tree = disk.dir.join("data/juicefs/mnt/active/fs");
    table.row("make T1", timed(|| trees::t1(&tree, 1)));
    sync(&tree);
    let walk = repeated(|| limits::walk(&tree));
    table.row("walk of T1 by two threads, getdents and statx only", walk);
    table.row("first checkpoint of T1", daemon.checkpoint().total);
    let unchanged = repeated(|| daemon.checkpoint().total);
    table.row("nothing changed", unchanged);
    tree
}

/// How long it takes to write what `change` has changed.
fn flush_of(tree: &Path, change: impl Fn(u64)) -> Duration {
    let mut seed = 400;
    repeated(|| {
        seed += 1;
        change(seed);
        timed(|| sync(tree))
    })
}

/// How long it takes to freeze a filesystem of which everything was written that `change` has
/// changed.
fn freeze_after(tree: &Path, change: impl Fn(u64)) -> Duration {
    let mut seed = 500;
    repeated(|| {
        seed += 1;
        change(seed);
        sync(tree);
        let time = timed(|| run(Command::new("fsfreeze").arg("-f").arg(tree)));
        run(Command::new("fsfreeze").arg("-u").arg(tree));
        time
    })
}

/// A checkpoint and a restore after each of some changes.
fn of_changes(disk: &Disk, daemon: &Daemon, change: impl Fn(u64)) -> Changed {
    let restore = |made: crate::daemon::Made, change: &dyn Fn()| {
        change();
        daemon.restore(&made.id)
    };
    changed(disk, || Duration::ZERO, change, daemon, restore)
}

/// The rows of an image after the changes `name`.
fn of_image(table: &mut Table, disk: &Disk, daemon: &Daemon, name: &str, change: impl Fn(u64)) {
    let tree = disk.dir.join("data/juicefs/mnt/active/fs");
    let flush = flush_of(&tree, &change);
    table.row(&format!("sync of what {name} has changed"), flush);
    let after = of_changes(disk, daemon, &change);
    let what = format!("after {name}");
    table.at_most(&what, after.total, SEALED);
    table.beyond(&what, after.total, "sync", flush, SEALED);
    let freeze = freeze_after(&tree, &change);
    let what = format!("pause, after {name}");
    table.beyond(&what, after.pause, "fsfreeze after sync", freeze, PAUSE);
    let what = format!("restore in place after {name}");
    table.at_most(&what, after.restore, RESTORED);
}

fn image_of_t1(table: &mut Table, disk: &Disk, config: &Path) {
    let daemon = Daemon::configured(&disk.dir, Some(config));
    let tree = made_t1(table, disk, &daemon);
    of_image(table, disk, &daemon, "M1", |seed| trees::m1(&tree, seed));
}

fn image_of_t2(table: &mut Table) {
    let disk = Disk::new(20);
    let config = configuration(&disk, "image");
    let daemon = Daemon::configured(&disk.dir, Some(&config));
    let tree = disk.dir.join("data/juicefs/mnt/active/fs");
    table.row("make T2", timed(|| trees::t2(&tree, 2)));
    table.row("first checkpoint of T2", daemon.checkpoint().total);
    let unchanged = repeated(|| daemon.checkpoint().total);
    table.row("nothing changed", unchanged);
    of_image(table, &disk, &daemon, "M2", |seed| trees::m2(&tree, seed));
}

fn tree_of_t1(table: &mut Table, disk: &Disk, config: &Path) {
    let daemon = Daemon::configured(&disk.dir, Some(config));
    let tree = made_t1(table, disk, &daemon);
    let after = of_changes(disk, &daemon, |seed| trees::m1(&tree, seed));
    // It copies no content, and is not the instant of anything.
    let mut number = 0;
    let clone = repeated(|| {
        number += 1;
        let to = tree.parent().unwrap().join(format!("clone-{number}"));
        let time = timed(|| {
            run(Command::new(PROGRAM)
                .args(["clone", "-p"])
                .arg(&tree)
                .arg(&to));
            sync(&tree);
        });
        run(Command::new(PROGRAM).arg("rmr").arg(&to));
        time
    });
    let peer = "juicefs clone -p, and sync";
    table.compared("after M1", after.total, peer, clone, 1.15);
    table.row("pause, after M1", after.pause);
    table.row("restore in place after M1", after.restore);
}
