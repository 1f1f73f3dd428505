//! The settings of a JuiceFS volume, and the component that they come to.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use machines::component::{Kind, OnFailure};

use super::Checker;
use crate::checkpoint::juicefs::{COMPONENT, Volume};
use crate::config::component::probe::{Check, Probe, Ready};
use crate::config::component::{attributes::Attributes, command, time};
use crate::config::origin::{Origin, from_file};
use crate::config::value::{format_duration, parse_size};
use crate::config::{Backoff, Component, raw};

/// How often it is asked whether the mount can be used.
const LIVENESS: Duration = Duration::from_secs(10);
/// How long an answer may take: whoever writes much meanwhile is in its way.
const ANSWER: Duration = Duration::from_secs(30);
/// How large blocks can be.
const BLOCKS: std::ops::RangeInclusive<u64> = 64 << 10..=16 << 20;

impl Checker<'_> {
    /// The volume, if `storage.volume` wants one, and the component that mounts it.
    pub(super) fn juicefs(&mut self, write_dir: Option<&Path>) -> Option<(Volume, Component)> {
        let written = self.file.juicefs.clone();
        let volume = self.file.storage.clone().unwrap_or_default().volume;
        let kind = volume.as_ref().and_then(|volume| volume.kind.as_ref());
        if kind.is_none_or(|kind| kind.value != "juicefs") {
            if written.is_some() {
                let why = "is given, but storage.volume is none: set \"storage\": {\"volume\": \
                           {\"type\": \"juicefs\"}}, or leave it out";
                self.ledger.wrong("juicefs", why);
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
        let volume = Volume {
            program: self.text("juicefs.binary", written.binary.as_ref(), "juicefs"),
            block_size: self.block_size(written.block_size.as_ref()),
            compression: self.compression(written.compression.as_ref()),
            trash_days: {
                let days = [from_file(written.trash_days.as_ref())];
                self.ledger.pick("juicefs.trash_days", days, 0_u64)
            },
            size: size.and_then(|size| self.size("storage.volume.size", Some(&size), "")),
            options: self.mount_options(&written, &dir),
            dir,
        };
        let component = self.mount_component(&written, &volume);
        Some((volume, component))
    }

    fn text(&mut self, key: &str, written: Option<&raw::Text>, default: &str) -> String {
        self.ledger
            .pick(key, [from_file(written)], default.to_owned())
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

    fn mount_options(&mut self, written: &raw::JuiceFs, dir: &Path) -> Vec<String> {
        let cache = dir.join("cache").display().to_string();
        let cache = self.text("juicefs.cache_dir", written.cache_dir.as_ref(), &cache);
        let mebibytes = |size: Option<u64>| size.unwrap_or(0).div_ceil(1 << 20).to_string();
        let cache_size = self.size("juicefs.cache_size", written.cache_size.as_ref(), "1G");
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
            format!("--cache-dir={cache}"),
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
        let more = command("juicefs.mount_options", more, &mut self.ledger);
        options.extend(more.unwrap_or_default());
        options
    }

    fn mount_component(&mut self, written: &raw::JuiceFs, volume: &Volume) -> Component {
        let origin = written.on_failure.map_or(Origin::Default, |_| Origin::File);
        let on_failure = written.on_failure.map_or(OnFailure::Shutdown, Into::into);
        let shown = format!("{on_failure:?}").to_lowercase().into();
        self.ledger.note("juicefs.on_failure", (), shown, origin);
        if on_failure == OnFailure::Ignore {
            let why = "nothing goes on without the storage; give shutdown or restart";
            self.ledger.wrong("juicefs.on_failure", why);
        }
        let ready_timeout = written.ready_timeout.as_ref();
        let ready_timeout = time(
            "juicefs.ready_timeout",
            ready_timeout,
            60_000,
            &mut self.ledger,
        );
        let stop_timeout = written.stop_timeout.as_ref();
        let stop_timeout = time(
            "juicefs.stop_timeout",
            stop_timeout,
            60_000,
            &mut self.ledger,
        );
        let asked = |interval, threshold| Probe {
            check: Check::Command(volume.command("ready")),
            interval,
            timeout: Some(ANSWER),
            threshold,
        };
        Component {
            name: COMPONENT.to_owned(),
            start_command: volume.command("mount"),
            kind: Kind::Service,
            schedule: None,
            ready: Some(Ready::Asked(asked(None, 1))),
            ready_timeout: (!ready_timeout.is_zero()).then_some(ready_timeout),
            readiness: None,
            liveness: Some(asked(Some(LIVENESS), 3)),
            checkpoint_command: None,
            restore_command: None,
            needs: Vec::new(),
            on_failure,
            backoff: Backoff::default(),
            max_restarts: 5,
            working_dir: None,
            environment: BTreeMap::new(),
            user: None,
            attributes: Attributes::default(),
            limits: crate::cgroups::ResourceLimits::default(),
            storage: true,
            listen: Vec::new(),
            success_exit_codes: Vec::new(),
            stop_signal: libc::SIGTERM,
            stop_command: None,
            pre_stop: None,
            stop_timeout,
        }
    }
}
