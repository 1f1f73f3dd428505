//! Which checkpoints there are: those whose directories are on the volume. What they came from is
//! kept beside them, and found out anew if it is lost.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::super::driver::{Context as _, Error};
use super::super::super::durable;
use super::super::super::manifest::Manifest;
use super::super::super::store::{Catalog, Change, is_id};
use super::{IMAGE, MANIFEST};

/// Its file.
const FILE: &str = "index.json";
/// The version of what is on the volume that this program writes, and the newest that it reads.
const FORMAT: u32 = 1;

/// Which checkpoints there are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Index {
    format: u32,
    catalog: Catalog,
    /// What should be a checkpoint and cannot be used, and why.
    #[serde(skip)]
    damaged: Vec<(String, String)>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            format: FORMAT,
            catalog: Catalog::default(),
            damaged: Vec::new(),
        }
    }
}

/// What is read of an index before the rest: that may be of another version.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

impl Index {
    /// That of the checkpoints in `dir`.
    pub fn read(dir: &Path) -> Result<Self, Error> {
        let mut index = Self::recall(&dir.join(FILE))?;
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).context("read", dir)? {
            let entry = entry.context("read", dir)?;
            let Some(id) = entry.file_name().to_str().map(str::to_owned) else {
                continue;
            };
            if !is_id(&id) {
                continue;
            }
            match manifest(&entry.path(), &id) {
                Ok(manifest) => found.push(manifest),
                Err(error) => {
                    tracing::error!("{error}");
                    index.damaged.push((id, error.to_string()));
                }
            }
        }
        index.agree_with(found);
        Ok(index)
    }

    /// What was written last; nothing if that is lost.
    fn recall(path: &Path) -> Result<Self, Error> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) => {
                if error.kind() != std::io::ErrorKind::NotFound {
                    tracing::warn!("cannot read {}: {error}; it is made anew", path.display());
                }
                return Ok(Self::default());
            }
        };
        let version = serde_json::from_slice::<Version>(&text).ok();
        if let Some(Version { format }) = version.filter(|it| it.format > FORMAT) {
            return Err(Error::Unusable(format!(
                "{} has format {format}, and this sprite-env reads {FORMAT} at most; use a newer one",
                path.display()
            )));
        }
        Ok(serde_json::from_slice(&text).unwrap_or_else(|error| {
            tracing::warn!(
                "{}: damaged: {error}; what each checkpoint came from is no longer known",
                path.display()
            );
            Self::default()
        }))
    }

    /// Takes what was found as all that there is.
    fn agree_with(&mut self, mut found: Vec<Manifest>) {
        let known: Vec<_> = self.list(true).map(|manifest| manifest.id).collect();
        for id in &known {
            if !found.iter().any(|manifest| manifest.id == *id) {
                self.remove(id);
            }
        }
        found.retain(|manifest| !known.contains(&manifest.id));
        found.sort_by_key(|manifest| manifest.sequence);
        let next = self.next();
        for manifest in found {
            if manifest.sequence < next {
                // It could not be read at the last start.
                self.catalog.add_older(manifest);
            } else {
                self.add(manifest);
            }
        }
        for (id, _) in &self.damaged {
            self.catalog.spend(id);
        }
    }

    /// Replaces what was written.
    pub fn write(&self, dir: &Path) -> Result<(), Error> {
        durable::write_json(&dir.join(FILE), self)
    }

    pub const fn next(&self) -> u64 {
        self.catalog.next
    }

    pub fn add(&mut self, manifest: Manifest) {
        self.catalog.next = self.catalog.next.max(manifest.sequence + 1);
        self.catalog.apply(Change::Checkpoint {
            manifest: Box::new(manifest),
            packs: Vec::new(),
        });
    }

    pub fn remove(&mut self, id: &str) {
        self.catalog.apply(Change::Delete { id: id.to_owned() });
    }

    pub fn restored(&mut self, id: &str) {
        self.catalog.apply(Change::Restore { id: id.to_owned() });
    }

    pub fn list(&self, include_auto: bool) -> impl Iterator<Item = Manifest> {
        self.catalog.list(include_auto)
    }

    pub fn find(&self, id: &str) -> Result<Manifest, Error> {
        let found = self.catalog.find(id);
        let name = id.strip_prefix("checkpoints/").unwrap_or(id);
        let is_it = |damaged: &str| damaged == name || damaged == format!("v{name}");
        let damaged = self.damaged.iter().find(|(id, _)| is_it(id));
        match (found, damaged) {
            (Err(Error::Unknown(_)), Some((_, why))) => Err(Error::Unusable(why.clone())),
            (found, _) => found,
        }
    }

    pub fn find_removable(&self, id: &str) -> Result<Manifest, Error> {
        self.find(id)?;
        self.catalog.find_removable(id)
    }

    /// The checkpoint that the environment came from.
    pub fn base(&self) -> Option<String> {
        self.catalog.base().map(ToOwned::to_owned)
    }

    /// The newest state, automatic ones included, that the environment was known to be in.
    pub fn latest(&self) -> Option<Manifest> {
        self.catalog.latest()
    }

    /// The number of a new checkpoint.
    pub fn take_number(&mut self) -> u64 {
        self.catalog.take_number()
    }

    /// What should be a checkpoint and cannot be used, and why.
    pub fn damaged(&self) -> &[(String, String)] {
        &self.damaged
    }
}

/// What is known of the checkpoint in `dir`.
fn manifest(dir: &Path, id: &str) -> Result<Manifest, Error> {
    let path = dir.join(MANIFEST);
    let text = fs::read(&path).context("read", &path)?;
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| Error::Damaged {
        path: path.clone(),
        why: format!("damaged: {error}; checkpoint {id} cannot be used"),
    })?;
    if manifest.id != id {
        return Err(Error::Damaged {
            path,
            why: format!("is of checkpoint {}, not of {id}", manifest.id),
        });
    }
    let image = dir.join(IMAGE);
    fs::metadata(&image).context("use checkpoint", &image)?;
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(dir: &Path, id: &str, sequence: u64) {
        let dir = dir.join(id);
        fs::create_dir_all(&dir).unwrap();
        let manifest = Manifest {
            sequence,
            ..Manifest::new(id.to_owned(), "2026-11-26T00:00:00Z".to_owned())
        };
        fs::write(dir.join(MANIFEST), serde_json::to_vec(&manifest).unwrap()).unwrap();
        fs::write(dir.join(IMAGE), "").unwrap();
    }

    fn ids(index: &Index) -> Vec<String> {
        index.list(true).map(|manifest| manifest.id).collect()
    }

    #[test]
    fn a_lost_index_is_made_of_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        for (id, sequence) in [("v0", 0), ("v2", 3), ("auto-20261126T000000.000000Z", 2)] {
            made(dir.path(), id, sequence);
        }
        fs::create_dir(dir.path().join(".making")).unwrap();
        let mut index = Index::read(dir.path()).unwrap();
        assert_eq!(ids(&index), ["v2", "auto-20261126T000000.000000Z", "v0"]);
        assert_eq!((index.next(), index.take_number()), (4, 3));
        index.write(dir.path()).unwrap();
        fs::remove_dir_all(dir.path().join("v2")).unwrap();
        let mut index = Index::read(dir.path()).unwrap();
        assert_eq!(ids(&index), ["auto-20261126T000000.000000Z", "v0"]);
        assert_eq!(index.take_number(), 4, "numbers are given once");
        fs::write(dir.path().join(FILE), "{").unwrap();
        assert_eq!(ids(&Index::read(dir.path()).unwrap()).len(), 2);
    }

    #[test]
    fn one_that_can_be_read_again_is_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        for (id, sequence) in [("v0", 0), ("v1", 1), ("v2", 2)] {
            made(dir.path(), id, sequence);
        }
        let path = dir.path().join("v1").join(MANIFEST);
        let text = fs::read(&path).unwrap();
        fs::write(&path, "").unwrap();
        let index = Index::read(dir.path()).unwrap();
        assert_eq!(ids(&index), ["v2", "v0"]);
        index.write(dir.path()).unwrap();
        fs::write(&path, text).unwrap();
        let index = Index::read(dir.path()).unwrap();
        assert_eq!(ids(&index), ["v2", "v1", "v0"]);
        assert_eq!(index.base().as_deref(), Some("v2"));
        assert_eq!(index.latest().unwrap().id, "v2");
    }

    #[test]
    fn what_is_damaged_or_newer_is_told() {
        let dir = tempfile::tempdir().unwrap();
        made(dir.path(), "v0", 0);
        made(dir.path(), "v7", 1);
        fs::write(dir.path().join("v7").join(MANIFEST), "{").unwrap();
        let mut index = Index::read(dir.path()).unwrap();
        assert_eq!(ids(&index), ["v0"]);
        for name in ["v7", "7", "checkpoints/v7"] {
            let said = index.find(name).unwrap_err().to_string();
            assert!(said.contains("v7/manifest.json: damaged"), "{said}");
        }
        assert!(matches!(index.find("v8"), Err(Error::Unknown(_))));
        assert_eq!(index.take_number(), 8);
        fs::write(dir.path().join(FILE), "{\"format\": 99}").unwrap();
        let said = Index::read(dir.path()).unwrap_err().to_string();
        assert!(said.contains("use a newer one"), "{said}");
    }
}
