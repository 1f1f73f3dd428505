//! The file that keeps what is known of the live tree from one run of the daemon to the
//! next. It is no part of any checkpoint: without it, or with a damaged one, the next
//! checkpoint reads everything once.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::super::driver::{Context as _, Error};
use super::super::id::Id;
use super::{Entry, Live, Slot};
use crate::checkpoint::store::node::Time;

/// Changed whenever the meaning of what follows changes.
const MAGIC: &[u8; 8] = b"SPRLIVE2";

#[derive(Serialize, Deserialize)]
struct Kept {
    /// Which run of the machine it was.
    boot: String,
    /// The root that it was captured as.
    captured: Id,
    root: Option<Entry>,
    slots: Vec<Slot>,
    as_of: Time,
    synced: Time,
    groups: HashMap<u64, u64>,
    next_group: u64,
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

impl Live {
    /// Keeps it at `path`. It is not flushed to stable storage: it has its hash.
    /// `root` is what it was captured as.
    pub fn keep(&self, path: &Path, root: Id) -> Result<(), Error> {
        // Inodes that are no more in the tree would be kept for ever.
        let there: HashMap<u64, u64> = if self.groups.is_empty() {
            HashMap::new()
        } else {
            let groups = self.entries().filter(|entry| entry.stamp.is_group());
            let known = groups.filter_map(|entry| self.groups.get_key_value(&entry.stamp.inode));
            known.map(|(inode, group)| (*inode, *group)).collect()
        };
        let kept = Kept {
            boot: boot(),
            captured: root,
            root: self.root.clone(),
            slots: self.slots.clone(),
            as_of: self.as_of,
            synced: self.synced,
            groups: there,
            next_group: self.next_group,
        };
        let bytes = postcard::to_extend(&kept, MAGIC.to_vec());
        let mut bytes =
            bytes.map_err(|error| Error::Unusable(format!("cannot encode: {error}")))?;
        bytes.extend_from_slice(Id::of(&bytes).as_bytes());
        let temporary = path.with_extension("tmp");
        fs::write(&temporary, &bytes).context("write", &temporary)?;
        fs::rename(&temporary, path).context("rename to its place", &temporary)
    }

    /// What was kept at `path`, and what it was captured as; none if there is nothing that
    /// can be used. It holds only if there is still a checkpoint with that root.
    #[must_use]
    pub fn recall(path: &Path) -> Option<(Self, Id)> {
        let bytes = fs::read(path).ok()?;
        let (body, hash) = bytes.split_last_chunk::<{ Id::LENGTH }>()?;
        if Id::of(body).as_bytes() != hash {
            return None;
        }
        let kept: Kept = postcard::from_bytes(body.strip_prefix(MAGIC)?).ok()?;
        let mut live = Self {
            root: kept.root,
            slots: kept.slots,
            as_of: kept.as_of,
            synced: kept.synced,
            groups: kept.groups,
            next_group: kept.next_group,
        };
        if kept.boot.is_empty() || kept.boot != boot() {
            live.doubt_since(kept.synced);
        }
        Some((live, kept.captured))
    }

    /// After a crash of the machine, a file's times may be on the disk and its bytes not.
    /// What changed at `time` or later may be such a file.
    fn doubt_since(&mut self, time: Time) {
        for directory in self
            .slots
            .iter_mut()
            .filter_map(|slot| slot.directory.as_mut())
        {
            if directory
                .entries
                .iter()
                .any(|entry| entry.stamp.changed >= time)
            {
                let entries = &mut std::sync::Arc::make_mut(directory).entries;
                for entry in entries
                    .iter_mut()
                    .filter(|entry| entry.stamp.changed >= time)
                {
                    entry.marks.doubtful = true;
                }
            }
        }
    }
}
