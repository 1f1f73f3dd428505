//! Changes to a tree, made up at random.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

use fastrand::Rng;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

use super::{is_root, trees};

/// Names, some of them odd.
fn name(rng: &mut Rng) -> PathBuf {
    let odd: [&[u8]; 5] = [b"a b", b"new\nline", b"not-utf8-\xff", b"-dash", b"*"];
    match rng.u8(..10) {
        0 => PathBuf::from(OsStr::from_bytes(odd[rng.usize(..odd.len())])),
        _ => PathBuf::from(format!("n{}", rng.u8(..12))),
    }
}

fn paths(root: &Path, directories: bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let is_dir = !path.is_symlink() && path.is_dir();
            if is_dir {
                left.push(path.clone());
            }
            if is_dir == directories {
                found.push(path);
            }
        }
    }
    if directories {
        found.push(root.to_owned());
    }
    found.sort();
    found
}

fn one<'a>(rng: &mut Rng, paths: &'a [PathBuf]) -> Option<&'a PathBuf> {
    (!paths.is_empty()).then(|| &paths[rng.usize(..paths.len())])
}

fn content(rng: &mut Rng) -> Vec<u8> {
    let length = match rng.u8(..8) {
        0 => 0,
        1 => rng.usize(60_000..70_000),
        2 => rng.usize(130_000..400_000),
        _ => rng.usize(1..5_000),
    };
    let mut bytes = vec![0; length];
    if rng.bool() {
        rng.fill(&mut bytes);
    } else {
        // Zeros with something in them: holes, after a restore.
        for byte in bytes.iter_mut().step_by(100_000) {
            *byte = rng.u8(..);
        }
    }
    bytes
}

/// Removes whatever is at `path`.
fn clear(path: &Path) {
    let _ = fs::remove_dir_all(path);
    let _ = fs::remove_file(path);
}

/// Sets an attribute, or removes one. What the filesystem or we cannot have is left.
fn change_attributes(path: &Path, rng: &mut Rng) {
    let list = trees::access_list([7, rng.u16(..8), rng.u16(..8), rng.u16(..8), rng.u16(..8)]);
    let (name, value) = match rng.u8(..6) {
        0 => ("system.posix_acl_access", list),
        1 => ("system.posix_acl_default", list),
        2 => ("security.capability", trees::capability(rng.u8(..8))),
        3 => ("trusted.note", vec![rng.u8(..); rng.usize(..300)]),
        4 => ("user.other", Vec::new()),
        _ => ("user.note", content(rng).into_iter().take(9).collect()),
    };
    if rng.u8(..4) == 0 {
        let _ = rustix::fs::lremovexattr(path, name);
    } else {
        let _ = rustix::fs::lsetxattr(path, name, &value, XattrFlags::empty());
    }
}

/// One change. What does not apply is left.
pub fn change(root: &Path, rng: &mut Rng) {
    let (files, dirs) = (paths(root, false), paths(root, true));
    let dir = one(rng, &dirs).unwrap().clone();
    let new = dir.join(name(rng));
    let file = one(rng, &files);
    match rng.u8(..22) {
        0..=2 => {
            clear(&new);
            fs::write(&new, content(rng)).unwrap();
        }
        3 => {
            clear(&new);
            fs::create_dir(&new).unwrap();
        }
        4 => {
            clear(&new);
            symlink(name(rng), &new).unwrap();
        }
        5 if file.is_some_and(|file| *file != new) => {
            // Only files keep their further names.
            let is_file = |path: &PathBuf| path.symlink_metadata().is_ok_and(|meta| meta.is_file());
            clear(&new);
            if let Some(file) = file.filter(|file| is_file(file)) {
                fs::hard_link(file, &new).unwrap();
            }
        }
        6 | 7 => {
            if let Some(file) = file.filter(|file| file.is_file() && !file.is_symlink()) {
                let file = fs::OpenOptions::new().write(true).open(file).unwrap();
                let length = file.metadata().unwrap().len();
                file.write_all_at(&content(rng), rng.u64(..=length))
                    .unwrap();
            }
        }
        8 => {
            if let Some(file) = file.filter(|file| file.is_file() && !file.is_symlink()) {
                let file = fs::OpenOptions::new().write(true).open(file).unwrap();
                file.set_len(rng.u64(..200_000)).unwrap();
            }
        }
        9 => {
            if let Some(file) = file {
                fs::remove_file(file).unwrap();
            }
        }
        10 if dir != root => fs::remove_dir_all(&dir).unwrap(),
        11 | 12 => {
            // A file or a directory moves, over what was there or into another directory.
            let from = if rng.bool() {
                file.unwrap_or(&dir).clone()
            } else {
                one(rng, &dirs).unwrap().clone()
            };
            if from != root && !new.starts_with(&from) && !from.starts_with(&new) {
                clear(&new);
                fs::rename(&from, &new).unwrap();
            }
        }
        16 | 17 => {
            // Like a database: a large file, of which a little changes.
            let large = root.join(["large", "larger"][rng.usize(..2)]);
            if !large.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
                clear(&large);
            }
            let mut options = fs::OpenOptions::new();
            let file = options
                .write(true)
                .create(true)
                .truncate(false)
                .open(&large)
                .unwrap();
            for _ in 0..rng.usize(1..4) {
                file.write_all_at(&content(rng), rng.u64(..1_500_000))
                    .unwrap();
            }
            if rng.u8(..4) == 0 {
                file.set_len(rng.u64(..1_500_000)).unwrap();
            }
        }
        13 => {
            let mode = [0o600, 0o644, 0o755, 0o4711, 0o1777][rng.usize(..5)];
            let path = file.filter(|file| !file.is_symlink()).unwrap_or(&dir);
            // Without root we could not go on in a directory that we may not enter.
            if is_root() || path.is_file() {
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        14 => {
            let path = file.filter(|file| file.is_file()).unwrap_or(&dir);
            change_attributes(path, rng);
        }
        18 => {
            let time = Timespec {
                tv_sec: rng.i64(-1_000_000..2_000_000_000),
                tv_nsec: rng.i64(0..1_000_000_000),
            };
            let times = Timestamps {
                last_access: time,
                last_modification: time,
            };
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::utimensat(CWD, file.unwrap_or(&dir), &times, flags).unwrap();
        }
        19 if is_root() => {
            let owner = rng.u32(..3_000);
            lchown(file.unwrap_or(&dir), Some(owner), Some(owner + 1)).unwrap();
        }
        20 if is_root() => {
            clear(&new);
            let kinds = [FileType::CharacterDevice, FileType::BlockDevice];
            let device = rustix::fs::makedev(1, rng.u32(..300));
            // A container may not be allowed to.
            let _ = rustix::fs::mknodat(CWD, &new, kinds[rng.usize(..2)], Mode::RUSR, device);
        }
        _ => {
            clear(&new);
            let kind = FileType::Fifo;
            rustix::fs::mknodat(CWD, &new, kind, Mode::RUSR, 0).unwrap();
        }
    }
}
