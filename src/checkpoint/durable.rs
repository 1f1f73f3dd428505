//! Writing so that a crash leaves the old or the new, never half of it.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::thread::ScopedJoinHandle;

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

/// Replaces the link `path` by one with this target, at once.
pub fn write_link(path: &Path, target: impl AsRef<Path>) -> Result<(), Error> {
    let temporary = path.with_extension("tmp");
    remove_file(&temporary)?;
    symlink(target, &temporary).context("write", &temporary)?;
    rename(&temporary, path)
}

/// Renames, and makes the new name durable.
pub fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).context("rename to its place", from)?;
    sync_parent(to)
}

/// Removes a file if it is there, durably.
pub fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => {
            result.context("remove", path)?;
            sync_parent(path)
        }
    }
}

/// Removes a directory with all that is in it, if it is there.
pub fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        // Without root, a directory that may not be written cannot be emptied.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => make_writable(path),
        result => return result.context("remove", path),
    }
    fs::remove_dir_all(path).context("remove", path)
}

/// Gives us all rights on `path` and the directories in it, as far as they are ours.
fn make_writable(path: &Path) {
    let mut left = vec![path.to_owned()];
    while let Some(directory) = left.pop() {
        let _ = fs::set_permissions(&directory, fs::Permissions::from_mode(0o700));
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        let is_dir = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        left.extend(entries.filter(is_dir).map(|entry| entry.path()));
    }
}

/// Makes the names in the directory of `path` durable.
fn sync_parent(path: &Path) -> Result<(), Error> {
    sync_directory(path.parent().unwrap_or(path))
}

/// Makes the names in a directory durable.
pub fn sync_directory(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .context("flush", path)
}

/// Has a thread `flush` while `work` is done; returns what came of both. Without a thread, it is
/// flushed afterwards.
pub fn flush_meanwhile<T>(
    flush: impl Fn() -> Result<(), Error> + Sync,
    work: impl FnOnce() -> T,
) -> (Result<(), Error>, T) {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("flush".to_owned());
        let flushing = thread.spawn_scoped(scope, &flush);
        let done = work();
        let flushed = match flushing.map(ScopedJoinHandle::join) {
            Ok(Ok(flushed)) => flushed,
            Ok(Err(_)) | Err(_) => flush(),
        };
        (flushed, done)
    })
}

/// Makes everything written to the filesystem of `path` durable.
pub fn sync_filesystem(path: &Path) -> Result<(), Error> {
    let dir = File::open(path).context("open", path)?;
    rustix::fs::syncfs(&dir).context("flush the filesystem of", path)
}
