//! The trees and what is changed in them, each the same for the same seed.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use fastrand::Rng;

/// Source code, more or less: words that compress to two fifths.
fn text(rng: &mut Rng, length: usize) -> Vec<u8> {
    let words = [
        "function", "const", "return", "=>", "{", "}", ";\n", "value", "index", "this.",
    ];
    let mut bytes = Vec::with_capacity(length + 16);
    while bytes.len() < length {
        if rng.u8(..3) == 0 {
            let name = rng.u32(..);
            write!(bytes, "{name:x}").unwrap();
        } else {
            bytes.extend_from_slice(words[rng.usize(..words.len())].as_bytes());
        }
        bytes.push(b' ');
    }
    bytes.truncate(length);
    bytes
}

/// Around 4 KB, and now and then much longer.
fn length(rng: &mut Rng) -> usize {
    let normal: f64 = (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
    let length = 4096.0 * (normal * 1.3).exp();
    (length as usize).clamp(1, 4 << 20)
}

fn directory(number: usize) -> String {
    format!("packages/p{:03}/lib{:02}", number / 20, number % 20)
}

/// 50,000 files in 5,000 directories, about 400 MB, with links, attributes, odd modes and
/// names.
pub fn t1(tree: &Path, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    for number in 0..5_000 {
        let dir = tree.join(directory(number));
        fs::create_dir_all(&dir).unwrap();
        for file in 0..10 {
            let path = dir.join(format!("module-{file}.js"));
            let length = length(&mut rng);
            fs::write(&path, text(&mut rng, length)).unwrap();
            match rng.u16(..100) {
                0 => symlink(
                    format!("module-{file}.js"),
                    dir.join(format!("link-{file}")),
                )
                .unwrap(),
                1 => fs::hard_link(&path, dir.join(format!("hard-{file}"))).unwrap(),
                2 => {
                    let flags = rustix::fs::XattrFlags::empty();
                    rustix::fs::lsetxattr(&path, "user.origin", b"registry", flags).unwrap();
                }
                3 => fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap(),
                4 => fs::rename(&path, dir.join(format!("odd name\n{file}"))).unwrap(),
                _ => {}
            }
        }
    }
}

/// Changes 100 files, adds 50, removes 50, renames 20.
pub fn m1(tree: &Path, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let mut some = || -> PathBuf {
        loop {
            let dir = tree.join(directory(rng.usize(..5_000)));
            let path = dir.join(format!("module-{}.js", rng.usize(..10)));
            if path.exists() {
                return path;
            }
        }
    };
    let mut content = Rng::with_seed(seed + 1);
    for _ in 0..100 {
        let length = length(&mut content);
        fs::write(some(), text(&mut content, length)).unwrap();
    }
    for number in 0..50 {
        let length = length(&mut content);
        let path = some().with_file_name(format!("new-{seed}-{number}.js"));
        fs::write(path, text(&mut content, length)).unwrap();
        fs::remove_file(some()).unwrap();
    }
    for number in 0..20 {
        let path = some();
        fs::rename(
            &path,
            path.with_file_name(format!("renamed-{seed}-{number}.js")),
        )
        .unwrap();
    }
}

/// A row of a database: a key that nothing can compress, and text.
const ROW: usize = 128;
const KEY: usize = 8;

fn database(path: &Path, mb: usize, rng: &mut Rng) {
    let mut file = fs::File::create(path).unwrap();
    let mut rows = text(rng, 1 << 20);
    for _ in 0..mb {
        for row in rows.chunks_mut(ROW) {
            rng.fill(&mut row[..KEY]);
        }
        file.write_all(&rows).unwrap();
    }
}

fn model(path: &Path, mb: usize, rng: &mut Rng) {
    let mut file = fs::File::create(path).unwrap();
    let mut noise = vec![0; 1 << 20];
    for _ in 0..mb {
        rng.fill(&mut noise);
        file.write_all(&noise).unwrap();
    }
}

/// 4 GB in seven files: a database of 2 GB, which compresses, and models, which do not.
pub fn t2(tree: &Path, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    fs::create_dir_all(tree).unwrap();
    database(&tree.join("database"), 2048, &mut rng);
    for number in 0..6 {
        model(&tree.join(format!("model-{number}")), 341, &mut rng);
    }
}

/// Overwrites 200 random pages of the database.
pub fn m2(tree: &Path, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let file = fs::OpenOptions::new()
        .write(true)
        .open(tree.join("database"))
        .unwrap();
    let mut page = [0; 4096];
    for _ in 0..200 {
        rng.fill(&mut page);
        file.write_all_at(&page, rng.u64(..(2 << 30) / 4096) * 4096)
            .unwrap();
    }
    file.sync_all().unwrap();
}

/// 1,000,000 small files in 10,000 directories.
pub fn t3(tree: &Path) {
    for number in 0..10_000 {
        let dir = tree.join(format!("{:03}/{:02}", number / 100, number % 100));
        fs::create_dir_all(&dir).unwrap();
        for file in 0..100 {
            fs::write(dir.join(format!("f{file}")), format!("{number} {file}\n")).unwrap();
        }
    }
}
