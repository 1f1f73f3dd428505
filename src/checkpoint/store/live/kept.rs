//! The file that keeps what is known of the live tree from one run of the daemon to the
//! next. It is no part of any checkpoint: without it, or with a damaged one, the next
//! checkpoint reads everything once.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
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

/// How much is gathered before it is written.
const BUFFER: usize = 256 << 10;

/// A file that is written, and the hash of what was.
struct Hashed {
    file: File,
    hasher: blake3::Hasher,
}

impl Hashed {
    fn new(file: File) -> Self {
        let hasher = blake3::Hasher::new();
        Self { file, hasher }
    }
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.file.write(bytes)?;
        self.hasher.update(bytes.get(..length).unwrap_or_default());
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
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
        let temporary = path.with_extension("tmp");
        let file = File::create(&temporary).context("create", &temporary)?;
        // A large tree is not in memory twice for it.
        let mut to = BufWriter::with_capacity(BUFFER, Hashed::new(file));
        to.write_all(MAGIC).context("write", &temporary)?;
        let mut to = postcard::to_io(&kept, to)
            .map_err(|error| Error::Unusable(format!("cannot encode: {error}")))?;
        to.flush().context("write", &temporary)?;
        let Hashed { mut file, hasher } = to
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
            .context("write", &temporary)?;
        file.write_all(hasher.finalize().as_bytes())
            .context("write", &temporary)?;
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
