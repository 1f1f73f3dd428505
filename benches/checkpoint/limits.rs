//! What the machine can do: the least that any program must do for the same result.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, StatxFlags};

const BLOCK: usize = 64 << 10;

/// Walks a tree with two threads: getdents64, and statx of each entry.
pub fn walk(tree: &Path) -> Duration {
    let start = Instant::now();
    let queue = Mutex::new(vec![tree.to_owned()]);
    let left = AtomicUsize::new(1);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut buffer = Vec::with_capacity(64 << 10);
                while left.load(Ordering::SeqCst) > 0 {
                    let next = queue.lock().unwrap().pop();
                    let Some(dir) = next else {
                        std::thread::yield_now();
                        continue;
                    };
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                    let fd = rustix::fs::open(&dir, flags, Mode::empty()).unwrap();
                    let mut entries = RawDir::new(&fd, buffer.spare_capacity_mut());
                    while let Some(entry) = entries.next() {
                        let entry = entry.unwrap();
                        let name = entry.file_name();
                        if name == c"." || name == c".." {
                            continue;
                        }
                        let flags = AtFlags::SYMLINK_NOFOLLOW;
                        let looks =
                            rustix::fs::statx(&fd, name, flags, StatxFlags::BASIC_STATS).unwrap();
                        if u32::from(looks.stx_mode) & 0o170_000 == 0o040_000 {
                            left.fetch_add(1, Ordering::SeqCst);
                            let child = dir.join(name.to_str().unwrap());
                            queue.lock().unwrap().push(child);
                        }
                    }
                    left.fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
    });
    start.elapsed()
}

fn files(tree: &Path, found: &mut Vec<PathBuf>) {
    let meta = fs::symlink_metadata(tree).unwrap();
    if meta.is_file() {
        found.push(tree.to_owned());
    } else if meta.is_dir() {
        for entry in fs::read_dir(tree).unwrap() {
            files(&entry.unwrap().path(), found);
        }
    }
}

/// Reads and hashes all bytes of a tree with two threads.
pub fn hash(tree: &Path) -> Duration {
    work(tree, false)
}

/// Reads and hashes all bytes of a tree or a file in blocks, with two threads; compresses
/// them too if asked to.
pub fn work(tree: &Path, compress: bool) -> Duration {
    let mut found = Vec::new();
    files(tree, &mut found);
    let mut parts = Vec::new();
    for path in &found {
        let length = fs::metadata(path).unwrap().len();
        for at in (0..length.max(1)).step_by(4 << 20) {
            parts.push((path, at));
        }
    }
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut buffer = vec![0; 4 << 20];
                let mut zstd = zstd::bulk::Compressor::new(1).unwrap();
                let mut out = vec![0; BLOCK * 2];
                while let Some((path, at)) = parts.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let length = File::open(path).unwrap().read_at(&mut buffer, *at).unwrap();
                    for block in buffer[..length].chunks(BLOCK) {
                        std::hint::black_box(blake3::hash(block));
                        if compress {
                            std::hint::black_box(
                                zstd.compress_to_buffer(block, &mut out[..]).unwrap(),
                            );
                        }
                    }
                }
            });
        }
    });
    start.elapsed()
}

/// Writes so many bytes that cannot be compressed, and brings them to the disk.
pub fn write(dir: &Path, bytes: u64) -> Duration {
    let path = dir.join("limit");
    let mut block = vec![0; 1 << 20];
    fastrand::fill(&mut block);
    let start = Instant::now();
    let mut file = File::create(&path).unwrap();
    for _ in 0..bytes >> 20 {
        std::io::Write::write_all(&mut file, &block).unwrap();
    }
    file.sync_all().unwrap();
    let time = start.elapsed();
    fs::remove_file(path).unwrap();
    time
}
