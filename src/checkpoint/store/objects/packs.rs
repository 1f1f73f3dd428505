//! The packs by their numbers: which there are, and their files.

mod fetching;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::super::super::driver::{Context as _, Error};
use super::super::super::durable;
use super::super::cipher::Cipher;
use super::super::pack::{self, Listing};
use super::NOWHERE;

/// How many packs are kept open for reading.
const OPEN: usize = 64;
/// How many packs are fetched at once.
const FETCHING: usize = 8;
/// What the name of a pack's file ends with.
const EXTENSION: &str = "pack";
/// What the name of the file ends with that has the index of a pack that is elsewhere.
const INDEX: &str = "index";

/// Where packs come from that are not on this machine. All calls may block.
pub trait Source: Send + Sync + std::fmt::Debug {
    /// The index of a pack: its last bytes.
    fn index(&self, name: &str) -> Result<Vec<u8>, Error>;
    /// All bytes of a pack.
    fn pack(&self, name: &str) -> Result<bytes::Bytes, Error>;
}

/// A pack that has its name, or will get it.
#[derive(Debug)]
struct Pack {
    /// Its name, without the extension.
    name: String,
    /// How long it is; 0 as long as it is written.
    length: u64,
    file: Option<Arc<File>>,
    /// Whether it is there: it is written whole and not removed.
    there: bool,
    /// Whether it is on this machine.
    local: bool,
}

/// A pack that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its number in this run of the daemon.
    pub number: u32,
    /// How many bytes it has.
    pub length: u64,
}

/// All packs.
#[derive(Debug)]
pub struct Packs {
    dir: PathBuf,
    table: RwLock<Vec<Pack>>,
    source: Option<Arc<dyn Source>>,
    cipher: Cipher,
    fetching: Vec<Mutex<()>>,
}

impl Packs {
    /// None yet; those that are not in `dir` come from `source`.
    pub fn new(dir: &Path, source: Option<Arc<dyn Source>>, cipher: Cipher) -> Self {
        Self {
            dir: dir.to_owned(),
            table: RwLock::default(),
            source,
            cipher,
            fetching: (0..FETCHING).map(|_| Mutex::default()).collect(),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Pack>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<Pack>> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names of the packs whose files are here.
    pub fn on_disk(&self) -> Result<BTreeSet<String>, Error> {
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(&self.dir).context("read", &self.dir)? {
            let path = entry.context("read", &self.dir)?.path();
            if path.extension().is_some_and(|end| end == EXTENSION)
                && let Some(stem) = path.file_stem()
            {
                names.insert(stem.to_string_lossy().into_owned());
            }
        }
        Ok(names)
    }

    /// The path of the pack `name`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name).with_extension(EXTENSION)
    }

    /// Takes the pack `name` into the table: that on this machine, if it is whole, else
    /// that of the source. Returns its number and its objects.
    pub fn load(&self, name: &str) -> Result<(u32, Listing), Error> {
        let local = self.read_local(name);
        let (listing, local) = match (local, &self.source) {
            (Err(error @ Error::Damaged { .. }), Some(source)) => {
                // As long as there is no other, it is better than none.
                match self.index(source.as_ref(), name) {
                    Ok(listing) => {
                        tracing::warn!("{error}; the bucket's copy is used");
                        (listing, false)
                    }
                    Err(why) => {
                        tracing::warn!("the bucket's copy cannot be used: {why}");
                        return Err(error);
                    }
                }
            }
            (Err(Error::Io { source: cause, .. }), Some(source))
                if cause.kind() == std::io::ErrorKind::NotFound =>
            {
                (self.index(source.as_ref(), name)?, false)
            }
            (listing, _) => (listing?, true),
        };
        let number = self.push(Pack {
            name: name.to_owned(),
            length: listing.1,
            file: None,
            there: true,
            local,
        });
        Ok((number, listing))
    }

    fn read_local(&self, name: &str) -> Result<Listing, Error> {
        let path = self.path(name);
        let file = File::open(&path).context("open", &path)?;
        pack::read_segment(&path, &file, &self.cipher)
    }

    /// The index of a pack that is elsewhere; kept here once it was fetched.
    fn index(&self, source: &dyn Source, name: &str) -> Result<Listing, Error> {
        let path = index_file(&self.dir, name);
        if let Ok(kept) = fs::read(&path)
            && let Ok(listing) = pack::read_index(&path, &kept, &self.cipher)
        {
            return Ok(listing);
        }
        let index = source.index(name)?;
        let listing = pack::read_index(&path, &index, &self.cipher)?;
        durable::write(&path, &index)?;
        Ok(listing)
    }

    /// A pack that is about to be written: its number and its name.
    pub fn begin(&self) -> (u32, String) {
        let name = format!("{:032x}", fastrand::u128(..));
        let number = self.push(Pack {
            name: name.clone(),
            length: 0,
            file: None,
            there: false,
            local: true,
        });
        (number, name)
    }

    fn push(&self, pack: Pack) -> u32 {
        let mut packs = self.write();
        let number = u32::try_from(packs.len()).unwrap_or(NOWHERE);
        packs.push(pack);
        number
    }

    /// Gives a pack that was written at `path` its name. The directory still has to be
    /// flushed.
    pub fn place(&self, number: u32, path: &Path, length: u64) -> Result<(), Error> {
        let target = self.dir.join(path.file_name().unwrap_or_default());
        fs::rename(path, &target).context("rename to its place", path)?;
        if let Some(pack) = self.write().get_mut(number as usize) {
            pack.length = length;
            pack.there = true;
        }
        Ok(())
    }

    /// Makes the names of packs durable.
    pub fn sync(&self) -> Result<(), Error> {
        durable::sync_directory(&self.dir)
    }

    /// Which numbers are of packs that are there.
    pub fn there(&self) -> Vec<bool> {
        self.read().iter().map(|pack| pack.there).collect()
    }

    /// The packs that are there.
    pub fn list(&self) -> Vec<Listed> {
        let packs = self.read();
        let numbered = (0_u32..).zip(packs.iter()).filter(|(_, pack)| pack.there);
        let listed = numbered.map(|(number, pack)| Listed {
            number,
            length: pack.length,
        });
        listed.collect()
    }

    /// The names of the packs that are there.
    pub fn names(&self) -> BTreeSet<String> {
        let packs = self.read();
        let there = packs.iter().filter(|pack| pack.there);
        there.map(|pack| pack.name.clone()).collect()
    }

    /// The names of those packs.
    pub fn names_of(&self, numbers: &[u32]) -> Vec<String> {
        let packs = self.read();
        let found = numbers
            .iter()
            .filter_map(|number| packs.get(*number as usize));
        found.map(|pack| pack.name.clone()).collect()
    }

    /// The pack's file, fetched if it is elsewhere; none if there is no such pack.
    pub fn file(&self, number: u32) -> Result<Option<(PathBuf, Arc<File>)>, Error> {
        let (path, local) = {
            let packs = self.read();
            let Some(pack) = packs.get(number as usize).filter(|pack| pack.there) else {
                return Ok(None);
            };
            let path = self.path(&pack.name);
            if let Some(file) = &pack.file {
                return Ok(Some((path, Arc::clone(file))));
            }
            (path, pack.local)
        };
        if !local {
            self.fetch(number, None)?;
        }
        let file = Arc::new(File::open(&path).context("open", &path)?);
        let mut packs = self.write();
        if packs.iter().filter(|pack| pack.file.is_some()).count() >= OPEN {
            packs.iter_mut().for_each(|pack| pack.file = None);
        }
        if let Some(pack) = packs.get_mut(number as usize) {
            pack.file = Some(Arc::clone(&file));
        }
        Ok(Some((path, file)))
    }

    /// Which of these packs are not on this machine.
    pub fn elsewhere(&self, numbers: &BTreeSet<u32>) -> Vec<u32> {
        let packs = self.read();
        let is_elsewhere = |number: &u32| {
            let pack = packs.get(*number as usize);
            pack.is_some_and(|pack| pack.there && !pack.local)
        };
        numbers.iter().copied().filter(is_elsewhere).collect()
    }

    /// Whether all packs are on this machine.
    pub fn all_local(&self) -> bool {
        self.read().iter().all(|pack| pack.local || !pack.there)
    }

    /// Whether new packs are copied to where others come from: they are read again soon.
    pub fn are_copied(&self) -> bool {
        self.source.is_some()
    }

    /// What is wrong with the lists of objects of the packs on this machine.
    pub fn check(&self) -> Vec<Error> {
        let names: Vec<String> = {
            let packs = self.read();
            let here = packs.iter().filter(|pack| pack.there && pack.local);
            here.map(|pack| pack.name.clone()).collect()
        };
        let check = |name: &String| {
            let error = self.read_local(name).err()?;
            // It may have been removed meanwhile.
            self.names().contains(name).then_some(error)
        };
        names.iter().filter_map(check).collect()
    }

    /// Takes packs out of the table.
    pub fn forget(&self, numbers: &[u32]) {
        let mut packs = self.write();
        for number in numbers {
            if let Some(pack) = packs.get_mut(*number as usize) {
                pack.there = false;
                pack.file = None;
            }
        }
    }
}

/// Removes the files of these packs, and of their indexes.
pub fn remove_files(dir: &Path, names: &[String]) -> Result<(), Error> {
    for name in names {
        durable::remove_file(&dir.join(source_name(name)))?;
        durable::remove_file(&index_file(dir, name))?;
    }
    Ok(())
}

/// Where the index of a pack is that is elsewhere.
#[must_use]
pub fn index_file(dir: &Path, name: &str) -> PathBuf {
    dir.join(name).with_extension(INDEX)
}

/// The name of a pack's file, here and in the bucket.
#[must_use]
pub fn source_name(name: &str) -> String {
    format!("{name}.{EXTENSION}")
}
