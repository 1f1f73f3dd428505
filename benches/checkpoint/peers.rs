//! The programs that people use for the same work.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::shared::timed;
use crate::table::show;
use crate::{run, sync, used};

/// A program with a repository on the disk.
pub struct Peer {
    pub name: &'static str,
    repository: PathBuf,
}

impl Peer {
    /// Those that are installed, each with a fresh repository.
    pub fn all(disk: &Path) -> Vec<Self> {
        if std::env::var("SPRITE_BENCH_PEERS").is_ok_and(|wanted| wanted == "0") {
            return Vec::new();
        }
        let mut peers = Vec::new();
        for name in ["restic", "borg"] {
            let Ok(version) = Command::new(name)
                .arg(if name == "borg" {
                    "--version"
                } else {
                    "version"
                })
                .output()
            else {
                println!("| {name} | not installed | | | |");
                continue;
            };
            println!(
                "| version | | | {} | |",
                String::from_utf8_lossy(&version.stdout).trim()
            );
            let repository = disk.join(format!("{name}-repository"));
            let peer = Self { name, repository };
            peer.begin_anew();
            peers.push(peer);
        }
        peers
    }

    /// Makes its repository a new one.
    pub fn begin_anew(&self) {
        if self.repository.exists() {
            std::fs::remove_dir_all(&self.repository).unwrap();
        }
        let mut init = self.command();
        match self.name {
            "borg" => init.args(["init", "-e", "none"]).arg(&self.repository),
            _ => init.arg("init"),
        };
        run(&mut init);
    }

    /// How much of its time is allowed; the bars are those of restic, others are to be slower.
    pub fn bar(&self, of_restic: f64) -> f64 {
        if self.name == "restic" {
            of_restic
        } else {
            1.0
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.name);
        command
            .env("RESTIC_REPOSITORY", &self.repository)
            .env("RESTIC_PASSWORD", "bench");
        command.env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes");
        command
    }

    pub fn backup(&self, tree: &Path) -> Duration {
        let mut command = self.command();
        command.current_dir(tree);
        match self.name {
            "borg" => {
                let name = fastrand::u64(..);
                command
                    .arg("create")
                    .arg(format!("{}::{name}", self.repository.display()))
                    .arg(".")
            }
            _ => command.args(["backup", "."]),
        };
        timed(|| run(&mut command))
    }

    pub fn size(&self) -> u64 {
        used(&self.repository)
    }

    /// Backs the tree up, changes it, and restores it in place; none for those that cannot.
    pub fn restore_in_place(&self, tree: &Path, change: impl Fn()) -> Option<Duration> {
        if self.name != "restic" {
            return None;
        }
        self.backup(tree);
        change();
        let mut command = self.command();
        command
            .args(["restore", "latest", "--delete", "--target"])
            .arg(tree);
        let supported = Command::new("restic")
            .args(["restore", "--help"])
            .output()
            .unwrap();
        if !String::from_utf8_lossy(&supported.stdout).contains("--delete") {
            println!("| restore in place | | | restic: this version cannot | |");
            return None;
        }
        Some(timed(|| run(&mut command)))
    }

    /// Restores the last into an empty directory; none for those that cannot.
    pub fn restore_empty(&self, target: &Path) -> Option<Duration> {
        if self.name != "restic" {
            return None;
        }
        let mut command = self.command();
        command.args(["restore", "latest", "--target"]).arg(target);
        let alone = timed(|| run(&mut command));
        // It flushes nothing; what is compared with it does.
        let flushed = alone + timed(|| sync(target));
        println!(
            "| {}: restore into an empty directory, not flushed | {} | | | |",
            self.name,
            show(alone)
        );
        Some(flushed)
    }
}
