//! Which checkpoints there are: what the records of the log come to.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::super::driver::Error;
use super::super::manifest::Manifest;
use super::id::Id;
use super::log::Change;

/// Which checkpoints there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    /// The number of the next record.
    #[serde(default)]
    pub next: u64,
    /// The checkpoints, oldest first.
    checkpoints: Vec<Manifest>,
    /// For each checkpoint that was ever made, the one that it came from.
    sources: BTreeMap<String, Option<String>>,
    /// The highest number that a checkpoint was ever given.
    last: Option<u64>,
    /// The checkpoint that the live tree came from: the one made or restored last.
    base: Option<String>,
    /// The checkpoint, automatic ones included, that the live tree was last known to be.
    #[serde(default)]
    latest: Option<String>,
    /// The checkpoint that was restored last, if none was made since.
    restored: Option<String>,
    /// The packs that hold the objects.
    #[serde(default)]
    pub packs: BTreeSet<String>,
    /// Whose store it is, since somebody took it over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub owner: Option<Owner>,
}

/// Whose store it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The name of its local store.
    pub id: String,
    /// How many have taken it over.
    pub epoch: u64,
}

impl Catalog {
    /// Takes in what has happened.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Checkpoint { manifest, packs } => {
                self.packs.extend(packs);
                let (id, source) = (manifest.id.clone(), manifest.source_id.clone());
                self.last = self.last.max(number(&id));
                self.sources.insert(id.clone(), source);
                if !manifest.imported {
                    self.latest = Some(id.clone());
                }
                if !manifest.is_auto && !manifest.imported {
                    self.base = Some(id);
                    self.restored = None;
                }
                self.checkpoints.push(*manifest);
            }
            Change::Restore { id } => {
                self.base = Some(id.clone());
                self.latest = Some(id.clone());
                self.restored = Some(id);
            }
            Change::Delete { id } => self.checkpoints.retain(|manifest| manifest.id != id),
            Change::Collect { added, removed } => {
                self.packs.extend(added);
                for name in &removed {
                    self.packs.remove(name);
                }
            }
            Change::Takeover { owner } => self.owner = Some(owner),
            Change::Summary { catalog } => *self = *catalog,
        }
    }

    /// The checkpoints, newest first; automatic ones only if asked for.
    pub fn list(&self, include_auto: bool) -> impl Iterator<Item = Manifest> {
        let newest_first = self.checkpoints.iter().rev();
        let wanted = newest_first.filter(move |manifest| include_auto || !manifest.is_auto);
        wanted.map(|manifest| self.with_history(manifest))
    }

    /// The checkpoint that `id` names: `v3`, `3`, `checkpoints/v3`, `auto-…`, or
    /// `Current` and `active` for the newest that somebody made.
    pub fn find(&self, id: &str) -> Result<Manifest, Error> {
        let unknown = || Error::Unknown(id.to_owned());
        if is_newest(id) {
            return self.list(false).next().ok_or_else(unknown);
        }
        let name = id.strip_prefix("checkpoints/").unwrap_or(id);
        let name = if name.bytes().all(|byte| byte.is_ascii_digit()) {
            format!("v{name}")
        } else {
            name.to_owned()
        };
        let mut found = self.checkpoints.iter();
        let found = found
            .find(|manifest| manifest.id == name)
            .ok_or_else(unknown)?;
        Ok(self.with_history(found))
    }

    /// The checkpoint that `id` names, if it may be removed.
    pub fn find_removable(&self, id: &str) -> Result<Manifest, Error> {
        let manifest = self.find(id)?;
        if is_newest(id) || self.restored.as_deref() == Some(&manifest.id) {
            return Err(Error::Active(manifest.id));
        }
        Ok(manifest)
    }

    /// The number of a new checkpoint. It is spent, even if nothing comes of it as long as
    /// this program runs.
    pub fn take_number(&mut self) -> u64 {
        let number = self.last.map_or(0, |last| last + 1);
        self.last = Some(number);
        number
    }

    /// Adds a checkpoint that was made before others that are there.
    pub fn add_older(&mut self, manifest: Manifest) {
        self.spend(&manifest.id);
        self.sources
            .insert(manifest.id.clone(), manifest.source_id.clone());
        self.checkpoints.push(manifest);
        self.checkpoints.sort_by_key(|manifest| manifest.sequence);
    }

    /// Leaves out the number that this id has, if it has one.
    pub fn spend(&mut self, id: &str) {
        self.last = self.last.max(number(id));
    }

    /// Leaves out a number that a record which cannot be read may have used.
    pub fn skip_number(&mut self) {
        self.take_number();
    }

    /// What the live tree is to be on a disk that has none: the checkpoint that it was last
    /// known to be.
    #[must_use]
    pub fn latest(&self) -> Option<Manifest> {
        let mut known = [&self.latest, &self.base].into_iter().flatten();
        let known = known.find_map(|id| self.find(id).ok());
        known.or_else(|| self.list(false).next())
    }

    /// Takes the packs that are there as all that there are, and this record as the one
    /// that made each checkpoint: older formats did not say.
    pub fn migrate(&mut self, packs: BTreeSet<String>) {
        self.packs = packs;
        for manifest in &mut self.checkpoints {
            manifest.sequence = self.next;
        }
    }

    /// The roots of all trees that the checkpoints have.
    #[must_use]
    pub fn roots(&self) -> Vec<Id> {
        self.checkpoints.iter().flat_map(Manifest::roots).collect()
    }

    /// The checkpoint that the live tree came from.
    #[must_use]
    pub fn base(&self) -> Option<&str> {
        self.base.as_deref()
    }

    fn with_history(&self, manifest: &Manifest) -> Manifest {
        let mut history = Vec::new();
        let mut source = manifest.source_id.as_ref();
        while let Some(id) = source {
            // A record cannot name one that is made after it; a damaged one might.
            if history.contains(id) {
                break;
            }
            history.push(id.clone());
            source = self.sources.get(id).and_then(Option::as_ref);
        }
        history.reverse();
        Manifest {
            history,
            ..manifest.clone()
        }
    }
}

/// Whether this names the newest, not a certain one.
fn is_newest(id: &str) -> bool {
    matches!(id, "Current" | "active")
}

/// Whether `id` could name a checkpoint.
#[must_use]
pub fn is_id(id: &str) -> bool {
    let auto = id
        .strip_prefix("auto-")
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    auto || number(id).is_some_and(|number| id == format!("v{number}"))
}

/// The number of a checkpoint that somebody made.
fn number(id: &str) -> Option<u64> {
    id.strip_prefix('v')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(id: &str, is_auto: bool, imported: bool) -> Change {
        let manifest = Manifest {
            is_auto,
            imported,
            ..Manifest::new(id.to_owned(), "2026-01-01T00:00:00Z".to_owned())
        };
        Change::Checkpoint {
            manifest: Box::new(manifest),
            packs: Vec::new(),
        }
    }

    #[test]
    fn what_a_first_start_replaces_does_not_come_back() {
        let mut catalog = Catalog::default();
        let mut latest_after = |change| {
            catalog.apply(change);
            catalog.latest().map(|manifest| manifest.id)
        };
        assert_eq!(
            latest_after(made("v0", false, false)).as_deref(),
            Some("v0")
        );
        let replaced = made("auto-1", true, true);
        assert_eq!(latest_after(replaced).as_deref(), Some("v0"));
        let id = "v0".to_owned();
        assert_eq!(latest_after(Change::Restore { id }).as_deref(), Some("v0"));
        // What another restore replaces was the live tree.
        let replaced = made("auto-2", true, false);
        assert_eq!(latest_after(replaced).as_deref(), Some("auto-2"));
    }
}
