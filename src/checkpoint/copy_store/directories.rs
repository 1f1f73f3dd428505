//! The two directories: what they must be, and how their trees change places.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::checkpoint::driver::{Context as _, Error};
use crate::checkpoint::durable;

/// Refuses directories between which a tree cannot be moved.
pub fn check(live: &Path, make_live: bool, store: &Path) -> Result<(), Error> {
    if make_live && !live.exists() {
        fs::create_dir_all(live).context("create", live)?;
    }
    let unusable = |why: String| Err(Error::Unusable(why));
    let live = fs::canonicalize(live).context("use as storage.dir", live)?;
    if !live.is_dir() {
        return unusable(format!("storage.dir {} is not a directory", live.display()));
    }
    fs::create_dir_all(store).context("create", store)?;
    let store = fs::canonicalize(store).context("use as checkpoint.dir", store)?;
    if store.starts_with(&live) || live.starts_with(&store) {
        return unusable(format!(
            "checkpoint.dir {} and storage.dir {} must not be inside one another",
            store.display(),
            live.display()
        ));
    }
    let device = |path: &Path| fs::metadata(path).map(|m| m.dev()).context("look at", path);
    if device(&live)? != device(&store)? {
        return unusable(format!(
            "checkpoint.dir {} must be on the same filesystem as storage.dir {}, so that a \
                 restored tree can be moved into its place",
            store.display(),
            live.display()
        ));
    }
    let parent = live.parent().unwrap_or(&live);
    if device(parent)? != device(&live)? {
        return unusable(format!(
            "storage.dir {} is a mount point and cannot be replaced; use a directory inside it",
            live.display()
        ));
    }
    Ok(())
}

/// Puts each of two directories in the place of the other, in one step where the
/// filesystem can; else by way of a third name, which a repetition picks up.
pub fn exchange(live: &Path, waiting: &Path) -> Result<(), Error> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    let aside = waiting.with_extension("aside");
    if !aside.exists() {
        match renameat_with(CWD, live, CWD, waiting, RenameFlags::EXCHANGE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                durable::rename(live, &aside)?;
            }
            result => {
                result.context("exchange with the restored tree", live)?;
                durable::sync_parent(live)?;
                return durable::sync_parent(waiting);
            }
        }
    }
    if !live.exists() {
        durable::rename(waiting, live)?;
        durable::sync_parent(waiting)?;
    }
    durable::rename(&aside, waiting)
}

/// Does the last step of an [`exchange`] by way of a third name, if a crash cut it off.
pub fn finish_exchange(waiting: &Path) -> Result<(), Error> {
    let aside = waiting.with_extension("aside");
    if aside.exists() && !waiting.exists() {
        durable::rename(&aside, waiting)?;
    }
    Ok(())
}
