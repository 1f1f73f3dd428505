//! What is measured again and again, in turn with what it is compared with: this machine is not
//! always as fast.

use std::path::Path;
use std::time::Duration;

use crate::daemon::{Daemon, Made};
use crate::disk::Disk;
use crate::peers::Peer;
use crate::shared::median;
use crate::{limits, sync, trees, used};

/// How often what is short is measured.
pub fn rounds() -> usize {
    std::env::var("SPRITE_BENCH_ROUNDS").map_or(5, |text| text.parse().unwrap())
}

/// The median of what `work` takes.
pub fn repeated(mut work: impl FnMut() -> Duration) -> Duration {
    median((0..rounds()).map(|_| work()).collect())
}

/// The medians of a limit and of `work`, measured in turn.
pub fn beside(limit: impl Fn() -> Duration, work: impl Fn() -> Duration) -> (Duration, Duration) {
    let (limits, works) = (0..rounds()).map(|_| (limit(), work())).unzip();
    (median(limits), median(works))
}

/// First checkpoints, each into a new store, and the peers' into new repositories, in turn:
/// the daemon of the last, how many MB of memory it took more, and the medians.
pub fn firsts(disk: &Disk, peers: &[Peer]) -> (Daemon, u64, Duration, Vec<Duration>) {
    let tree = disk.dir.join("data/fs");
    let mut ours = vec![];
    let mut theirs = vec![vec![]; peers.len()];
    // Borg has the kernel forget what it has read.
    let warm = || {
        limits::hash(&tree);
        sync(&tree);
    };
    let (daemon, memory) = loop {
        let mut daemon = Daemon::start(&disk.dir);
        let before = daemon.memory();
        warm();
        ours.push(daemon.checkpoint().total);
        for (peer, times) in peers.iter().zip(&mut theirs) {
            peer.begin_anew();
            warm();
            times.push(peer.backup(&tree));
        }
        if ours.len() == rounds() {
            let memory = (daemon.memory_peak() - before) / 1024;
            break (daemon, memory);
        }
        drop(daemon);
        std::fs::remove_dir_all(disk.dir.join("data/store")).unwrap();
    };
    let theirs = theirs.into_iter().map(median).collect();
    (daemon, memory, median(ours), theirs)
}

/// What checkpoints and restores of a tree that is changed now and then take; medians.
pub struct Changed {
    /// What it is compared with, measured in turn with them.
    pub limit: Duration,
    pub total: Duration,
    pub pause: Duration,
    pub restore: Duration,
    /// How many bytes the first of them added to the store.
    pub added: u64,
}

/// The same of M1, beside the walk.
pub fn m1(disk: &Disk, tree: &Path, daemon: &Daemon) -> Changed {
    let restore = |made: Made, change: &dyn Fn()| {
        change();
        daemon.restore(&made.id)
    };
    let walk = || limits::walk(tree);
    changed(disk, walk, |seed| trees::m1(tree, seed), daemon, restore)
}

/// Changes a tree, makes a checkpoint, and has `restore` change it once more and restore.
pub fn changed(
    disk: &Disk,
    limit: impl Fn() -> Duration,
    change: impl Fn(u64),
    daemon: &Daemon,
    restore: impl Fn(Made, &dyn Fn()) -> Duration,
) -> Changed {
    let (mut limits, mut totals, mut pauses, mut restores) = (vec![], vec![], vec![], vec![]);
    let store = disk.dir.join("data/store");
    let mut added = 0;
    for round in 0..rounds() as u64 {
        limits.push(limit());
        change(100 + round);
        let before = used(&store);
        let made = daemon.checkpoint();
        // Later rounds are tidied up after meanwhile.
        if round == 0 {
            added = used(&store) - before;
        }
        totals.push(made.total);
        pauses.push(made.pause);
        restores.push(restore(made, &|| change(200 + round)));
    }
    Changed {
        limit: median(limits),
        total: median(totals),
        pause: median(pauses),
        restore: median(restores),
        added,
    }
}
