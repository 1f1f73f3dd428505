//! Histories of a tree, made up at random: every checkpoint is what was there, whatever
//! came before, changed between its two looks, or was deleted and collected since.

use std::fs;

use fastrand::Rng;
use sprite_env::checkpoint::Driver as _;

use crate::support::changes::change;
use crate::support::lab::{Lab, Tree, compare, seeded};
use crate::support::{is_root, trees};

#[test]
fn a_random_history_of_200_checkpoints() {
    let rng = seeded();
    history(rng, Lab::new(), 200);
}

#[test]
fn a_random_history_with_snapshots() {
    let rng = seeded();
    if let Some(lab) = Lab::of_kind("btrfs") {
        assert_eq!(lab.store.capture_source(), Some("btrfs"));
        history(rng, lab, 60);
    }
}

#[test]
fn a_random_history_with_clones() {
    let rng = seeded();
    if let Some(lab) = Lab::of_kind("xfs") {
        assert_eq!(lab.store.capture_source(), Some("reflink"));
        history(rng, lab, 60);
    }
}

/// Random changes, checkpoints, restores and deletions: each restore brings back what was.
fn history(mut rng: Rng, mut lab: Lab, rounds: u32) {
    let mut kept: Vec<(String, Tree)> = Vec::new();
    for round in 0..rounds {
        let tree = lab.tree();
        for _ in 0..rng.usize(..8) {
            change(&tree, &mut rng);
        }
        let id = lab.checkpoint(|| {
            for _ in 0..rng.usize(..4) {
                change(&tree, &mut rng);
            }
        });
        kept.push((id, lab.looks()));
        if rng.u8(..3) == 0 {
            let (id, wanted) = &kept[rng.usize(..kept.len())];
            // From a tree that was changed since, or not.
            for _ in 0..rng.usize(..6) {
                change(&tree, &mut rng);
            }
            lab.restore(id);
            compare(&lab.looks(), wanted, &format!("round {round}, {id}"));
        }
        if rng.u8(..3) == 0 && kept.len() > 3 {
            let victim = rng.usize(..kept.len());
            // Not the one that was restored last.
            if lab.store.delete(&kept[victim].0).is_ok() {
                kept.remove(victim);
            }
        }
        if rng.u8(..20) == 0 {
            let (id, wanted) = &kept[rng.usize(..kept.len())];
            let again = lab.send_round(id);
            lab.restore(&again);
            let what = format!("round {round}, {id} imported as {again}");
            compare(&lab.looks(), wanted, &what);
            kept.push((again, wanted.clone()));
        }
        if rng.u8(..10) == 0 {
            lab = lab.reopen();
        }
    }
    for (id, wanted) in &kept {
        lab.restore(id);
        compare(&lab.looks(), wanted, &format!("in the end, {id}"));
    }
    // And it is one instant of the tree that the next one says again.
    let id = lab.checkpoint(|| {});
    let (last, _) = kept.last().unwrap();
    let found = lab.store.find(&id).unwrap().root;
    assert_eq!(found, lab.store.find(last).unwrap().root);
}

#[test]
fn what_goes_right_after_the_instant_is_in_it() {
    let labs = [
        Lab::of_kind("btrfs"),
        Lab::untold(),
        Lab::of_kind("xfs"),
        Some(Lab::new()),
    ];
    for lab in labs.into_iter().flatten() {
        let at = |name: &str| lab.tree().join(name);
        fs::create_dir_all(at("kept/gone/below")).unwrap();
        for name in ["kept/gone/file", "kept/gone/below/file"] {
            fs::write(at(name), "first").unwrap();
        }
        lab.checkpoint(|| {});
        let change = || {
            for name in ["kept/gone/file", "kept/gone/below/file"] {
                fs::write(at(name), "second").unwrap();
            }
        };
        let go = || fs::remove_dir_all(at("kept/gone")).unwrap();
        let id = lab.checkpoint_with(change, go);
        lab.restore(&id);
        for name in ["kept/gone/file", "kept/gone/below/file"] {
            let found = fs::read_to_string(at(name)).unwrap();
            assert_eq!(found, "second", "{:?}", lab.store.capture_source());
        }
    }
}

#[test]
fn what_is_restored_is_not_read_again() {
    let lab = Lab::new();
    trees::make(&lab.tree(), is_root());
    let first = lab.checkpoint(|| {});
    fs::write(lab.tree().join("plain"), "other").unwrap();
    fs::remove_file(lab.tree().join("sparse")).unwrap();
    lab.checkpoint(|| {});
    lab.restore(&first);
    let again = lab.checkpoint(|| {});
    let root = |id: &str| lab.store.find(id).unwrap().root;
    assert_eq!(root(&again), root(&first), "nothing is stored for it");
}

/// Nobody is told of the directory that the other name of a file is in, when a directory
/// goes with one of them.
#[test]
fn a_file_whose_other_name_went_with_its_directory_has_one_name() {
    let lab = Lab::new();
    let at = |name: &str| lab.tree().join(name);
    fs::create_dir_all(at("gone/below")).unwrap();
    fs::create_dir(at("kept")).unwrap();
    fs::write(at("kept/file"), "content").unwrap();
    fs::hard_link(at("kept/file"), at("gone/below/link")).unwrap();
    lab.checkpoint(|| {});
    let found = lab.checkpoint(|| fs::remove_dir_all(at("gone")).unwrap());
    let root = |lab: &Lab, id: &str| lab.store.find(id).unwrap().root;
    // The first one after a start looks at everything.
    let lab = lab.reopen();
    let all = lab.checkpoint(|| {});
    assert_eq!(root(&lab, &found), root(&lab, &all));
    lab.restore(&found);
}

#[test]
fn ten_thousand_directories_deep() {
    let lab = Lab::new();
    let mut fd = rustix::fs::open(
        lab.tree(),
        rustix::fs::OFlags::PATH,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    for _ in 0..10_000 {
        rustix::fs::mkdirat(&fd, "d", rustix::fs::Mode::RWXU).unwrap();
        fd = rustix::fs::openat(
            &fd,
            "d",
            rustix::fs::OFlags::PATH,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
    }
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    let file = rustix::fs::openat(&fd, "file", flags, rustix::fs::Mode::RUSR).unwrap();
    rustix::io::write(&file, b"deep").unwrap();
    drop((file, fd));
    let deep = lab.checkpoint(|| {});
    assert_eq!(lab.store.find(&deep).unwrap().entries, 10_001);
    // rm -r would not get down there; a restore does.
    fs::create_dir(lab.dir.path().join("other")).unwrap();
    fs::rename(lab.tree().join("d"), lab.dir.path().join("other/d")).unwrap();
    let empty = lab.checkpoint(|| {});
    lab.restore(&deep);
    lab.restore(&empty);
    assert_eq!(fs::read_dir(lab.tree()).unwrap().count(), 0);
    // What was moved away is put back, to be removed by a restore too.
    fs::rename(lab.dir.path().join("other/d"), lab.tree().join("d")).unwrap();
    lab.restore(&empty);
    assert_eq!(fs::read_dir(lab.tree()).unwrap().count(), 0);
}
