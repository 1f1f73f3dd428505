//! Where the filesystem can do more than a copy, the instant is taken with it.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::sdks::has;
use crate::support::disk::Disk;
use crate::support::http::step;
use crate::support::{Daemon, Sprite, Value, is_root, json, skipped, store, trees};

const LARGE: usize = 40 << 20;
/// What a change of a few pages may cost: their blocks, before and behind, and some.
const FEW: u64 = 2 << 20;

/// An environment on a disk of this kind, with a large file; on btrfs, in a subvolume.
fn prepare(kind: &str) -> Option<(Disk, Daemon)> {
    let sprite = Sprite::new();
    let disk = Disk::of_environment(kind, &sprite.path("data"))?;
    let daemon = sprite.storage().idle();
    let noise = trees::noise(&mut fastrand::Rng::new(), LARGE);
    fs::write(daemon.sprite.fs().join("large"), noise).unwrap();
    Some((disk, daemon))
}

/// Changes some pages; returns what the file is then.
fn change(fs_dir: &Path) -> Vec<u8> {
    let path = fs_dir.join("large");
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    for _ in 0..3 {
        let at = fastrand::u64(..(LARGE as u64 - 4096));
        file.write_all_at(&[fastrand::u8(..); 4096], at).unwrap();
    }
    fs::read(path).unwrap()
}

/// A checkpoint; returns how many bytes of files were read for it.
fn bytes_read(daemon: &Daemon) -> u64 {
    let lines = daemon.client().measured_checkpoint();
    let of = |phase: &str| step(&lines, phase).map_or(0, |it| it["bytes_done"].as_u64().unwrap());
    assert_eq!(of("capture"), 0, "nothing is read while everything is held");
    of("pre_copy") + of("seal")
}

fn check(kind: &str, source: &str) {
    let Some((disk, daemon)) = prepare(kind) else {
        return;
    };
    assert_eq!(daemon.client().status()["capture_source"], source);
    let first = fs::read(daemon.sprite.fs().join("large")).unwrap();
    assert!(bytes_read(&daemon) >= LARGE as u64);
    let second = change(&daemon.sprite.fs());
    let read = bytes_read(&daemon);
    assert!((4096..FEW).contains(&read), "{read} bytes were read");
    // Nothing of it shows beside the names of the tree.
    assert_eq!(trees::describe(&daemon.sprite.fs()).len(), 2);
    // What is kept to compare with is kept across a restart.
    let mut daemon = daemon;
    daemon.stop(143);
    let daemon = daemon.into_sprite().idle();
    let third = change(&daemon.sprite.fs());
    let read = bytes_read(&daemon);
    assert!(read < FEW, "{read} bytes were read after a restart");
    // A restore is a change like others.
    let is = |wanted: &[u8]| fs::read(daemon.sprite.fs().join("large")).unwrap() == wanted;
    for (id, wanted) in [("v0", &first), ("v2", &third), ("v1", &second)] {
        assert_eq!(daemon.client().restore(id)["type"], "complete");
        assert!(is(wanted), "{id}");
    }
    let last = change(&daemon.sprite.fs());
    let read = bytes_read(&daemon);
    // Of clones, what it wrote is read once.
    assert!(
        kind == "xfs" || read < FEW,
        "{read} bytes were read after a restore"
    );
    assert_eq!(daemon.client().restore("v0")["type"], "complete");
    assert_eq!(daemon.client().restore("v3")["type"], "complete");
    assert!(is(&last));
    drop((daemon, disk));
}

#[test]
fn a_btrfs_subvolume_is_snapshot() {
    check("btrfs", "btrfs");
}

#[test]
fn on_xfs_large_files_are_cloned() {
    check("xfs", "reflink");
}

#[test]
fn what_a_killed_daemon_froze_is_forgotten() {
    for kind in ["btrfs", "xfs"] {
        let Some((disk, daemon)) = prepare(kind) else {
            return;
        };
        let client = daemon.client();
        bytes_read(&daemon);
        change(&daemon.sprite.fs());
        let going = std::thread::spawn(move || client.attempt_checkpoint());
        let aside = daemon.sprite.path("data/.fs.checkpoint/taken");
        while !going.is_finished() && store::try_files(&aside).is_empty() {
            std::thread::yield_now();
        }
        let sprite = daemon.crash();
        going.join().unwrap();
        let daemon = sprite.idle();
        assert!(store::try_files(&aside).is_empty(), "{kind}");
        let wanted = change(&daemon.sprite.fs());
        assert!(bytes_read(&daemon) < LARGE as u64 / 2, "{kind}");
        let id = daemon.client().get("/checkpoints/Current").json()["id"].clone();
        fs::remove_file(daemon.sprite.fs().join("large")).unwrap();
        assert_eq!(
            daemon.client().restore(id.as_str().unwrap())["type"],
            "complete"
        );
        assert!(fs::read(daemon.sprite.fs().join("large")).unwrap() == wanted);
        drop((daemon, disk));
    }
}

#[test]
fn elsewhere_it_is_a_copy() {
    let daemon = Sprite::new().storage().idle();
    let source = daemon.client().status()["capture_source"].clone();
    assert!(
        ["precopy", "reflink"].contains(&source.as_str().unwrap()),
        "{source}"
    );
}

/// An environment in a volume of its own; none where that is not possible.
fn in_volume(size: &str) -> Option<Sprite> {
    if !is_root() {
        skipped("only root can mount a volume");
        return None;
    }
    if !has("mkfs.btrfs") {
        return None;
    }
    let config = json!({"storage": {"volume": {"type": "btrfs-image", "size": size}}});
    Some(Sprite::new().storage().config(&config))
}

fn is_mounted(sprite: &Sprite) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let dir = sprite.path("data/volume");
    mounts
        .lines()
        .any(|line| line.split(' ').nth(1) == dir.to_str())
}

#[test]
fn a_volume_in_an_image_has_snapshots_anywhere() {
    let Some(sprite) = in_volume("300M") else {
        return;
    };
    let mut daemon = sprite.idle();
    let fs_dir = daemon.sprite.path("data/volume/fs");
    assert_eq!(daemon.client().status()["capture_source"], "btrfs");
    trees::make(&fs_dir, true);
    let first = trees::describe(&fs_dir);
    assert_eq!(daemon.client().checkpoint(), "v0");
    fs::write(fs_dir.join("plain"), "changed").unwrap();
    assert_eq!(daemon.client().restore("v0")["type"], "complete");
    assert_eq!(trees::describe(&fs_dir), first);
    // Unmounted by a stop, mounted by a start.
    daemon.stop(143);
    assert!(!is_mounted(&daemon.sprite));
    let daemon = daemon.into_sprite().idle();
    assert_eq!(trees::describe(&fs_dir), first);
    // What a killed daemon left mounted is used; and a volume can be made larger.
    let sprite = daemon.crash();
    assert!(is_mounted(&sprite));
    let config = json!({"storage": {"volume": {"type": "btrfs-image", "size": "500M"}}});
    fs::write(sprite.path("config.json"), config.to_string()).unwrap();
    let mut daemon = sprite.idle();
    let size = rustix::fs::statvfs(&fs_dir).unwrap();
    assert_eq!(size.f_blocks * size.f_frsize, 500 << 20);
    assert_eq!(daemon.client().restore("v0")["type"], "complete");
    daemon.stop(143);
}

#[test]
fn a_volume_that_cannot_be_is_refused() {
    let refused = |config: Value, why: &str| {
        let sprite = Sprite::new().storage().config(&config);
        let (code, text) = sprite.command(&["true"]).run();
        assert_eq!(code, 78, "{text}");
        assert!(text.contains(why), "{text}");
    };
    let volume = |volume: Value| json!({"storage": {"volume": volume}});
    refused(volume(json!({"type": "zfs"})), "storage.volume.type");
    let small = json!({"type": "btrfs-image", "size": "1M"});
    refused(volume(small), "is no size of at least 256M");
    let both = json!({"volume": {"type": "btrfs-image"}, "dir": "/tmp"});
    refused(
        json!({"storage": both}),
        "cannot be set beside storage.volume",
    );
    if is_root() {
        let sprite = Sprite::new().storage().env("PATH", "/nowhere");
        let sprite = sprite.config(&volume(json!({"type": "btrfs-image"})));
        let (code, text) = sprite.command(&["/bin/true"]).run();
        assert_eq!(code, 78, "{text}");
        assert!(text.contains("the package btrfs-progs has it"), "{text}");
    }
}

/// How many entries were looked at for a checkpoint while everything ran.
fn looked_at(daemon: &Daemon) -> u64 {
    let lines = daemon.client().measured_checkpoint();
    let looks = step(&lines, "pre_copy").unwrap();
    looks["files_done"].as_u64().unwrap()
}

/// A daemon that keeps book of changes in this way, with 550 entries.
fn tracking(sprite: Sprite, how: &str) -> Daemon {
    let config = json!({"checkpoint": {"dirty_tracking": how}});
    let daemon = sprite.storage().config(&config).arg("-debug").idle();
    for number in 0..500 {
        let dir = daemon.sprite.fs().join((number / 10).to_string());
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(number.to_string()), "x").unwrap();
    }
    daemon
}

#[test]
fn what_changes_is_kept_in_mind_between_checkpoints() {
    let daemon = tracking(Sprite::new(), "on");
    assert_eq!(looked_at(&daemon), 550);
    if looked_at(&daemon) == 550 {
        return skipped("the kernel does not tell us of changes here");
    }
    keeps_changes_in_mind(&daemon);
    let daemon = tracking(Sprite::new(), "auto");
    looked_at(&daemon);
    assert_eq!(looked_at(&daemon), 550, "so small a tree is walked");
}

#[test]
fn so_it_is_in_a_btrfs_subvolume() {
    let sprite = Sprite::new();
    let Some(disk) = Disk::of_environment("btrfs", &sprite.path("data")) else {
        return;
    };
    let daemon = tracking(sprite, "on");
    looked_at(&daemon);
    looked_at(&daemon);
    keeps_changes_in_mind(&daemon);
    drop((daemon, disk));
}

/// After two checkpoints.
fn keeps_changes_in_mind(daemon: &Daemon) {
    let at = |name: &str| daemon.sprite.fs().join(name);
    let changes: [&dyn Fn(); 5] = [
        &|| fs::write(at("7/71"), "changed").unwrap(),
        &|| fs::rename(at("8"), at("9/8")).unwrap(),
        &|| fs::remove_dir_all(at("10")).unwrap(),
        &|| {
            fs::create_dir(at("10")).unwrap();
            fs::write(at("10/new"), "x").unwrap();
        },
        // What comes and goes leaves nothing behind, not even a walk.
        &|| {
            fs::create_dir(at("11/gone")).unwrap();
            fs::write(at("11/gone/file"), "x").unwrap();
            fs::remove_dir_all(at("11/gone")).unwrap();
        },
    ];
    let mut wanted = vec![trees::describe(&daemon.sprite.fs()); 2];
    for change in changes {
        change();
        let looked_at = looked_at(daemon);
        assert!(looked_at < 200, "{looked_at} of 550");
        wanted.push(trees::describe(&daemon.sprite.fs()));
    }
    for (number, wanted) in wanted.iter().enumerate().rev() {
        assert_eq!(
            daemon.client().restore(&format!("v{number}"))["type"],
            "complete"
        );
        assert_eq!(trees::describe(&daemon.sprite.fs()), *wanted, "v{number}");
    }
    // A restore ends it, and the next checkpoint begins it anew.
    assert!(looked_at(daemon) > 500);
    assert!(looked_at(daemon) < 200);
}
