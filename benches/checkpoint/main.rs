//! Checkpoints and restores, beside the programs that people use for it now and beside
//! the limits of the machine, in the same run on the same filesystem: a fresh ext4 with a
//! journal in a loop-mounted image. Needs root. Prints tables; a missed bar fails it.
//!
//! `SPRITE_BENCH_TREES` (T1,T2,T3,sources,juicefs) chooses the trees, `SPRITE_BENCH_PEERS=0` leaves the
//! peers out, `SPRITE_BENCH_ROUNDS` (5) is how often what is quick is done.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark"
)]

mod daemon;
mod disk;
mod juicefs;
mod limits;
mod peers;
mod rounds;
#[path = "../shared.rs"]
mod shared;
mod table;
mod trees;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use daemon::Daemon;
use disk::Disk;
use peers::Peer;
use rounds::{beside, changed, firsts, m1, repeated};
use shared::timed;
use table::{Table, show};

fn main() {
    if !rustix::process::geteuid().is_root() {
        println!("checkpoint: skipped: making a filesystem and mounting it needs root");
        return;
    }
    let trees = std::env::var("SPRITE_BENCH_TREES");
    let trees = trees.unwrap_or_else(|_| "T1,T2,T3,sources,juicefs".to_owned());
    let mut table = Table::default();
    for tree in trees.split(',') {
        println!("\n### {tree}\n\n| what | time | ratio | of | bar |\n|---|---|---|---|---|");
        match tree {
            "T1" => t1(&mut table),
            "T2" => t2(&mut table),
            "T3" => t3(&mut table),
            "sources" => sources(&mut table),
            "juicefs" => juicefs::rows(&mut table),
            other => panic!("there is no tree {other}"),
        }
    }
    std::process::exit(i32::from(table.missed));
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
}

/// How many bytes the files below `dir` take, if it is there.
fn used(dir: &Path) -> u64 {
    if !dir.exists() {
        return 0;
    }
    let output = Command::new("du")
        .args(["-s", "--block-size=1", "--apparent-size"])
        // What the store keeps of the live tree is written anew behind the answer.
        .arg("--exclude=live.tmp")
        .arg(dir)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_ascii_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

/// How many bytes the store takes after its first checkpoint, once what it keeps of the live tree
/// is there.
fn stored(disk: &Disk) -> u64 {
    let store = disk.dir.join("data/store");
    while !store.join("live").exists() {
        std::thread::yield_now();
    }
    used(&store)
}

/// 50,000 small files.
fn t1(table: &mut Table) {
    let disk = Disk::new(10);
    let tree = disk.dir.join("data/fs");
    trees::t1(&tree, 1);
    sync(&tree);
    table.row(
        "read all bytes and BLAKE3, two threads",
        repeated(|| limits::hash(&tree)),
    );
    let peers = Peer::all(&disk.dir);
    let (daemon, memory, first, peers_first) = firsts(&disk, &peers);
    table.row("first checkpoint", first);
    let stored = stored(&disk);
    table.row(
        "write as many bytes as it stored, and fsync",
        limits::write(&disk.dir, stored),
    );
    table.memory("highest memory, first checkpoint", memory, 150);
    let walk = || limits::walk(&tree);
    let (walked, unchanged) = beside(walk, || daemon.checkpoint().total);
    table.compared("nothing changed", unchanged, "walk", walked, 1.6);
    let after = m1(&disk, &tree, &daemon);
    let walk = after.limit;
    table.compared("after M1", after.total, "walk", walk, 2.2);
    table.compared("pause, after M1", after.pause, "walk", walk, 1.3);
    let (restore, added) = (after.restore, after.added);
    table.compared("restore in place after M1", restore, "walk", walk, 3.0);
    let mut seed = 300;
    for (peer, peer_first) in peers.iter().zip(peers_first) {
        let size = peer.size();
        // What has changed since.
        peer.backup(&tree);
        let peer_same = repeated(|| peer.backup(&tree));
        seed += 10;
        let before = peer.size();
        trees::m1(&tree, seed);
        let peer_changed = peer.backup(&tree);
        let peer_added = peer.size().saturating_sub(before);
        let most = peer.bar(0.25);
        table.compared("first checkpoint", first, peer.name, peer_first, most);
        table.compared("nothing changed", unchanged, peer.name, peer_same, 0.06);
        println!("| after M1 | | | {}: {} | |", peer.name, show(peer_changed));
        table.bytes("bytes stored", stored, peer.name, size, 1.10);
        table.bytes("bytes added by M1", added, peer.name, peer_added, 1.10);
        if let Some(time) = peer.restore_in_place(&tree, || trees::m1(&tree, seed + 1)) {
            table.compared("restore in place after M1", restore, peer.name, time, 0.06);
        }
    }
    drop(daemon);
    // Into an empty directory: another environment with the same store.
    let copy = disk.dir.join("copy");
    let cp = timed(|| {
        run(Command::new("cp").arg("-a").arg(&tree).arg(&copy));
        sync(&copy);
    });
    let daemon = Daemon::start(&disk.dir);
    let made = daemon.checkpoint();
    run(Command::new("find")
        .arg(&tree)
        .args(["-mindepth", "1", "-delete"]));
    sync(&tree);
    let full = daemon.restore(&made.id);
    table.compared("restore into an empty directory", full, "cp -a", cp, 1.5);
    for peer in &peers {
        if let Some(time) = peer.restore_empty(&disk.dir.join("empty")) {
            table.compared(
                "restore into an empty directory",
                full,
                peer.name,
                time,
                0.5,
            );
        }
    }
}

/// Brings to the disk what is not there yet, so that what is measured next need not.
fn sync(dir: &Path) {
    let fd = std::fs::File::open(dir).unwrap();
    rustix::fs::syncfs(&fd).unwrap();
}

/// A few large files.
fn t2(table: &mut Table) {
    let disk = Disk::new(28);
    let tree = disk.dir.join("data/fs");
    trees::t2(&tree, 2);
    sync(&tree);
    let all = repeated(|| limits::work(&tree, true));
    table.row("read, BLAKE3 and zstd of all of it, two threads", all);
    let mut daemon = Daemon::start(&disk.dir);
    let before = daemon.memory();
    let first = daemon.checkpoint();
    table.compared(
        "first checkpoint",
        first.total,
        "read, hash, compress",
        all,
        1.0 / 0.6,
    );
    let memory = (daemon.memory_peak() - before) / 1024;
    table.memory("highest memory, first checkpoint", memory, 150);
    let stored = stored(&disk);
    table.row(
        "write as many bytes as it stored, and fsync",
        limits::write(&disk.dir, stored),
    );
    let m2 = changed(
        &disk,
        || limits::work(&tree.join("database"), false),
        |seed| trees::m2(&tree, seed),
        &daemon,
        |_, change| {
            let last = daemon.checkpoint();
            change();
            daemon.checkpoint();
            daemon.restore(&last.id)
        },
    );
    table.compared("after M2", m2.total, "read and hash 2 GB", m2.limit, 1.15);
    table.row("pause, after M2", m2.pause);
    let (restore, added) = (m2.restore, m2.added);
    let mut seed = 300;
    for peer in Peer::all(&disk.dir) {
        let peer_first = peer.backup(&tree);
        let size = peer.size();
        seed += 10;
        trees::m2(&tree, seed);
        let changed = peer.backup(&tree);
        let peer_added = peer.size().saturating_sub(size);
        let most = peer.bar(0.30);
        table.compared("first checkpoint", first.total, peer.name, peer_first, most);
        println!("| after M2 | | | {}: {} | |", peer.name, show(changed));
        table.bytes("bytes added by M2", added, peer.name, peer_added, 0.15);
        if let Some(time) = peer.restore_in_place(&tree, || trees::m2(&tree, seed + 1)) {
            table.compared("restore in place after M2", restore, peer.name, time, 0.05);
        }
    }
}

/// What filesystems that make snapshots or clones of files gain.
fn sources(table: &mut Table) {
    let limit = |table: &mut Table, what: &str, time, most| {
        table.compared(what, time, "limit", Duration::from_millis(most), 1.0);
    };
    for kind in ["btrfs", "xfs"] {
        let disk = Disk::of_kind(kind, 16);
        let tree = disk.dir.join("data/fs");
        trees::t2(&tree, 2);
        sync(&tree);
        let daemon = Daemon::start(&disk.dir);
        table.row(
            &format!("T2 on {kind}: first checkpoint"),
            daemon.checkpoint().total,
        );
        let m2 = changed(
            &disk,
            || Duration::ZERO,
            |seed| trees::m2(&tree, seed),
            &daemon,
            |_, _| Duration::ZERO,
        );
        limit(table, &format!("T2 on {kind}: after M2"), m2.total, 100);
        limit(
            table,
            &format!("T2 on {kind}: pause, after M2"),
            m2.pause,
            20,
        );
        drop(daemon);
        // Little in it, but a hundred gigabytes long.
        let file = std::fs::File::create(tree.join("sparse")).unwrap();
        file.set_len(100 << 30).unwrap();
        let daemon = Daemon::start(&disk.dir);
        daemon.checkpoint();
        let page = |seed: u64| {
            std::os::unix::fs::FileExt::write_all_at(&file, &[1; 4096], seed << 26).unwrap();
        };
        let large = changed(
            &disk,
            || Duration::ZERO,
            page,
            &daemon,
            |_, _| Duration::ZERO,
        );
        limit(
            table,
            &format!("100 GB on {kind}: a page has changed"),
            large.total,
            100,
        );
    }
    let disk = Disk::of_kind("btrfs", 8);
    let tree = disk.dir.join("data/fs");
    trees::t1(&tree, 1);
    sync(&tree);
    let daemon = Daemon::start(&disk.dir);
    daemon.checkpoint();
    let after = m1(&disk, &tree, &daemon);
    table.row("walk of T1 on btrfs by two threads", after.limit);
    table.row("T1 on btrfs: after M1", after.total);
    limit(table, "T1 on btrfs: pause, after M1", after.pause, 20);
}

/// 1,000,000 files.
fn t3(table: &mut Table) {
    let disk = Disk::new(24);
    let tree = disk.dir.join("data/fs");
    trees::t3(&tree);
    let mut daemon = Daemon::start(&disk.dir);
    let before = daemon.memory();
    table.row("first checkpoint", daemon.checkpoint().total);
    let (walk, unchanged) = beside(|| limits::walk(&tree), || daemon.checkpoint().total);
    table.compared("nothing changed", unchanged, "walk", walk, 2.5);
    table.at_most("nothing changed", unchanged, Duration::from_millis(50));
    // Some of its files are looked for among all then.
    let open = |number: u64| {
        let path = tree.join(format!("{number:03}/00/f0"));
        std::fs::File::options().write(true).open(path).unwrap()
    };
    let opened: Vec<_> = (0..10).map(open).collect();
    let unchanged = repeated(|| daemon.checkpoint().total);
    table.row("nothing changed, ten files are open for writing", unchanged);
    drop(opened);
    let memory = (daemon.memory_peak() - before) / 1024;
    table.memory("highest memory", memory, 300);
}
