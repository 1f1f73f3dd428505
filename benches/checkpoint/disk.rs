//! Filesystems to measure on.

use std::path::PathBuf;
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

    /// One whose image has all its blocks already: whoever writes first would else pay for them.
    pub fn written(gib: u64) -> Self {
        Self::made("ext4", |mut image| {
            let zeros = vec![0; 1 << 20];
            for _ in 0..gib << 10 {
                std::io::Write::write_all(&mut image, &zeros).unwrap();
            }
            image.sync_all().unwrap();
        })
    }

    /// One with this filesystem; on btrfs the environment is in a subvolume.
    pub fn of_kind(kind: &str, gib: u64) -> Self {
        Self::made(kind, |image| image.set_len(gib << 30).unwrap())
    }

    fn made(kind: &str, fill: impl FnOnce(std::fs::File)) -> Self {
        let base = std::env::temp_dir().join(format!("sprite-bench-{}", std::process::id()));
        let dir = base.join("disk");
        std::fs::create_dir_all(&dir).unwrap();
        let image = base.join("image");
        fill(std::fs::File::create(&image).unwrap());
        let options: &[&str] = match kind {
            "ext4" => &[
                "-F",
                "-E",
                "nodiscard,lazy_itable_init=0,lazy_journal_init=0",
            ],
            _ => &["-f"],
        };
        run(Command::new(format!("mkfs.{kind}"))
            .arg("-q")
            .args(options)
            .arg(&image));
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(&image)
            .arg(&dir));
        if kind == "btrfs" {
            std::fs::create_dir(dir.join("data")).unwrap();
            run(Command::new("btrfs")
                .args(["subvolume", "create"])
                .arg(dir.join("data/fs")));
        }
        Self { image, dir }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.dir).status();
        let _ = std::fs::remove_dir_all(self.image.parent().unwrap());
    }
}
