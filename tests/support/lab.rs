//! A store and its tree, without a daemon: as many checkpoints as a history has would take too long
//! by HTTP.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fastrand::Rng;
use sprite_env::checkpoint::{Cancel, Driver, Store};
use sprite_env::config::{DirtyTracking, Key, Retention, Storage, VerifyRestore};

use super::disk::{Disk, make_subvolume};
use super::trees;

/// The paths of a tree, and what each looks like.
pub type Tree = BTreeMap<PathBuf, String>;

/// A store and its tree, without a daemon.
pub struct Lab {
    pub store: Store,
    key: Option<Key>,
    /// Where the tree and the store are, if not in `dir` itself.
    disk: Option<Disk>,
    pub dir: tempfile::TempDir,
}

impl Lab {
    pub fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap(), None)
    }

    /// On a new filesystem of this kind; on btrfs, in a subvolume.
    pub fn of_kind(kind: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::of_kind(kind, &dir.path().join("disk"))?;
        if kind == "btrfs" {
            make_subvolume(&dir.path().join("disk/tree"));
        }
        Some(Self::on(dir, Some(disk)))
    }

    /// On a new btrfs of which nobody tells what changes, since only a subvolume of it can be
    /// seen.
    pub fn untold() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let whole = dir.path().join("whole");
        let whole = (Disk::of_kind("btrfs", &whole)?, whole);
        make_subvolume(&whole.1.join("part"));
        let disk = Disk::bound(&whole.1.join("part"), &dir.path().join("disk"))?;
        make_subvolume(&dir.path().join("disk/tree"));
        Some(Self::on(dir, Some(disk)))
    }

    fn on(dir: tempfile::TempDir, disk: Option<Disk>) -> Self {
        // Encrypted or not, it is all the same.
        let key = fastrand::bool().then(|| Key::new([7; 32]));
        let base = base(&dir, disk.as_ref());
        let store = Self::open(&base, key.as_ref());
        Self {
            store,
            key,
            disk,
            dir,
        }
    }

    fn open(dir: &Path, key: Option<&Key>) -> Store {
        let store = Store::new(&Storage {
            driver: sprite_env::config::Driver::Store,
            dir: dir.join("tree"),
            is_carried: false,
            make_dir: true,
            volume: None,
            juicefs: None,
            restore_on_boot: false,
            checkpoint_dir: dir.join("store"),
            freeze: false,
            freeze_timeout: Duration::ZERO,
            auto: None,
            retention: Retention {
                last: 2,
                ..Retention::default()
            },
            command_timeout: Duration::ZERO,
            encryption_key: key.cloned(),
            dirty_tracking: [DirtyTracking::On, DirtyTracking::Off][fastrand::usize(..2)],
            mount: None,
            // Whichever it is, what is restored is what was wanted.
            verify_restore: match fastrand::u8(..3) {
                0 => VerifyRestore::None,
                1 => VerifyRestore::Full,
                _ => VerifyRestore::Metadata,
            },
        });
        assert_eq!(store.open().unwrap(), None);
        store
    }

    /// As after a restart of the daemon.
    pub fn reopen(self) -> Self {
        drop(self.store);
        let store = Self::open(&base(&self.dir, self.disk.as_ref()), self.key.as_ref());
        Self { store, ..self }
    }

    pub fn tree(&self) -> PathBuf {
        base(&self.dir, self.disk.as_ref()).join("tree")
    }

    /// What the tree looks like. Which zeros are holes is for ext4 and tmpfs only: others
    /// have their own mind about it.
    pub fn looks(&self) -> Tree {
        let looks = trees::describe(&self.tree()).into_iter();
        let as_written = |text: String| match self.disk {
            Some(_) => text.replace("sparse true", "sparse false"),
            None => text,
        };
        looks.map(|(path, text)| (path, as_written(text))).collect()
    }

    /// A checkpoint, and `meanwhile` between its two looks at the tree.
    pub fn checkpoint(&self, meanwhile: impl FnOnce()) -> String {
        self.checkpoint_with(meanwhile, || {})
    }

    /// The same, and `after` before what was captured is read.
    pub fn checkpoint_with(&self, meanwhile: impl FnOnce(), after: impl FnOnce()) -> String {
        let cancel = Cancel::default();
        self.store.begin(None, false).unwrap();
        self.store.pre_copy(&cancel).unwrap();
        meanwhile();
        self.store.capture(Some(&[]), &cancel).unwrap();
        after();
        self.store.seal().unwrap().id
    }

    /// A checkpoint that comes to nothing, early or late, and `meanwhile` between its two looks.
    pub fn discarded(&self, meanwhile: impl FnOnce()) {
        let cancel = Cancel::default();
        self.store.begin(None, false).unwrap();
        self.store.pre_copy(&cancel).unwrap();
        meanwhile();
        if fastrand::bool() {
            self.store.capture(Some(&[]), &cancel).unwrap();
        }
        self.store.discard().unwrap();
    }

    /// Makes another checkpoint of one by way of an archive.
    pub fn send_round(&self, id: &str) -> String {
        let mut archive = self.store.spool().unwrap();
        self.store.export(id, &mut archive).unwrap();
        self.store.import(archive, None).unwrap().id
    }

    pub fn restore(&self, id: &str) {
        self.store.fetch(id, &Cancel::default()).unwrap();
        self.store.swap().unwrap();
        self.store.verify().unwrap();
        self.store.tidy().unwrap();
    }
}

/// Where the tree and the store are.
fn base(dir: &tempfile::TempDir, disk: Option<&Disk>) -> PathBuf {
    match disk {
        Some(_) => dir.path().join("disk"),
        None => dir.path().to_owned(),
    }
}

/// Fails where they differ.
pub fn compare(found: &Tree, wanted: &Tree, what: &str) {
    for (path, looks) in wanted {
        let there = found.get(path).map(String::as_str);
        assert_eq!(there, Some(looks.as_str()), "{what}: {}", path.display());
    }
    let extra: Vec<_> = found
        .keys()
        .filter(|path| !wanted.contains_key(*path))
        .collect();
    assert!(extra.is_empty(), "{what}: {extra:?}");
}

/// `SPRITE_TEST_SEED` repeats a history, with the settings that its store had.
pub fn seeded() -> Rng {
    let given = std::env::var("SPRITE_TEST_SEED").ok();
    let seed = given.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("SPRITE_TEST_SEED={seed}");
    fastrand::seed(seed);
    Rng::with_seed(seed)
}
