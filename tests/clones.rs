//! Large files are cloned while everything runs, and again while it is held only if they have
//! changed since: a clone may take long. Of a file in many pieces only those are cloned that have
//! changed.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use rustix::fs::{FallocateFlags, fallocate};
use sprite_env::checkpoint::Driver as _;

use crate::sdks::has;
use crate::support::beside::beside;
use crate::support::disk::Disk;
use crate::support::lab::{Lab, seeded};
use crate::support::tracer::{Tracer, can_trace};
use crate::support::{Daemon, Sprite, json, wait_for_file_to_exist};

/// More than is read at once.
const LARGE: usize = (1 << 20) + 5000;
/// So many pieces are many.
const PIECES: u64 = 400;
/// In each piece so much is written, behind a hole as large.
const PIECE: usize = 4096;

/// A daemon whose clones can be counted, and the disk that it is on.
fn traceable_on_xfs() -> Option<(Daemon, Disk)> {
    let sprite = Sprite::new();
    let disk = Disk::of_environment("xfs", &sprite.path("data"))?;
    can_trace().then(|| (sprite.storage().idle(), disk))
}

/// How many clones a checkpoint makes of this kind, before everything is held and while it is.
fn clones_made(daemon: &Daemon, kind: &str) -> (usize, usize) {
    // Before Linux 6.13 what has just changed may change once more and look the same, and so is
    // cloned twice. Not to wait for something, but for nothing.
    std::thread::sleep(Duration::from_millis(50));
    let traced = Tracer::attach(daemon, "ioctl,openat,kill", "signal=none");
    daemon.client().checkpoint();
    drop(traced);
    let log = fs::read_to_string(daemon.sprite.path("strace.log")).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    let holds =
        |line: &&str| line.contains("cgroup.freeze\", O_WRONLY") || line.contains("SIGSTOP");
    let held = lines.iter().position(holds).expect("everything is held");
    let count = |lines: &[&str]| {
        lines
            .iter()
            .filter(|line| line.contains(&format!(" {kind},")))
            .count()
    };
    (count(&lines[..held]), count(&lines[held..]))
}

#[test]
fn large_files_are_cloned_before_everything_is_held() {
    let Some((daemon, disk)) = traceable_on_xfs() else {
        return;
    };
    let path = |name: &str| daemon.sprite.fs().join(name);
    for name in ["a", "b", "busy"] {
        fs::write(path(name), vec![1; LARGE]).unwrap();
    }
    let busy = fs::OpenOptions::new().write(true).open(path("busy"));
    let busy = busy.unwrap();
    let write = || busy.write_all_at(&[fastrand::u8(..)], 0).unwrap();
    beside(write, || {
        // The busy one as often as it is looked at, and was written to since.
        let (before, held) = clones_made(&daemon, "FICLONE");
        assert!(before >= 3 && held <= 1, "{before} {held}");
        fs::write(path("a"), vec![2; LARGE]).unwrap();
        let (before, held) = clones_made(&daemon, "FICLONE");
        assert!(before >= 2 && held <= 1, "{before} {held}");
    });
    assert_eq!(clones_made(&daemon, "FICLONE"), (1, 0));
    assert_eq!(clones_made(&daemon, "FICLONE"), (0, 0));
    drop((daemon, disk));
}

/// Where a piece starts.
fn start(number: u64) -> u64 {
    (2 * number + 1) * PIECE as u64
}

/// Writes a file of many pieces.
fn write_pieces(path: &Path) {
    let file = fs::File::create(path).unwrap();
    for number in 0..PIECES {
        let at = start(number);
        file.write_all_at(&[1; PIECE], at).unwrap();
    }
}

#[test]
fn of_a_file_in_many_pieces_only_those_are_cloned_that_have_changed() {
    let Some((daemon, disk)) = traceable_on_xfs() else {
        return;
    };
    let path = daemon.sprite.fs().join("pieces");
    write_pieces(&path);
    assert_eq!(clones_made(&daemon, "FICLONE"), (1, 0));
    let write = |number: u64, byte: u8| {
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[byte], start(number)).unwrap();
    };
    // The first range is cloned in any case.
    write(100, 2);
    write(300, 2);
    assert_eq!(clones_made(&daemon, "FICLONERANGE"), (3, 0));
    write(200, 2);
    assert_eq!(clones_made(&daemon, "FICLONE"), (0, 0));
    drop((daemon, disk));
}

#[test]
fn a_large_file_with_two_names_is_in_it_whatever_else_has_two() {
    let labs = [Lab::of_kind("xfs"), Lab::of_kind("btrfs"), Some(Lab::new())];
    for lab in labs.into_iter().flatten() {
        let at = |name: &str| lab.tree().join(name);
        for name in ["a", "b", "c"] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::write(at("c/small"), "first").unwrap();
        fs::hard_link(at("c/small"), at("a/small")).unwrap();
        lab.checkpoint(|| {});
        // Where the other name of the small one is nobody tells, so that is looked at afterwards.
        let id = lab.checkpoint(|| {
            fs::write(at("a/large"), vec![1; LARGE]).unwrap();
            fs::hard_link(at("a/large"), at("b/large")).unwrap();
            fs::write(at("a/small"), "second").unwrap();
        });
        for name in ["a", "b", "c"] {
            fs::remove_dir_all(at(name)).unwrap();
        }
        lab.restore(&id);
        let source = lab.store.capture_source();
        assert!(
            fs::read(at("b/large")).unwrap() == vec![1; LARGE],
            "{source:?}"
        );
        assert_eq!(fs::read(at("c/small")).unwrap(), b"second", "{source:?}");
    }
}

/// Changes a file of many pieces somehow.
fn change_pieces(path: &Path, rng: &mut Rng) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let size = file.metadata().unwrap().len();
    let at = rng.u64(..size);
    let page = at - at % PIECE as u64;
    let flags = FallocateFlags::KEEP_SIZE;
    match rng.u8(..12) {
        0 => file.set_len(size - rng.u64(..size / 20)).unwrap(),
        1 => file.set_len(size + rng.u64(..100_000)).unwrap(),
        2 => {
            let mut more = vec![0; rng.usize(1..100_000)];
            rng.fill(&mut more);
            file.write_all_at(&more, size).unwrap();
        }
        // Now there is room where there was a hole, or nothing.
        3 => fallocate(&file, flags, page, 40_960).unwrap(),
        4 => fallocate(&file, flags | FallocateFlags::PUNCH_HOLE, at, 20_000).unwrap(),
        at_start => {
            let mut bytes = vec![0; rng.usize(1..20_000)];
            rng.fill(&mut bytes);
            let at = if at_start == 5 { at % 60_000 } else { at };
            file.write_all_at(&bytes, at).unwrap();
        }
    }
}

/// Checkpoints of a file of many pieces, with others between them that come to nothing: each has
/// what was there at the instant.
fn pieces(mut rng: Rng, mut lab: Lab) {
    let path = lab.tree().join("pieces");
    write_pieces(&path);
    let mut kept: Vec<(String, Vec<u8>)> = Vec::new();
    for _ in 0..40 {
        let mut change = |most: usize| {
            for _ in 0..rng.usize(..most) {
                change_pieces(&path, &mut rng);
            }
        };
        change(6);
        if fastrand::u8(..4) == 0 {
            lab.discarded(|| change(3));
            change(3);
        }
        // The same closure cannot be lent twice.
        let change = std::cell::RefCell::new(change);
        let mut wanted = Vec::new();
        let meanwhile = || {
            change.borrow_mut()(3);
            wanted = fs::read(&path).unwrap();
        };
        let id = lab.checkpoint_with(meanwhile, || change.borrow_mut()(3));
        kept.push((id, wanted));
        if fastrand::u8(..8) == 0 {
            let (id, wanted) = &kept[fastrand::usize(..kept.len())];
            lab.restore(id);
            assert!(fs::read(&path).unwrap() == *wanted, "{id}");
        }
        if fastrand::u8(..10) == 0 {
            lab = lab.reopen();
        }
    }
    for (id, wanted) in &kept {
        lab.restore(id);
        assert!(fs::read(&path).unwrap() == *wanted, "in the end, {id}");
    }
}

/// Checkpoints of a file to which somebody appends who is not held: what was not in them is in the
/// next.
fn appended(lab: &Lab) {
    let path = lab.tree().join("pieces");
    for _ in 0..5 {
        write_pieces(&path);
        lab.checkpoint(|| {});
        let file = fs::OpenOptions::new().append(true).open(&path);
        let mut file = file.unwrap();
        let append = || {
            let bytes = vec![fastrand::u8(1..); fastrand::usize(1..5_000)];
            file.write_all(&bytes).unwrap();
            // Not as fast as it can be, or the disk is full soon.
            std::thread::sleep(Duration::from_micros(100));
        };
        beside(append, || {
            for _ in 0..4 {
                lab.checkpoint(|| {});
            }
        });
        let id = lab.checkpoint(|| {});
        let wanted = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        lab.restore(&id);
        let source = lab.store.capture_source();
        assert!(fs::read(&path).unwrap() == wanted, "{id}, {source:?}");
    }
}

#[test]
fn what_is_appended_meanwhile_is_in_the_next() {
    seeded();
    let labs = [Lab::of_kind("xfs"), Lab::of_kind("btrfs"), Some(Lab::new())];
    for lab in labs.into_iter().flatten() {
        appended(&lab);
    }
}

#[test]
fn a_random_history_of_many_pieces_by_clones() {
    let rng = seeded();
    if let Some(lab) = Lab::of_kind("xfs") {
        pieces(rng, lab);
    }
}

#[test]
fn a_random_history_of_many_pieces_by_snapshots() {
    let rng = seeded();
    if let Some(lab) = Lab::of_kind("btrfs") {
        pieces(rng, lab);
    }
}

/// Writes to one file after the other, each in a directory of its own, in ways that differ, so
/// slowly that each rests for a while. Not all of it is told by the kernel.
const RING: &str = r#"
import mmap, os, sys, time
files, large = int(sys.argv[1]), int(sys.argv[2])
opened, maps = [], []
for number in range(files):
    os.mkdir(f"{sys.argv[3]}/{number}")
    path = f"{sys.argv[3]}/{number}/file"
    with open(path, "wb") as file:
        file.truncate(large)
    opened.append(open(path, "r+b", buffering=0))
    maps.append(mmap.mmap(opened[-1].fileno(), large) if number % 3 == 1 else None)
n = 0
while True:
    n += 1
    number, text = n % files, b"%9d" % n
    if number % 3 == 0:
        os.pwrite(opened[number].fileno(), text, large - 4000)
    elif number % 3 == 1:
        maps[number][large - 4000:large - 3991] = text
    else:
        with mmap.mmap(opened[number].fileno(), large) as short:
            short[large - 4000:large - 3991] = text
    if n == 2 * files:
        open("round", "w").close()
    time.sleep(0.01)
"#;

/// Whether each checkpoint has of each of twelve large files what was written last.
fn are_of_one_instant(sprite: Sprite) {
    const FILES: usize = 12;
    if !has("python3") || !can_trace() {
        return;
    }
    fs::write(sprite.path("ring.py"), RING).unwrap();
    let arguments = [FILES.to_string(), LARGE.to_string()];
    let dir = sprite.path("data/fs").display().to_string();
    let command = ["python3", "ring.py", &arguments[0], &arguments[1], &dir];
    // So that what holds them are signals, which can be delayed.
    let sprite = sprite.config(&json!({"cgroups": "off"}));
    let daemon = sprite.command(&command).storage().api().start();
    daemon.wait_running();
    wait_for_file_to_exist(&daemon.sprite.path("round"));
    let client = daemon.client();
    for _ in 0..15 {
        // Much is written between the last walk and the moment from which nothing is.
        let delayed = Tracer::attach(&daemon, "kill", "inject=kill:delay_enter=50000");
        let id = client.checkpoint();
        drop(delayed);
        let number_in = |number: usize| -> usize {
            let file = client.get(&format!("/checkpoints/{id}/files?path={number}/file"));
            assert_eq!(file.bytes.len(), LARGE, "{id}: {number}");
            let text = &file.bytes[LARGE - 4000..LARGE - 3991];
            String::from_utf8_lossy(text).trim().parse().unwrap()
        };
        let found: Vec<usize> = (0..FILES).map(number_in).collect();
        let last = *found.iter().max().unwrap();
        let wanted = |number: usize| last - (last % FILES + FILES - number) % FILES;
        let wanted: Vec<usize> = (0..FILES).map(wanted).collect();
        assert_eq!(found, wanted, "{id}");
    }
}

/// The same on a disk of its own.
fn are_of_one_instant_on(kind: &str) {
    let sprite = Sprite::new();
    if let Some(disk) = Disk::of_environment(kind, &sprite.path("data")) {
        are_of_one_instant(sprite);
        drop(disk);
    }
}

#[test]
fn clones_are_of_one_instant() {
    are_of_one_instant_on("xfs");
}

#[test]
fn a_snapshot_is_of_one_instant() {
    are_of_one_instant_on("btrfs");
}

#[test]
fn what_is_copied_is_of_one_instant() {
    are_of_one_instant(Sprite::new());
}
