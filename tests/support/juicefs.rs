//! Sprites on JuiceFS volumes, on this machine and in a bucket.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::bucket::wait_until;
use super::objects::merged;
use super::{Daemon, Sprite, Value, is_root, json, skipped};
use crate::sdks::tool;

/// The program; none, with the reason printed, where no JuiceFS can be mounted.
pub fn juicefs() -> Option<PathBuf> {
    if !is_root() || !std::path::Path::new("/dev/fuse").exists() {
        skipped("only root can mount JuiceFS, and where there is /dev/fuse");
        return None;
    }
    tool("python/bin/juicefs")
}

/// With a volume, and `more` in its configuration. Without another layout, the volume has every
/// file.
pub fn sprite(sprite: Sprite, more: &Value) -> Option<Sprite> {
    let program = juicefs()?;
    let config = json!({
        "storage": {"volume": {"type": "juicefs"}},
        "juicefs": {"binary": program, "layout": "tree"},
        "process_command": ["sleep", "1000"],
    });
    Some(sprite.storage().api().config(&merged(config, more)))
}

/// A daemon that is up, with a volume.
pub fn running(more: &Value) -> Option<Daemon> {
    let daemon = sprite(Sprite::new(), more)?.start();
    daemon.wait_running();
    Some(daemon)
}

/// A volume with an image; none, with the reason printed, where no JuiceFS can be mounted.
pub fn image() -> Option<Value> {
    Some(json!({
        "storage": {"volume": {"type": "juicefs", "size": "1G"}},
        "juicefs": {"layout": "image", "binary": juicefs()?},
    }))
}

/// Mounts the volume without sprite-env; the result unmounts it.
pub fn by_hand(sprite: &Sprite) -> Option<impl FnOnce()> {
    let program = juicefs()?;
    let at = sprite.path("data/juicefs/mnt");
    let url = format!(
        "sqlite3://{}",
        sprite.path("data/juicefs/metadata.db").display()
    );
    let mounted = Command::new(&program)
        .args(["mount", "-d", "--no-usage-report", &url])
        .arg(&at)
        .output()
        .unwrap();
    assert!(
        mounted.status.success(),
        "{}",
        String::from_utf8_lossy(&mounted.stderr)
    );
    Some(move || {
        let unmounted = Command::new(&program).arg("umount").arg(&at).status();
        assert!(unmounted.unwrap().success());
    })
}

/// Changes the configuration file.
pub fn reconfigure(sprite: &Sprite, change: impl FnOnce(&mut Value)) {
    let path = sprite.path("config.json");
    let mut config = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    std::fs::write(path, config.to_string()).unwrap();
}

pub fn fs(daemon: &Daemon) -> PathBuf {
    daemon.sprite.path("data/juicefs/mnt/active/fs")
}

/// The process of a component.
pub fn pid_of(daemon: &Daemon, component: &str) -> i32 {
    let pid = &daemon.client().status()["components"][component]["pid"];
    i32::try_from(pid.as_i64().unwrap()).unwrap()
}

/// Whether anything is mounted below the test's directory.
pub fn mounted(sprite: &Sprite) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.contains(sprite.path("data").to_str().unwrap())
}

/// What a sprite with such a volume has in its configuration; none, with the reason printed,
/// where a program is missing.
pub fn in_bucket() -> Option<Value> {
    let litestream = tool("node_modules/@flydotio/litestream-linux-x64/litestream")?;
    Some(json!({
        "storage": {"volume": {"type": "juicefs"}},
        "juicefs": {"binary": juicefs()?, "layout": "tree"},
        "litestream": {"binary": litestream},
        "process_command": ["sleep", "1000"],
    }))
}

pub fn started(sprite: Sprite) -> Daemon {
    let daemon = sprite.api().start();
    daemon.wait_running();
    daemon
}

pub fn metadata(daemon: &Daemon) -> Value {
    daemon.client().status()["metadata_replication"].clone()
}

/// Waits until the bucket has everything: a change that was made before this is in the log of
/// the database, and that which is made in `dir`, on the volume, comes after it.
pub fn wait_for_copy(daemon: &Daemon, dir: &Path) {
    // What Litestream has not read yet it does not tell of.
    let marker = format!(".marker-{:016x}", fastrand::u64(..));
    // One transaction: bytes would be another, which may be read later.
    std::fs::File::create_new(dir.join(&marker)).unwrap();
    let copied = daemon.sprite.path("data/juicefs/.metadata.db-litestream");
    let has_read = || !files_with(&marker, &copied).is_empty();
    wait_until(daemon, "Litestream has read it", has_read);
    let settings = std::fs::read(daemon.sprite.path("data/juicefs/litestream.json")).unwrap();
    let settings: Value = serde_json::from_slice(&settings).unwrap();
    let url = format!("http://{}/metrics", settings["addr"].as_str().unwrap());
    let is_sent = || {
        let mut said = ureq::get(&url).call().unwrap();
        let said = said.body_mut().read_to_string().unwrap();
        let value = |name: &str| {
            let line = said
                .lines()
                .find(|line| line.starts_with(&format!("litestream_{name}{{")));
            line?.rsplit_once(' ').map(|(_, value)| value.to_owned())
        };
        // It writes large numbers with an exponent.
        let number = |name: &str| -> u64 {
            let number: f64 = value(name).map_or(0.0, |text| text.parse().unwrap());
            format!("{number:.0}").parse().unwrap()
        };
        let generation = std::fs::read_to_string(copied.join("generation")).unwrap();
        let part = format!("{:08x}.wal", number("replica_wal_index"));
        let parts = copied
            .join("generations")
            .join(generation.trim())
            .join("wal");
        let last = super::store::files(&parts).pop().unwrap();
        last.ends_with(part)
            && std::fs::metadata(last).unwrap().len() == number("replica_wal_offset")
    };
    wait_until(daemon, "the bucket has it", is_sent);
    wait_until(daemon, "which is told", || {
        metadata(daemon)["bytes_left"] == 0
    });
}

/// The names of the files below `dir` that have `text` in them.
pub fn files_with(text: &str, dir: &Path) -> String {
    let mut grep = Command::new("grep");
    let grep = grep.args(["-rlaF", "-e", text]).arg(dir).output().unwrap();
    String::from_utf8(grep.stdout).unwrap()
}

/// Ends everything of a machine at once, as its loss would.
pub fn lose(daemon: Daemon) {
    let parts = daemon.client().status()["components"].clone();
    let pids = parts.as_object().unwrap().values();
    let pids: Vec<_> = pids.filter_map(|part| part["pid"].as_i64()).collect();
    let data = daemon.sprite.path("data");
    daemon.signal(libc::SIGKILL);
    for pid in pids {
        let group = format!("-{pid}");
        let _ = Command::new("kill").args(["-9", "--", &group]).status();
    }
    let sprite = daemon.crash();
    let mount = data.join("juicefs/mnt");
    let _ = Command::new("umount").arg("-l").arg(mount).status();
    std::fs::remove_dir_all(&data).unwrap();
    drop(sprite);
}

/// Where a component tells what was restored for it.
pub struct Seen(tempfile::TempDir);

impl Seen {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        Self(dir)
    }

    /// Adds a component with something of its own to keep.
    pub fn with_database(&self, config: Value) -> Value {
        let seen = self.0.path().join("seen");
        let restore = format!("mv $CHECKPOINT_DIR/dump {}", seen.display());
        let database = json!({"components": {"db": {
            "start_command": ["sleep", "1000"],
            "user": "nobody",
            "checkpoint_command": ["sh", "-c", "echo kept with $CHECKPOINT_ID >$CHECKPOINT_DIR/dump"],
            "restore_command": ["sh", "-c", restore]
        }}});
        merged(config, &database)
    }

    /// What it has seen last.
    pub fn last(&self) -> String {
        std::fs::read_to_string(self.0.path().join("seen")).unwrap()
    }
}

/// What is on the volume.
pub fn on_volume(daemon: &Daemon, path: &str) -> PathBuf {
    daemon.sprite.path("data/juicefs/mnt").join(path)
}
