//! One entry of a directory that is restored.

use std::ffi::CStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{self as sys, FileType, Mode};
use rustix::io::Errno;

use super::super::super::driver::{Context as _, Error};
use super::super::live;
use super::super::node::{self, Kind};
use super::super::place::Place;
use super::super::plan;
use super::file::Content;
use super::{Work, lock};

/// Where the entry is.
pub struct Spot<'a> {
    /// The index of the visit of its directory.
    pub index: usize,
    /// Its directory.
    pub above: &'a Place,
    /// Its directory, open.
    pub fd: &'a Arc<OwnedFd>,
    /// Its name.
    pub name: &'a CStr,
}

impl Spot<'_> {
    /// Its path, for people.
    pub fn path(&self) -> PathBuf {
        self.above.full_of(self.name.to_bytes())
    }
}

impl Work<'_> {
    /// Makes an entry what it must be. `known` is what is there now.
    pub(super) fn entry<'s>(
        &'s self,
        scope: &rayon::Scope<'s>,
        spot: &Spot,
        wanted: &node::Entry,
        known: Option<&live::Entry>,
    ) -> Result<(), Error> {
        if known.is_some_and(|known| known.marks.mounted) {
            return Ok(());
        }
        match wanted.kind {
            Kind::Unreadable => {
                if known.is_none() {
                    lock(&self.applied).notes.push(format!(
                        "{}: it could not be read when the checkpoint was made, and is missing",
                        spot.path().display()
                    ));
                }
                Ok(())
            }
            Kind::Directory { .. } => self.directory_entry(spot, wanted, known),
            Kind::File {
                size,
                content,
                group,
            } => {
                let content = Content { size, id: content };
                self.file(scope, spot, wanted, known, content, group)
            }
            Kind::Link(_) | Kind::Fifo | Kind::Character(_) | Kind::Block(_) => {
                self.other(spot, wanted, known)
            }
        }
    }

    fn directory_entry(
        &self,
        spot: &Spot,
        wanted: &node::Entry,
        known: Option<&live::Entry>,
    ) -> Result<(), Error> {
        let there = known.filter(|known| known.is_directory());
        if there.is_none() {
            if let Some(known) = known {
                self.remove(spot, known)?;
            }
            // Only we can use it until it is finished.
            let mode = Mode::from_raw_mode(0o700);
            return sys::mkdirat(spot.fd, spot.name, mode).context("create", &spot.path());
        }
        let children = self
            .plan
            .visits
            .get(spot.index)
            .map(|visit| visit.children.clone());
        let mut visited = children
            .into_iter()
            .flatten()
            .filter_map(|child| self.plan.visits.get(child));
        if visited.any(|child| child.name == wanted.name) {
            // Its looks come last.
            return Ok(());
        }
        self.metadata(spot.fd.as_fd(), spot.name, wanted, there, &spot.path())
    }

    fn file<'s>(
        &'s self,
        scope: &rayon::Scope<'s>,
        spot: &Spot,
        wanted: &node::Entry,
        known: Option<&live::Entry>,
        content: Content,
        group: Option<u64>,
    ) -> Result<(), Error> {
        let old = known.filter(|known| known.stamp.kind() == FileType::RegularFile);
        let keeps = old.is_some_and(|old| {
            plan::group(self.apply.live, old) == group && (group.is_some() || old.stamp.links == 1)
        });
        if let Some(group) = group {
            let is_anchor = match self.plan.anchors.get(&group) {
                Some(plan::Spot::Visited(index, name)) => {
                    *index == spot.index && name == spot.name.to_bytes()
                }
                _ => false,
            };
            if !is_anchor {
                if keeps {
                    return Ok(());
                }
                if let Some(known) = known {
                    self.remove(spot, known)?;
                }
                lock(&self.links).push((spot.index, spot.name.to_owned(), group));
                return Ok(());
            }
        }
        // What could not be read is not what we think it is.
        let old = old.filter(|old| keeps && !old.marks.unreadable);
        match (old, known) {
            (Some(old), _) => {
                let same = old.stamp.size == content.size && old.content == content.id;
                if same {
                    return self.metadata(
                        spot.fd.as_fd(),
                        spot.name,
                        wanted,
                        Some(old),
                        &spot.path(),
                    );
                }
            }
            (None, Some(known)) => self.remove(spot, known)?,
            (None, None) => {}
        }
        let old = old.map(|old| Content {
            size: old.stamp.size,
            id: old.content,
        });
        self.write(scope, spot, wanted, content, old, group)
    }

    fn other(
        &self,
        spot: &Spot,
        wanted: &node::Entry,
        known: Option<&live::Entry>,
    ) -> Result<(), Error> {
        if let Some(known) = known {
            if is_same(wanted, known) {
                return self.metadata(
                    spot.fd.as_fd(),
                    spot.name,
                    wanted,
                    Some(known),
                    &spot.path(),
                );
            }
            self.remove(spot, known)?;
        }
        let (kind, device) = match wanted.kind {
            Kind::Link(to) => {
                sys::symlinkat(to, spot.fd, spot.name).context("create the link", &spot.path())?;
                return self.metadata(spot.fd.as_fd(), spot.name, wanted, None, &spot.path());
            }
            Kind::Character(device) => (FileType::CharacterDevice, device),
            Kind::Block(device) => (FileType::BlockDevice, device),
            _ => (FileType::Fifo, 0),
        };
        let mode = Mode::from_raw_mode(0o600);
        let created = sys::mknodat(spot.fd, spot.name, kind, mode, device);
        if kind != FileType::Fifo && created == Err(Errno::PERM) {
            return self
                .unless_forbidden(created, "device", &spot.path())
                .context("create", &spot.path());
        }
        created.context("create", &spot.path())?;
        self.metadata(spot.fd.as_fd(), spot.name, wanted, None, &spot.path())
    }
}

/// Whether what is there is the wanted link, FIFO or device, whatever else it looks like.
fn is_same(wanted: &node::Entry, known: &live::Entry) -> bool {
    if known.stamp.links > 1 {
        return false;
    }
    match (wanted.kind, known.stamp.kind()) {
        (Kind::Link(to), FileType::Symlink) => known
            .extras
            .as_ref()
            .is_some_and(|extras| extras.link == to),
        (Kind::Fifo, FileType::Fifo) => true,
        (Kind::Character(device), FileType::CharacterDevice)
        | (Kind::Block(device), FileType::BlockDevice) => device == known.stamp.size,
        _ => false,
    }
}
