//! Whether what was restored is what was wanted.

use std::ops::ControlFlow;

use super::super::apply::Applied;
use super::super::live::Live;
use super::super::look::Look;
use super::super::node::{self, Kind};
use super::super::pool::Pool;
use super::super::scan::{Hints, Scanned};
use super::super::watch::Watch;
use super::super::{Id, Store, diff, nodes};
use crate::checkpoint::driver::{Cancel, Error};
use crate::config::VerifyRestore;

/// How many differences an error names.
const NAMED: usize = 5;

impl Store {
    /// Sees to it that what was restored is what was wanted, as far as
    /// `checkpoint.verify_restore` says. With a `watch`, only what it was told of is looked at:
    /// none where every byte is to be read. Returns what is known of the tree now, and its
    /// root.
    pub(super) fn check(
        &self,
        pool: &Pool,
        live: Live,
        target: Id,
        mut applied: Applied,
        mut watch: Option<Watch>,
    ) -> Result<(Live, Id), Error> {
        let (mut hints, cancel) = (Hints::default(), Cancel::default());
        let is_full = self.verify_restore == VerifyRestore::Full;
        let known = if is_full {
            live.nothing()
        } else {
            hints.written = std::mem::take(&mut applied.written);
            live
        };
        let look = Look::new(&hints, &cancel);
        let mut scanned = self.catch_up(pool, Scanned::of(known), watch.as_mut(), &look)?;
        if let Some(watch) = watch {
            watch.end();
        }
        let objects = &self.opened()?.objects;
        let root = nodes::store(&mut scanned, objects, pool)?;
        objects.finish()?;
        self.compare(root, target, &applied)?;
        Ok((scanned.live, root))
    }

    /// Fails if what was restored is not what was wanted.
    fn compare(&self, root: Id, target: Id, applied: &Applied) -> Result<(), Error> {
        let mut differences = Vec::new();
        let is_root = rustix::process::geteuid().is_root();
        diff::diff(
            &self.opened()?.objects,
            target,
            root,
            &mut |path, wanted, there| {
                if !may_differ(wanted, there, is_root) {
                    let path = if path.is_empty() { b"." } else { path };
                    differences.push(String::from_utf8_lossy(path).into_owned());
                }
                if differences.len() > NAMED {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            },
        )?;
        if differences.is_empty() {
            return Ok(());
        }
        let names = [differences.join(", ")];
        let notes = applied.notes.iter().take(NAMED).cloned();
        let all: Vec<String> = names.into_iter().chain(notes).collect();
        Err(Error::Damaged {
            path: self.tree.clone(),
            why: format!(
                "is not as it should be after the restore; these differ: {}",
                all.join("; ")
            ),
        })
    }
}

/// Whether a difference is none that a restore could do anything about: what could not be
/// read is left alone, and without privileges owners and some attributes cannot be set, nor
/// modes and times of what is somebody else's, and no devices be made.
fn may_differ(wanted: Option<&node::Entry>, there: Option<&node::Entry>, is_root: bool) -> bool {
    let unreadable =
        |entry: Option<&node::Entry>| entry.is_some_and(|entry| entry.kind == Kind::Unreadable);
    if unreadable(wanted) || unreadable(there) {
        return true;
    }
    let (Some(wanted), Some(there)) = (wanted, there) else {
        let is_device =
            |wanted: &node::Entry| matches!(wanted.kind, Kind::Character(_) | Kind::Block(_));
        // Root may not be allowed to make one either, in a container.
        return there.is_none() && wanted.is_some_and(is_device);
    };
    let same_kind = match (wanted.kind, there.kind) {
        (Kind::Directory { .. }, Kind::Directory { .. }) => true,
        (
            Kind::File { size, content, .. },
            Kind::File {
                size: there_size,
                content: there_content,
                ..
            },
        ) => (size, content) == (there_size, there_content),
        (wanted, there) => wanted == there,
    };
    // Only its owner may change these.
    let is_ours = there.uid == rustix::process::geteuid().as_raw();
    let same = (wanted.modified, wanted.mode) == (there.modified, there.mode);
    !is_root && same_kind && (same || !is_ours)
}
