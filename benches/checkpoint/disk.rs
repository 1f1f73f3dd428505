//! Filesystems to measure on.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::run;

/// A fresh filesystem; unmounted and removed when dropped.
pub struct Disk {
    image: PathBuf,
    pub dir: PathBuf,
}

impl Disk {
    pub fn new(gib: u64) -> Self {
        Self::of_kind("ext4", gib)
    }

    /// One with this filesystem; on btrfs the environment is in a subvolume. The image has all its
    /// blocks, and keeps them: whoever writes first would else pay for them.
    pub fn of_kind(kind: &str, gib: u64) -> Self {
        let base = std::env::temp_dir().join(format!("sprite-bench-{}", std::process::id()));
        let dir = base.join("disk");
        std::fs::create_dir_all(&dir).unwrap();
        let image = base.join("image");
        let mut file = std::fs::File::create(&image).unwrap();
        let zeros = vec![0; 1 << 20];
        for _ in 0..gib << 10 {
            std::io::Write::write_all(&mut file, &zeros).unwrap();
        }
        file.sync_all().unwrap();
        // What is kept of it in the cache would have to be thrown away by each write past it.
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let options: &[&str] = match kind {
            "ext4" => &[
                "-F",
                "-E",
                "nodiscard,lazy_itable_init=0,lazy_journal_init=0",
            ],
            _ => &["-f", "-K"],
        };
        run(Command::new(format!("mkfs.{kind}"))
            .arg("-q")
            .args(options)
            .arg(&image));
        let device = loop_device(&image);
        let mounted = Command::new("mount")
            .args(["-o", "nodiscard"])
            .arg(&device)
            .arg(&dir)
            .status();
        // It goes when the filesystem does.
        run(Command::new("losetup").arg("--detach").arg(&device));
        assert!(mounted.unwrap().success(), "{device} could not be mounted");
        if kind == "btrfs" {
            std::fs::create_dir(dir.join("data")).unwrap();
            run(Command::new("btrfs")
                .args(["subvolume", "create"])
                .arg(dir.join("data/fs")));
        }
        Self { image, dir }
    }
}

/// A device that goes past the cache of what it is on, as a disk would: no block is kept twice,
/// and a flush finds nothing of the device's own to write.
fn loop_device(image: &Path) -> String {
    let found = Command::new("losetup")
        .args(["--direct-io=on", "--find", "--show"])
        .arg(image)
        .output()
        .unwrap();
    assert!(found.status.success(), "losetup: {found:?}");
    let device = String::from_utf8(found.stdout).unwrap().trim().to_owned();
    let name = Path::new(&device).file_name().unwrap().to_str().unwrap();
    let direct = std::fs::read_to_string(format!("/sys/block/{name}/loop/dio")).unwrap();
    assert_eq!(direct.trim(), "1", "no direct I/O to {}", image.display());
    device
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.dir).status();
        let _ = std::fs::remove_dir_all(self.image.parent().unwrap());
    }
}
