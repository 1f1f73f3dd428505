//! The settings of an overlayfs over other directories.

use std::path::Path;

use super::Checker;
use crate::checkpoint::juicefs::Overlay;
use crate::config::component::command;
use crate::config::origin::from_file;
use crate::config::raw;

impl Checker<'_> {
    /// Whether anything is said of it.
    pub(super) fn has_overlay(&self) -> bool {
        let file = &self.file;
        file.overlay.is_some()
            || file.overlay_enabled.is_some()
            || file.overlay_image_size.is_some()
            || file.overlay_lower_path.is_some()
            || file.overlay_lower_paths.is_some()
            || file.overlay_target_path.is_some()
            || file.overlay_skip_overlayfs.is_some()
    }

    /// How large the image is to be, if it is said here.
    pub(super) fn overlay_size(&mut self) -> Option<raw::Text> {
        let nested = self.file.overlay.clone().unwrap_or_default();
        let flat = self.file.overlay_image_size.clone();
        self.one_of("overlay.image_size", nested.image_size, flat)
    }

    /// The overlayfs, if there is to be one. `dir` is that of the volume.
    pub(super) fn overlay(&mut self, dir: &Path, is_image: bool) -> Option<Overlay> {
        let nested = self.file.overlay.clone().unwrap_or_default();
        let flat = self.file.clone();
        let enabled = self.one_of("overlay.enabled", nested.enabled, flat.overlay_enabled);
        let skip = self.one_of(
            "overlay.skip_overlayfs",
            nested.skip_overlayfs,
            flat.overlay_skip_overlayfs,
        );
        let path = self.one_of(
            "overlay.lower_path",
            nested.lower_path,
            flat.overlay_lower_path,
        );
        let paths = self.one_of(
            "overlay.lower_paths",
            nested.lower_paths,
            flat.overlay_lower_paths,
        );
        let target = self.one_of(
            "overlay.target_path",
            nested.target_path,
            flat.overlay_target_path,
        );
        let ledger = &mut self.ledger;
        let enabled = ledger.pick("overlay.enabled", [from_file(enabled.as_ref())], false);
        let skip = [from_file(skip.as_ref())];
        let skip = ledger.pick("overlay.skip_overlayfs", skip, false);
        if path.is_some() && paths.is_some() {
            let why = "is given, and overlay.lower_paths too; keep one";
            ledger.wrong("overlay.lower_path", why);
        }
        let key = "overlay.lower_paths";
        let lower = path.map(|path| vec![path]).or(paths);
        let lower = command(key, lower.as_ref(), ledger).unwrap_or_default();
        let default = dir.join("root").display().to_string();
        let target = ledger.pick("overlay.target_path", [from_file(target.as_ref())], default);
        if !enabled {
            return None;
        }
        if !is_image {
            let why = "needs an image, where the changes are: set juicefs.layout to \"image\"";
            ledger.wrong("overlay.enabled", why);
        }
        if skip {
            return None;
        }
        if lower.is_empty() {
            let why = "missing: the directories that the overlayfs is mounted over; or set \
                       overlay.skip_overlayfs";
            ledger.wrong(key, why);
        }
        let lower = lower.iter().filter_map(|path| self.absolute(key, path));
        let lower: Vec<_> = lower.collect();
        let target = self.absolute("overlay.target_path", &target)?;
        let volume = [dir.to_owned(), dir.join("mnt")];
        if volume.contains(&target) || target.starts_with(dir.join("mnt")) {
            let why = "is on the volume, or in its place; give another";
            self.ledger.wrong("overlay.target_path", why);
        }
        Some(Overlay { lower, target })
    }

    /// What is given as `key`, or flat.
    pub(super) fn one_of<T>(&mut self, key: &str, nested: Option<T>, flat: Option<T>) -> Option<T> {
        if nested.is_some() && flat.is_some() {
            let flat = key.replace('.', "_");
            let why = format!("is given twice, also as {flat}; keep one");
            self.ledger.wrong(key, why);
        }
        nested.or(flat)
    }
}
