//! The settings of the environment's directory, its checkpoints and the bucket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::{Checker, raw, variable};
use crate::checkpoint::juicefs;
use crate::config::component::time;
use crate::config::origin::{Origin, from_file};
use crate::config::value::parse_size;
use crate::config::{
    Bucket, DirtyTracking, Driver, Key, Lease, Retention, Secret, Storage, VerifyRestore, Volume,
};

/// No btrfs filesystem is smaller, or would be of use.
const SMALLEST: u64 = 256 << 20;

impl Checker<'_> {
    pub(super) fn storage(
        &mut self,
        write_dir: Option<&Path>,
        checkpoint_dir: Option<PathBuf>,
        juicefs: Option<juicefs::Volume>,
    ) -> Option<Storage> {
        let storage = self.file.storage.clone().unwrap_or_default();
        let checkpoint = self.file.checkpoint.clone().unwrap_or_default();
        let default = |name: &str| write_dir.map(|dir| dir.join(name).display().to_string());
        let dir = from_file(storage.dir.as_ref());
        let make_dir = dir.is_none();
        let restore_on_boot = [from_file(storage.restore_on_boot.as_ref())];
        let restore_on_boot = self
            .ledger
            .pick("storage.restore_on_boot", restore_on_boot, true);
        let is_juicefs = juicefs.is_some();
        let volume = storage.volume.as_ref().filter(|_| !is_juicefs);
        let volume = volume.and_then(|volume| self.volume(volume, write_dir));
        if storage.volume.is_some() && dir.is_some() {
            let why = "cannot be set beside storage.volume, which has a directory of its own";
            self.ledger.wrong("storage.dir", why);
        }
        let in_volume = volume
            .as_ref()
            .map(|it| it.dir.join("fs"))
            .or_else(|| juicefs.as_ref().map(juicefs::Volume::tree))
            .map(|dir| dir.display().to_string());
        let dir = self.directory("storage.dir", dir, in_volume.or_else(|| default("fs")));
        let freeze = self.choice(
            "checkpoint.quiesce",
            [from_file(checkpoint.quiesce.as_ref())],
            ("freeze", true),
            &[("none", false)],
        );
        let ledger = &mut self.ledger;
        let freeze_timeout = checkpoint.freeze_timeout.as_ref();
        let freeze_timeout = time("checkpoint.freeze_timeout", freeze_timeout, 5_000, ledger);
        let command_timeout = checkpoint.command_timeout.as_ref();
        let command_timeout = time(
            "checkpoint.command_timeout",
            command_timeout,
            60_000,
            ledger,
        );
        let verify_restore = self.choice(
            "checkpoint.verify_restore",
            [from_file(checkpoint.verify_restore.as_ref())],
            ("metadata", VerifyRestore::Metadata),
            &[("full", VerifyRestore::Full), ("none", VerifyRestore::None)],
        );
        let dirty_tracking = self.choice(
            "checkpoint.dirty_tracking",
            [from_file(checkpoint.dirty_tracking.as_ref())],
            ("auto", DirtyTracking::Auto),
            &[("on", DirtyTracking::On), ("off", DirtyTracking::Off)],
        );
        let encryption_key = self.encryption_key(&checkpoint);
        let has_image = juicefs.as_ref().is_some_and(|it| it.image.is_some());
        let driver = self.driver(&checkpoint, has_image, encryption_key.is_some());
        let mount = from_file(checkpoint.mount.as_ref());
        let mount = self.directory("checkpoint.mount", mount, None);
        let ledger = &mut self.ledger;
        let auto = time("checkpoint.auto", checkpoint.auto.as_ref(), 0, ledger);
        let retention = self.retention(&checkpoint);
        match (dir, checkpoint_dir) {
            (Some(dir), Some(checkpoint_dir)) => Some(Storage {
                dir,
                is_carried: false,
                make_dir,
                volume,
                juicefs,
                restore_on_boot,
                driver,
                checkpoint_dir,
                freeze,
                freeze_timeout,
                auto: (!auto.is_zero()).then_some(auto),
                retention,
                command_timeout,
                verify_restore,
                encryption_key,
                dirty_tracking,
                mount,
            }),
            (Some(_), None) => {
                let why = "missing; set it, or SPRITE_WRITE_DIR";
                self.ledger.wrong("checkpoint.dir", why);
                None
            }
            (None, Some(_)) => {
                self.ledger
                    .wrong("storage.dir", "missing; set it, or SPRITE_WRITE_DIR");
                None
            }
            (None, None) => None,
        }
    }

    /// Where checkpoints are kept, if anywhere.
    pub(super) fn checkpoint_dir(&mut self, write_dir: Option<&Path>) -> Option<PathBuf> {
        let checkpoint = self.file.checkpoint.as_ref();
        let written = from_file(checkpoint.and_then(|it| it.dir.as_ref()));
        let default = write_dir.map(|dir| dir.join("store").display().to_string());
        self.directory("checkpoint.dir", written, default)
    }

    /// One of some words, and what it means; the first if nobody says.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &str,
        candidates: impl IntoIterator<Item = Option<(String, Origin)>>,
        (default, meaning): (&str, T),
        others: &[(&str, T)],
    ) -> T {
        let chosen = self.ledger.pick(key, candidates, default.to_owned());
        if chosen == default {
            return meaning;
        }
        let found = others.iter().find(|(word, _)| *word == chosen);
        if found.is_none() {
            let words = others.iter().map(|(word, _)| format!(", \"{word}\""));
            let others: String = words.collect();
            let why = format!("\"{chosen}\" is none of \"{default}\"{others}");
            self.ledger.wrong(key, why);
        }
        found.map_or(meaning, |(_, meaning)| *meaning)
    }

    /// What captures and restores.
    fn driver(
        &mut self,
        checkpoint: &raw::Checkpoint,
        has_image: bool,
        is_encrypted: bool,
    ) -> Driver {
        let (key, written) = ("checkpoint.driver", [from_file(checkpoint.driver.as_ref())]);
        let (store, juicefs) = (("store", Driver::Store), ("juicefs", Driver::Juicefs));
        let (default, other) = if has_image {
            (juicefs, store)
        } else {
            (store, juicefs)
        };
        let driver = self.choice(key, written, default, &[other]);
        if driver == Driver::Juicefs && !has_image {
            let why = "is \"juicefs\", which clones the image on a JuiceFS volume, and there is none: \
                       set storage.volume.type to \"juicefs\" and juicefs.layout to \"image\", or \
                       leave it out";
            self.ledger.wrong(key, why);
        }
        if driver == Driver::Juicefs && is_encrypted {
            let why = "encrypts what the store keeps, and checkpoints are clones on the JuiceFS \
                       volume; leave it out, or set checkpoint.driver to \"store\"";
            self.ledger.wrong("checkpoint.encryption_key", why);
        }
        driver
    }

    fn encryption_key(&mut self, checkpoint: &raw::Checkpoint) -> Option<Key> {
        let (key, name) = ("checkpoint.encryption_key", "SPRITE_ENCRYPTION_KEY");
        let from_env = variable(name).map(|text| (text, Origin::Variable(name)));
        let candidates = [from_env, from_file(checkpoint.encryption_key.as_ref())];
        let (digits, origin) = candidates.into_iter().flatten().next()?;
        self.ledger.note(key, (), json!("********"), origin);
        let parsed = Key::parse(&digits);
        if parsed.is_none() {
            let why = "is not 64 hexadecimal digits; `openssl rand -hex 32` makes a key";
            self.ledger.wrong(key, why);
        }
        parsed
    }

    fn retention(&mut self, checkpoint: &raw::Checkpoint) -> Retention {
        let mut count = |key, value: Option<&raw::Number>, default| {
            let count: u64 = self.ledger.pick(key, [from_file(value)], default);
            usize::try_from(count).unwrap_or(usize::MAX)
        };
        Retention {
            last: count("checkpoint.keep_auto", checkpoint.keep_auto.as_ref(), 3),
            hourly: count("checkpoint.keep_hourly", checkpoint.keep_hourly.as_ref(), 0),
            daily: count("checkpoint.keep_daily", checkpoint.keep_daily.as_ref(), 0),
            weekly: count("checkpoint.keep_weekly", checkpoint.keep_weekly.as_ref(), 0),
        }
    }

    fn volume(&mut self, volume: &raw::Volume, write_dir: Option<&Path>) -> Option<Volume> {
        let kind = [from_file(volume.kind.as_ref())];
        let kind = self.ledger.pick("storage.volume.type", kind, String::new());
        if kind != "btrfs-image" {
            let why = format!("\"{kind}\" is neither \"btrfs-image\" nor \"juicefs\"");
            self.ledger.wrong("storage.volume.type", why);
        }
        let size = [from_file(volume.size.as_ref())];
        let size = self
            .ledger
            .pick("storage.volume.size", size, "100G".to_owned());
        let bytes = parse_size(&size);
        if bytes.is_none_or(|bytes| bytes < SMALLEST) {
            let why = format!("\"{size}\" is no size of at least 256M, such as 500M or 100G");
            self.ledger.wrong("storage.volume.size", why);
        }
        let Some(write_dir) = write_dir.and_then(|dir| self.ledger.absolute(dir).ok()) else {
            let why = "needs SPRITE_WRITE_DIR, where its image is";
            self.ledger.wrong("storage.volume", why);
            return None;
        };
        Some(Volume {
            image: write_dir.join("volume.btrfs"),
            dir: write_dir.join("volume"),
            size: bytes?,
        })
    }

    fn directory(
        &mut self,
        key: &str,
        file: Option<(String, Origin)>,
        default: Option<String>,
    ) -> Option<PathBuf> {
        let default = default.map(|dir| (dir, Origin::Default));
        let dir = self.ledger.pick_optional(key, [file, default])?;
        self.absolute(key, &dir)
    }

    /// The path that is given as `key`, from the root.
    pub(super) fn absolute(&mut self, key: &str, path: &str) -> Option<PathBuf> {
        let absolute = self.ledger.absolute(path);
        if let Err(error) = &absolute {
            let why = format!("\"{path}\" is no path: {error}");
            self.ledger.wrong(key, why);
        }
        absolute.ok()
    }

    /// The bucket, if there is one and it is wanted.
    pub(super) fn bucket(&mut self) -> Option<Bucket> {
        let nested = self.file.s3.clone().unwrap_or_default();
        let flat = self.file.clone();
        let access_key = self.s3_setting(
            ["s3.access_key", "s3_access_key", "SPRITE_S3_ACCESS_KEY"],
            [nested.access_key, flat.s3_access_key],
            None,
        );
        let secret_key = self.s3_setting(
            [
                "s3.secret_key",
                "s3_secret_access_key",
                "SPRITE_S3_SECRET_ACCESS_KEY",
            ],
            [nested.secret_key, flat.s3_secret_access_key],
            None,
        );
        let endpoint = self.s3_setting(
            ["s3.endpoint", "s3_endpoint_url", "SPRITE_S3_ENDPOINT_URL"],
            [nested.endpoint, flat.s3_endpoint_url],
            None,
        );
        let name = self.s3_setting(
            ["s3.bucket", "s3_bucket", "SPRITE_S3_BUCKET"],
            [nested.bucket, flat.s3_bucket],
            None,
        );
        let region = self.s3_setting(
            ["s3.region", "s3_region", "SPRITE_S3_REGION"],
            [nested.region, flat.s3_region],
            Some("us-east-1"),
        );
        let prefix = [from_file(nested.prefix.as_ref())];
        let prefix = self
            .ledger
            .pick("s3.prefix", prefix, "checkpoints".to_owned());
        let lease = self.file.checkpoint.clone().unwrap_or_default().lease;
        let lease = self.choice(
            "checkpoint.lease",
            [from_file(lease.as_ref())],
            ("required", Lease::Required),
            &[("best-effort", Lease::BestEffort), ("off", Lease::Off)],
        );
        let name = name.filter(|name| !name.is_empty())?;
        if self.variable_switch("SPRITE_LOCAL_MODE") {
            return None;
        }
        let endpoint = endpoint.filter(|endpoint| !endpoint.is_empty());
        self.check_endpoint(endpoint.as_deref());
        for (key, value) in [
            ("s3.access_key", &access_key),
            ("s3.secret_key", &secret_key),
        ] {
            if value.as_ref().is_none_or(String::is_empty) {
                let why = "missing, and s3.bucket is set; SPRITE_LOCAL_MODE=true keeps checkpoints \
                           on this machine only";
                self.ledger.wrong(key, why);
            }
        }
        let checkpoint = self.file.checkpoint.clone().unwrap_or_default();
        let ledger = &mut self.ledger;
        let ttl = checkpoint.lease_ttl.as_ref();
        let lease_ttl = time("checkpoint.lease_ttl", ttl, 30_000, ledger);
        if lease_ttl < Duration::from_secs(3) {
            ledger.wrong("checkpoint.lease_ttl", "must be at least 3s");
        }
        let timeout = checkpoint.replicate_timeout.as_ref();
        let replicate_timeout = time("checkpoint.replicate_timeout", timeout, 10_000, ledger);
        Some(Bucket {
            access_key: Secret::new(access_key?),
            secret_key: Secret::new(secret_key?),
            endpoint,
            name,
            region: region.unwrap_or_default(),
            prefix: prefix.trim_matches('/').to_owned(),
            lease,
            lease_ttl,
            replicate_timeout,
        })
    }

    fn check_endpoint(&mut self, endpoint: Option<&str>) {
        let Some(endpoint) = endpoint else { return };
        let authority = ["http://", "https://"]
            .iter()
            .find_map(|scheme| endpoint.strip_prefix(scheme));
        match authority {
            Some(rest) if rest.contains('@') => {
                let why = "has a user name or password in it; give s3.access_key and \
                           s3.secret_key instead";
                self.ledger.wrong("s3.endpoint", why);
            }
            Some(rest) if !rest.is_empty() => {}
            _ => {
                let why = format!("\"{endpoint}\" is no URL that begins with http:// or https://");
                self.ledger.wrong("s3.endpoint", why);
            }
        }
    }

    /// A setting with its key, its flat key and its variable.
    fn s3_setting(
        &mut self,
        [key, flat_key, name]: [&'static str; 3],
        [nested, flat]: [Option<raw::Text>; 2],
        default: Option<&str>,
    ) -> Option<String> {
        if nested.is_some() && flat.is_some() {
            let why = format!("is given twice, also as {flat_key}; keep one");
            self.ledger.wrong(key, why);
        }
        let from_env = variable(name).map(|text| (text, Origin::Variable(name)));
        let candidates = [
            from_env,
            from_file(nested.as_ref()),
            from_file(flat.as_ref()),
        ];
        let found = candidates.into_iter().flatten().next();
        let default = default.map(|text| (text.to_owned(), Origin::Default));
        let (value, origin) = found.or(default)?;
        let shown = if key.ends_with("_key") {
            json!("********")
        } else {
            json!(value)
        };
        self.ledger.note(key, (), shown, origin);
        Some(value)
    }
}
