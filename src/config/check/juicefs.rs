//! The settings of a JuiceFS volume.

use std::path::Path;

use super::Checker;
use crate::checkpoint::juicefs::{Blocks, Volume};
use crate::config::component::{command, time};
use crate::config::origin::from_file;
use crate::config::value::{format_duration, parse_size};
use crate::config::{Bucket, Component, raw};

/// No ext4 filesystem of less would be of use.
const SMALLEST_IMAGE: u64 = 16 << 20;
/// How large blocks can be.
const BLOCKS: std::ops::RangeInclusive<u64> = 64 << 10..=16 << 20;

impl Checker<'_> {
    /// The volume, if `storage.volume` wants one, and the components that mount it. `store` is
    /// where checkpoints are kept.
    pub(super) fn juicefs(
        &mut self,
        write_dir: Option<&Path>,
        store: Option<&Path>,
        bucket: Option<&Bucket>,
    ) -> Option<(Volume, Vec<Component>)> {
        let written = self.file.juicefs.clone();
        let litestream = self.file.litestream.clone();
        let volume = self.file.storage.clone().unwrap_or_default().volume;
        let kind = volume.as_ref().and_then(|volume| volume.kind.as_ref());
        if kind.is_none_or(|kind| kind.value != "juicefs") {
            for (key, is_given) in [
                ("juicefs", written.is_some()),
                ("litestream", litestream.is_some()),
                ("overlay", self.has_overlay()),
            ] {
                if is_given {
                    let why = "is given, but storage.volume is none: set \"storage\": {\"volume\": \
                               {\"type\": \"juicefs\"}}, or leave it out";
                    self.ledger.wrong(key, why);
                }
            }
            return None;
        }
        let written = written.unwrap_or_default();
        let Some(dir) = write_dir.and_then(|dir| self.ledger.absolute(dir).ok()) else {
            let why = "needs SPRITE_WRITE_DIR, where it is";
            self.ledger.wrong("storage.volume", why);
            return None;
        };
        let dir = dir.join("juicefs");
        let size = volume.and_then(|volume| volume.size);
        let overlay_size = self.overlay_size();
        if size.is_some() && overlay_size.is_some() {
            let why = "is given, and storage.volume.size too; keep one";
            self.ledger.wrong("overlay.image_size", why);
        }
        let size = size.or(overlay_size);
        let is_image = self.is_image(&written);
        let size = match size {
            None if is_image => self.size("storage.volume.size", None, "100G"),
            size => size.and_then(|size| self.size("storage.volume.size", Some(&size), "")),
        };
        if is_image && size.is_some_and(|size| size < SMALLEST_IMAGE) {
            let why = "must be at least 16M for an image";
            self.ledger.wrong("storage.volume.size", why);
        }
        let cache = dir.join("cache").display().to_string();
        let bucket = self.bucket_of_blocks(&written, bucket);
        if bucket.is_none() && litestream.is_some() {
            let why =
                "is given, but blocks are on this machine, and nothing is copied; leave it out";
            self.ledger.wrong("litestream", why);
        }
        let litestream = litestream.unwrap_or_default();
        let volume = Volume {
            program: self.text("juicefs.binary", written.binary.as_ref(), "juicefs"),
            block_size: self.block_size(written.block_size.as_ref()),
            compression: self.compression(written.compression.as_ref()),
            trash_days: {
                let days = [from_file(written.trash_days.as_ref())];
                self.ledger.pick("juicefs.trash_days", days, 0_u64)
            },
            size: size.filter(|_| !is_image),
            image: size.filter(|_| is_image),
            overlay: self.overlay(&dir, is_image),
            cache: self.cache(&written, &cache),
            options: self.mount_options(&written, bucket.is_some()),
            blocks: bucket
                .zip(store)
                .map(|(bucket, store)| self.blocks(&litestream, bucket, store, &dir)),
            dir,
        };
        let components = self.juicefs_components(&written, &litestream, bucket, &volume);
        Some((volume, components))
    }

    /// Whether the environment's directory is in an image: where that can be mounted, if nobody
    /// says.
    fn is_image(&mut self, written: &raw::JuiceFs) -> bool {
        let layouts = [("tree", false), ("image", true)];
        let (default, other) = if Path::new("/dev/loop-control").exists() {
            (layouts[1], layouts[0])
        } else {
            (layouts[0], layouts[1])
        };
        let written = [from_file(written.layout.as_ref())];
        self.choice("juicefs.layout", written, default, &[other])
    }

    /// The bucket, if blocks are in it.
    fn bucket_of_blocks<'a>(
        &mut self,
        written: &raw::JuiceFs,
        bucket: Option<&'a Bucket>,
    ) -> Option<&'a Bucket> {
        let default = if bucket.is_some() { "bucket" } else { "local" };
        match self
            .text("juicefs.blocks", written.blocks.as_ref(), default)
            .as_str()
        {
            "local" => None,
            "bucket" => {
                if bucket.is_none() {
                    let why = "is \"bucket\", and there is none: set s3.bucket, or leave it out";
                    self.ledger.wrong("juicefs.blocks", why);
                }
                bucket
            }
            other => {
                let why = format!("\"{other}\" is neither \"bucket\" nor \"local\"");
                self.ledger.wrong("juicefs.blocks", why);
                None
            }
        }
    }

    fn blocks(
        &mut self,
        written: &raw::Litestream,
        bucket: &Bucket,
        store: &Path,
        dir: &Path,
    ) -> Blocks {
        if store.starts_with(dir) {
            let why = "is on the volume, but says who we are in the bucket that has its blocks; \
                       give it another place";
            self.ledger.wrong("checkpoint.dir", why);
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        if !bucket.prefix.chars().all(plain) {
            let why = "has other characters than letters, digits and - _ . /, which JuiceFS and \
                       Litestream would write in another way";
            self.ledger.wrong("s3.prefix", why);
        }
        let key = "litestream.sync_interval";
        let interval = time(key, written.sync_interval.as_ref(), 1_000, &mut self.ledger);
        if interval.is_zero() {
            self.ledger.wrong(key, "must be more than nothing");
        }
        Blocks::new(
            bucket,
            store.to_owned(),
            self.text("litestream.binary", written.binary.as_ref(), "litestream"),
            interval,
        )
    }

    fn text(&mut self, key: &str, written: Option<&raw::Text>, default: &str) -> String {
        self.ledger
            .pick(key, [from_file(written)], default.to_owned())
    }

    fn cache(&mut self, written: &raw::JuiceFs, default: &str) -> String {
        let key = "juicefs.cache_dir";
        let cache = self.text(key, written.cache_dir.as_ref(), default);
        let is_dir = |dir: &str| dir.starts_with('/') && !dir.contains('*');
        if cache != "memory" && !cache.split(':').all(is_dir) {
            let why = "must be absolute paths with a : in between, without *, or \"memory\"";
            self.ledger.wrong(key, why);
        }
        cache
    }

    /// A number of bytes.
    fn size(&mut self, key: &str, written: Option<&raw::Text>, default: &str) -> Option<u64> {
        let text = self.text(key, written, default);
        let size = parse_size(&text).filter(|size| *size > 0);
        if size.is_none() {
            let why = format!("\"{text}\" is no size, such as 500M or 100G");
            self.ledger.wrong(key, why);
        }
        size
    }

    fn block_size(&mut self, written: Option<&raw::Text>) -> u64 {
        let key = "juicefs.block_size";
        let size = self.size(key, written, "4M").unwrap_or(4 << 20);
        if !BLOCKS.contains(&size) || !size.is_power_of_two() {
            self.ledger
                .wrong(key, "must be a power of two from 64K to 16M");
        }
        size >> 10
    }

    fn compression(&mut self, written: Option<&raw::Text>) -> String {
        let others = [("lz4", "lz4"), ("zstd", "zstd")];
        let candidates = [from_file(written)];
        let chosen = self.choice("juicefs.compression", candidates, ("none", "none"), &others);
        chosen.to_owned()
    }

    fn mount_options(&mut self, written: &raw::JuiceFs, in_bucket: bool) -> Vec<String> {
        let mebibytes = |size: Option<u64>| size.unwrap_or(0).div_ceil(1 << 20).to_string();
        // Blocks that are here need not be here twice.
        let written_nothing = written.cache_dir.is_none() && written.writeback.is_none();
        let cache_size = match &written.cache_size {
            None if !in_bucket && written_nothing => Some(0),
            written => self.size("juicefs.cache_size", written.as_ref(), "1G"),
        };
        let buffer_size = self.size("juicefs.buffer_size", written.buffer_size.as_ref(), "300M");
        let open_cache = written.open_cache.as_ref();
        let open_cache = time("juicefs.open_cache", open_cache, 0, &mut self.ledger);
        let mut options = vec![
            "--no-color".to_owned(),
            "--no-syslog".to_owned(),
            "--no-usage-report".to_owned(),
            "--enable-xattr".to_owned(),
            // Programs have capabilities.
            "--enable-cap".to_owned(),
            // Several on one machine must not be in each other's way.
            "--metrics=127.0.0.1:0".to_owned(),
            format!("--cache-size={}", mebibytes(cache_size)),
            format!("--buffer-size={}", mebibytes(buffer_size)),
            format!("--open-cache={}", format_duration(open_cache)),
        ];
        let writeback = [from_file(written.writeback.as_ref())];
        if self.ledger.pick("juicefs.writeback", writeback, false) {
            options.push("--writeback".to_owned());
        }
        let more = written.mount_options.as_ref();
        let more = more.filter(|more| !more.is_empty());
        let key = "juicefs.mount_options";
        let more = command(key, more, &mut self.ledger);
        let ours = ["-d", "--background", "--cache-dir", "--metrics"];
        let mut words = more.iter().flatten();
        let is_ours = |word: &&String| {
            let name = word.split('=').next().unwrap_or_default();
            ours.contains(&name)
        };
        if let Some(word) = words.find(is_ours) {
            let why = format!("has {word}, which is given already; see the other settings");
            self.ledger.wrong(key, why);
        }
        options.extend(more.unwrap_or_default());
        options
    }
}
