//! The two directories: what they must be.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::super::driver::{Context as _, Error};
use super::super::durable;
use super::cipher::Cipher;
use super::remote::identity;
use super::{ENCRYPTED, FORMAT};

#[derive(Serialize, Deserialize)]
struct Format {
    format: u32,
    /// What tells the key from others, if there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    encryption: Option<Encryption>,
}

#[derive(Serialize, Deserialize)]
struct Encryption {
    cipher: String,
    check: String,
}

/// How the encryption is called in the mark.
const CIPHER: &str = "xchacha20-poly1305";

fn unusable<T>(why: String) -> Result<T, Error> {
    Err(Error::Unusable(why))
}

/// Refuses directories that cannot be used, makes what is missing in the store, and locks
/// it. Until it is locked nothing in it is changed. Returns the lock and the store's format.
pub fn prepare(
    tree: &Path,
    make_tree: bool,
    store: &Path,
    cipher: &Cipher,
) -> Result<(File, u32), Error> {
    if make_tree && !tree.exists() {
        fs::create_dir_all(tree).context("create", tree)?;
    }
    let tree = fs::canonicalize(tree).context("use as storage.dir", tree)?;
    if !tree.is_dir() {
        return unusable(format!("storage.dir {} is not a directory", tree.display()));
    }
    // Nothing is made where it must not be.
    refuse_overlap(&tree, &resolved(store))?;
    fs::create_dir_all(store).context("create", store)?;
    let store = fs::canonicalize(store).context("use as checkpoint.dir", store)?;
    refuse_overlap(&tree, &store)?;
    refuse_stranger(&store)?;
    let lock = lock(&store)?;
    let format = check_format(&store, cipher)?;
    for name in ["log", "packs", "work"] {
        let dir = store.join(name);
        fs::create_dir_all(&dir).context("create", &dir)?;
    }
    durable::sync_directory(&store)?;
    // Garbage is no reason not to start.
    if let Err(error) = empty(&store.join("work")) {
        tracing::warn!("{error}");
    }
    Ok((lock, format))
}

fn refuse_overlap(tree: &Path, store: &Path) -> Result<(), Error> {
    if store.starts_with(tree) || tree.starts_with(store) {
        return unusable(format!(
            "checkpoint.dir {} and storage.dir {} must not be inside one another",
            store.display(),
            tree.display()
        ));
    }
    Ok(())
}

/// The path of what may not be there yet, without symbolic links as far as it is.
fn resolved(path: &Path) -> PathBuf {
    for there in path.ancestors() {
        if let (Ok(found), Ok(rest)) = (fs::canonicalize(there), path.strip_prefix(there)) {
            return found.join(rest);
        }
    }
    path.to_owned()
}

/// How long a lock may outlive the program that had it: a child that it was about to start has the
/// lock too, until it has begun another program.
const PATIENCE: Duration = Duration::from_secs(1);

/// Takes the lock that one program has at a time. It goes with the program. May block.
fn lock(store: &Path) -> Result<File, Error> {
    let path = store.join("lock");
    let mut options = OpenOptions::new();
    let options = options.create(true).truncate(false).write(true).mode(0o600);
    let file = options.open(&path).context("open", &path)?;
    let begun = Instant::now();
    let locked = loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) if begun.elapsed() < PATIENCE => {
                std::thread::sleep(PATIENCE / 100);
            }
            result => break result,
        }
    };
    match locked {
        Err(rustix::io::Errno::WOULDBLOCK) => unusable(format!(
            "checkpoint.dir {} is in use by another sprite-env; each needs its own",
            store.display()
        )),
        // Some network filesystems have no locks; there nobody can tell.
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::NOLCK | rustix::io::Errno::OPNOTSUPP) => {
            tracing::warn!(
                "{} cannot be locked: make sure that nobody else uses it",
                store.display()
            );
            Ok(file)
        }
        result => {
            result.context("lock", &path)?;
            Ok(file)
        }
    }
}

/// Refuses a store that this program does not understand, and marks a new one.
fn check_format(store: &Path, cipher: &Cipher) -> Result<u32, Error> {
    let path = store.join("format.json");
    let text = match fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // A new store.
            return mark(store, cipher).map(|()| FORMAT);
        }
        result => result.context("read", &path)?,
    };
    read_format(&path, &text, cipher)
}

/// The format that `text`, which is at `path`, tells of; a newer one is an error, as is one
/// that is not encrypted as `cipher` does it.
pub fn read_format(path: &Path, text: &[u8], cipher: &Cipher) -> Result<u32, Error> {
    let damaged = |why: String| Error::Damaged {
        path: path.to_owned(),
        why,
    };
    let found: Format =
        serde_json::from_slice(text).map_err(|error| damaged(format!("damaged: {error}")))?;
    if found.format > ENCRYPTED {
        return Err(damaged(format!(
            "has format {}, which is newer than this program's {ENCRYPTED}; the store was left \
             untouched",
            found.format
        )));
    }
    let mark = found.encryption.as_ref();
    let checked = match mark {
        Some(mark) if mark.cipher != CIPHER => Err("is encrypted in a way that is not known"),
        mark => cipher.check(mark.map(|mark| mark.check.as_str())),
    };
    checked.map_err(|why| {
        let store = path.parent().unwrap_or(path).display();
        Error::Unusable(format!("the checkpoint store {store} {why}"))
    })?;
    Ok(found.format)
}

/// Says in a store that it has the format of this program.
pub fn mark(store: &Path, cipher: &Cipher) -> Result<(), Error> {
    durable::write(&store.join("format.json"), &format(cipher)?)
}

/// The mark of a store.
pub fn format(cipher: &Cipher) -> Result<Vec<u8>, Error> {
    let encryption = cipher.mark()?.map(|check| Encryption {
        cipher: CIPHER.to_owned(),
        check,
    });
    let format = Format {
        format: version(cipher),
        encryption,
    };
    serde_json::to_vec_pretty(&format)
        .map_err(|error| Error::Unusable(format!("cannot write the mark of a store: {error}")))
}

/// The version of the format of what this program writes.
pub fn version(cipher: &Cipher) -> u32 {
    if cipher.is_on() { ENCRYPTED } else { FORMAT }
}

/// Refuses what is not empty and has no mark: it is something else.
fn refuse_stranger(store: &Path) -> Result<(), Error> {
    if store.join("format.json").exists() {
        return Ok(());
    }
    for entry in fs::read_dir(store).context("read", store)? {
        let name = entry.context("read", store)?.file_name();
        if name != "lock" && name != "format.tmp" && name != identity::FILE {
            return unusable(format!(
                "checkpoint.dir {} is not a checkpoint store, and not empty: it has {}; give it a \
                 directory of its own",
                store.display(),
                name.display()
            ));
        }
    }
    Ok(())
}

/// Whether there is anything in a directory.
pub fn is_used(dir: &Path) -> Result<bool, Error> {
    let mut entries = fs::read_dir(dir).context("read", dir)?;
    Ok(entries.next().is_some())
}

/// Removes all that is in a directory.
pub fn empty(dir: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(dir).context("read", dir)? {
        let path = entry.context("read", dir)?.path();
        if path.is_symlink() || !path.is_dir() {
            durable::remove_file(&path)?;
        } else {
            durable::remove_tree(&path)?;
        }
    }
    Ok(())
}

/// Whether two directories are on the same filesystem.
pub fn same_device(one: &Path, other: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
    device(one) == device(other)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_lock_that_a_child_still_has_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        assert!(lock(dir.path()).is_err(), "its owner is alive");
        let mut child = Command::new("sleep")
            .arg("0.2")
            .stdin(held)
            .spawn()
            .unwrap();
        lock(dir.path()).unwrap();
        child.wait().unwrap();
    }
}
