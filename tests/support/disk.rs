//! Disks of a test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{is_root, skipped};
use crate::sdks::has;

/// The least that a filesystem gives away.
pub const PAGE: u64 = 4096;

/// Makes a subvolume of a btrfs.
pub fn make_subvolume(at: &Path) {
    let mut btrfs = Command::new("btrfs");
    let made = btrfs.args(["-q", "subvolume", "create"]).arg(at);
    assert!(made.status().unwrap().success());
}

/// A disk that is mounted somewhere; goes with the test.
pub struct Disk(PathBuf);

impl Disk {
    /// One in memory, whose size can be changed.
    pub fn in_memory(at: &Path) -> Option<Self> {
        Self::mount(at, &["-t", "tmpfs", "-o", "size=256m", "tmpfs"])
    }

    /// A new filesystem of this kind in an image, whose file is beside `at`.
    pub fn of_kind(kind: &str, at: &Path) -> Option<Self> {
        Self::in_image(kind, at, 600 << 20, &[])
    }

    /// The same for an environment whose data are `at`; on btrfs, its directory is a subvolume.
    pub fn of_environment(kind: &str, at: &Path) -> Option<Self> {
        let disk = Self::of_kind(kind, at)?;
        if kind == "btrfs" {
            make_subvolume(&at.join("fs"));
        }
        Some(disk)
    }

    /// One of Debian's usual kind, with room for so many files.
    pub fn with_room_for_files(at: &Path, files: u64) -> Option<Self> {
        let options = ["-F", "-N", &files.to_string()];
        Self::in_image("ext4", at, 8 << 30, &options)
    }

    /// What is at `of`, at another place too.
    pub fn bound(of: &Path, at: &Path) -> Option<Self> {
        Self::mount(at, &["--bind", of.to_str().unwrap()])
    }

    fn in_image(kind: &str, at: &Path, size: u64, options: &[&str]) -> Option<Self> {
        let mkfs = format!("mkfs.{kind}");
        if !has(&mkfs) {
            return None;
        }
        let image = at.with_extension("image");
        fs::create_dir_all(image.parent().unwrap()).unwrap();
        let file = fs::File::create(&image).unwrap();
        file.set_len(size).unwrap();
        let format = |words: &[&str]| {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).args(options).arg(&image);
            command.output().unwrap()
        };
        let mut made = format(&[&mkfs, "-q"]);
        if !made.status.success() {
            // mkfs.btrfs gives up when it sees what a test that kills a JuiceFS has mounted on it.
            let alone = r#"mount --bind /dev/null "/proc/$$/mounts" && exec "$0" "$@""#;
            made = format(&["unshare", "--mount", "sh", "-c", alone, &mkfs, "-q"]);
        }
        let complaint = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{complaint}");
        Self::mount(at, &["-o", "loop", image.to_str().unwrap()])
    }

    fn mount(at: &Path, arguments: &[&str]) -> Option<Self> {
        if !is_root() {
            skipped("only root can mount a disk of its own");
            return None;
        }
        fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount")
            .args(arguments)
            .arg(at)
            .output()
            .unwrap();
        if !mounted.status.success() {
            let why = String::from_utf8_lossy(&mounted.stderr);
            skipped(&format!("this disk cannot be mounted here: {}", why.trim()));
            return None;
        }
        Some(Self(at.to_owned()))
    }

    /// Leaves so many pages free.
    pub fn leave(&self, pages: u64) {
        let stat = rustix::fs::statvfs(&self.0).unwrap();
        let used = (stat.f_blocks - stat.f_bfree) * stat.f_bsize;
        self.resize(used + pages * PAGE);
    }

    fn resize(&self, bytes: u64) {
        let size = format!("remount,size={bytes}");
        let mut mount = Command::new("mount");
        let done = mount.args(["-o", &size]).arg(&self.0).status();
        assert!(done.unwrap().success());
    }

    pub fn empty_again(&self) {
        self.resize(256 << 20);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
