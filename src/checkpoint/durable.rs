//! Writing so that a crash leaves the old or the new, never half of it.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use super::driver::{Context as _, Error};

/// Replaces `path` by `bytes`: temporary file, fsync, rename, fsync of the directory.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary).context("create", &temporary)?;
    file.write_all(bytes).context("write", &temporary)?;
    file.sync_all().context("flush", &temporary)?;
    rename(&temporary, path)
}

/// Replaces `path` by `value` as JSON.
pub fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), Error> {
    let text = serde_json::to_vec_pretty(value).map_err(|error| Error::Damaged {
        path: path.to_owned(),
        why: error.to_string(),
    })?;
    write(path, &text)
}

/// Renames, and makes the new name durable.
pub fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).context("rename to its place", from)?;
    sync_parent(to)
}

/// Removes a file if it is there, durably.
pub fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => {
            result.context("remove", path)?;
            sync_parent(path)
        }
    }
}

/// Removes a directory with all that is in it, if it is there.
pub fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.context("remove", path),
    }
}

/// Makes the names in the directory of `path` durable.
pub fn sync_parent(path: &Path) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(path);
    File::open(parent)
        .and_then(|dir| dir.sync_all())
        .context("flush", parent)
}

/// Makes everything written to the filesystem of `path` durable.
pub fn sync_filesystem(path: &Path) -> Result<(), Error> {
    let dir = File::open(path).context("open", path)?;
    rustix::fs::syncfs(&dir).context("flush the filesystem of", path)
}
