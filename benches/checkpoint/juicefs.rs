//! Environments on JuiceFS volumes, in both layouts, beside `juicefs mount` and `juicefs clone` by
//! hand.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::daemon::Daemon;
use crate::shared::timed;
use crate::table::Table;
use crate::{Disk, changed, limits, repeated, run, sync, trees};

/// By how much a start may be slower than `juicefs mount`.
const START: Duration = Duration::from_millis(300);

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
    for layout in ["image", "tree"] {
        println!("| **layout {layout}** | | | | |");
        let disk = Disk::new(24);
        let config = configuration(&disk, layout);
        // The first makes the volume.
        drop(Daemon::configured(&disk.dir, Some(&config)));
        start(table, &disk, &config);
        of_t1(table, &disk, &config, layout == "tree");
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

fn of_t1(table: &mut Table, disk: &Disk, config: &Path, is_tree: bool) {
    let daemon = Daemon::configured(&disk.dir, Some(config));
    let tree = disk.dir.join("data/juicefs/mnt/active/fs");
    table.row("make T1", timed(|| trees::t1(&tree, 1)));
    sync(&tree);
    let walk = repeated(|| limits::walk(&tree));
    table.row("walk of T1 by two threads, getdents and statx only", walk);
    table.row("first checkpoint of T1", daemon.checkpoint().total);
    let unchanged = repeated(|| daemon.checkpoint().total);
    table.row("nothing changed", unchanged);
    let mut seed = 400;
    let flush = repeated(|| {
        seed += 1;
        trees::m1(&tree, seed);
        timed(|| sync(&tree))
    });
    table.row("sync of what M1 has changed", flush);
    let restore = |made: crate::daemon::Made, change: &dyn Fn()| {
        change();
        daemon.restore(&made.id)
    };
    let after = changed(disk, |seed| trees::m1(&tree, seed), &daemon, restore);
    if is_tree {
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
    } else {
        table.row("after M1", after.total);
    }
    table.row("pause, after M1", after.pause);
    table.row("restore in place after M1", after.restore);
}
