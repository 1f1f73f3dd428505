//! The settings of the environment's directory, its checkpoints and the bucket.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Checker, variable};
use crate::config::Storage;
use crate::config::component::time;
use crate::config::origin::{Origin, from_file};

impl Checker<'_> {
    pub(super) fn storage(&mut self, write_dir: Option<&Path>) -> Option<Storage> {
        let storage = self.file.storage.clone().unwrap_or_default();
        let checkpoint = self.file.checkpoint.clone().unwrap_or_default();
        let default = |name: &str| write_dir.map(|dir| dir.join(name).display().to_string());
        let dir = from_file(storage.dir.as_ref());
        let make_dir = dir.is_none();
        let dir = self.directory("storage.dir", dir, default("fs"));
        let kept = from_file(checkpoint.dir.as_ref());
        let kept = self.directory("checkpoint.dir", kept, default("store"));
        let quiesce = self.ledger.pick(
            "checkpoint.quiesce",
            [from_file(checkpoint.quiesce.as_ref())],
            "freeze".to_owned(),
        );
        if !["freeze", "none"].contains(&quiesce.as_str()) {
            let why = format!("\"{quiesce}\" is neither \"freeze\" nor \"none\"");
            self.ledger.wrong("checkpoint.quiesce", why);
        }
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
        let keep_auto = [from_file(checkpoint.keep_auto.as_ref())];
        let keep_auto = ledger.pick("checkpoint.keep_auto", keep_auto, 3_u64);
        match (dir, kept) {
            (Some(dir), Some(checkpoint_dir)) => Some(Storage {
                dir,
                make_dir,
                checkpoint_dir,
                freeze: quiesce == "freeze",
                freeze_timeout,
                keep_auto: usize::try_from(keep_auto).unwrap_or(usize::MAX),
                command_timeout,
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

    fn directory(
        &mut self,
        key: &str,
        file: Option<(String, Origin)>,
        default: Option<String>,
    ) -> Option<PathBuf> {
        let default = default.map(|dir| (dir, Origin::Default));
        let dir = self.ledger.pick_optional(key, [file, default])?;
        match std::path::absolute(&dir) {
            Ok(dir) => Some(dir),
            Err(error) => {
                self.ledger
                    .wrong(key, format!("\"{dir}\" is no path: {error}"));
                None
            }
        }
    }

    /// Whether S3 is configured and wanted.
    pub(super) fn s3(&mut self) -> bool {
        let nested = self.file.s3.clone().unwrap_or_default();
        let file = self.file.clone();
        let settings = [
            (
                "s3.access_key",
                "s3_access_key",
                nested.access_key,
                file.s3_access_key,
                "SPRITE_S3_ACCESS_KEY",
            ),
            (
                "s3.secret_key",
                "s3_secret_access_key",
                nested.secret_key,
                file.s3_secret_access_key,
                "SPRITE_S3_SECRET_ACCESS_KEY",
            ),
            (
                "s3.endpoint",
                "s3_endpoint_url",
                nested.endpoint,
                file.s3_endpoint_url,
                "SPRITE_S3_ENDPOINT_URL",
            ),
            (
                "s3.bucket",
                "s3_bucket",
                nested.bucket,
                file.s3_bucket,
                "SPRITE_S3_BUCKET",
            ),
            (
                "s3.region",
                "s3_region",
                nested.region,
                file.s3_region,
                "SPRITE_S3_REGION",
            ),
        ];
        let mut bucket = false;
        for (key, flat_key, nested, flat, name) in settings {
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
            let default = (key == "s3.region").then(|| ("us-east-1".to_owned(), Origin::Default));
            let Some((value, origin)) = found.or(default) else {
                continue;
            };
            bucket |= key == "s3.bucket" && !value.is_empty();
            let shown = if key.ends_with("_key") {
                json!("********")
            } else {
                json!(value)
            };
            self.ledger.note(key, (), shown, origin);
        }
        bucket && !self.variable_switch("SPRITE_LOCAL_MODE")
    }
}
