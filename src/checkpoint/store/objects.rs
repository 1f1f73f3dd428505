//! All objects by their ids, whichever pack they are in.

mod encoder;
mod flushing;
mod packs;
mod table;

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

pub use self::encoder::{Decoder, Encoder};
use self::flushing::Flushing;
use self::packs::Packs;
pub use self::packs::{Listed, Source, index_file, remove_files, source_name};
use self::table::Table;
use super::super::driver::{Context as _, Error};
use super::super::meter::Meter;
use super::cipher::{self, Cipher};
use super::id::Id;
use super::lock;
use super::pack::{self, PackWriter, Span};

/// So that two threads seldom want the same part of the table.
const SHARDS: usize = 64;
/// The number of no pack: the object is about to be written.
const NOWHERE: u32 = u32::MAX;
/// How many bytes may be held back while everything is frozen.
const HELD: usize = 64 << 20;

/// Where an object is.
#[derive(Clone, Copy, Debug)]
struct Location {
    pack: u32,
    span: Span,
}

/// All objects.
#[derive(Debug)]
pub struct Objects {
    dir: PathBuf,
    work: PathBuf,
    shards: Vec<Mutex<Table>>,
    packs: Packs,
    cipher: Cipher,
    writers: Mutex<Vec<(u32, PackWriter)>>,
    flushing: Flushing,
    holding: AtomicBool,
    room: AtomicUsize,
    held: Mutex<Vec<(Id, Vec<u8>)>>,
}

impl Objects {
    /// The objects of the packs with these names, or of all packs in `dir`; what is not
    /// finished is put into `work`. Packs that are damaged are left out and returned with
    /// the reason.
    pub fn open(
        dir: &Path,
        work: &Path,
        names: Option<&BTreeSet<String>>,
        source: Option<Arc<dyn Source>>,
        cipher: Cipher,
    ) -> Result<(Self, Vec<Error>), Error> {
        let objects = Self {
            dir: dir.to_owned(),
            work: work.to_owned(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            packs: Packs::new(dir, source, cipher.clone()),
            cipher,
            writers: Mutex::default(),
            flushing: Flushing::default(),
            holding: AtomicBool::new(false),
            room: AtomicUsize::new(0),
            held: Mutex::default(),
        };
        let mut bad = Vec::new();
        let on_disk = objects.packs.on_disk()?;
        for name in names.unwrap_or(&on_disk) {
            match objects.packs.load(name) {
                Ok((pack, (entries, _))) => {
                    for (id, span) in entries {
                        lock(objects.shard(&id)).insert(id, Location { pack, span });
                    }
                }
                Err(error) => bad.push(error),
            }
        }
        Ok((objects, bad))
    }

    fn shard(&self, id: &Id) -> &Mutex<Table> {
        let [first, ..] = id.as_bytes();
        // There are as many as the remainder can name.
        #[allow(clippy::indexing_slicing, reason = "a remainder of the length")]
        &self.shards[usize::from(*first) % SHARDS]
    }

    /// Whether there is an object with this id.
    #[must_use]
    pub fn contains(&self, id: &Id) -> bool {
        lock(self.shard(id)).get(id).is_some()
    }

    /// In which pack an object is, and how many bytes it takes there.
    #[must_use]
    pub fn place(&self, id: &Id) -> Option<(u32, u32)> {
        let location = lock(self.shard(id)).get(id)?;
        Some((location.pack, location.span.stored))
    }

    /// Adds an object with these bytes, unless it is there; returns its id.
    pub fn put(&self, encoder: &mut Encoder, bytes: &[u8]) -> Result<Id, Error> {
        let id = Id::of(bytes);
        {
            let mut shard = lock(self.shard(&id));
            if shard.get(&id).is_some() {
                return Ok(id);
            }
            let span = Span {
                offset: 0,
                stored: 0,
                raw: 0,
            };
            let pack = NOWHERE;
            shard.insert(id, Location { pack, span });
        }
        if self.holding.load(Ordering::Relaxed) && self.has_room(bytes.len()) {
            lock(&self.held).push((id, bytes.to_vec()));
        } else {
            self.write(encoder, id, bytes)?;
        }
        Ok(id)
    }

    fn has_room(&self, wanted: usize) -> bool {
        let less = |room: usize| room.checked_sub(wanted);
        let taken = self
            .room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        taken.is_ok()
    }

    fn write(&self, encoder: &mut Encoder, id: Id, bytes: &[u8]) -> Result<(), Error> {
        let mut sealed = Vec::new();
        let stored = encoder.encode(bytes);
        let place = cipher::Place::Object(id.as_bytes());
        let stored = self.cipher.seal(place, stored, &mut sealed)?;
        let (number, mut writer) = match lock(&self.writers).pop() {
            Some(open) => open,
            None => self.new_pack(),
        };
        let added = writer.add(&id, stored, bytes.len());
        let full = writer.length() >= pack::FULL;
        let span = match added {
            Ok(span) => span,
            Err(error) => {
                lock(&self.writers).push((number, writer));
                return Err(error);
            }
        };
        let pack = number;
        lock(self.shard(&id)).insert(id, Location { pack, span });
        if full {
            self.flush(number, writer)
        } else {
            lock(&self.writers).push((number, writer));
            Ok(())
        }
    }

    fn new_pack(&self) -> (u32, PackWriter) {
        let (number, name) = self.packs.begin();
        let path = self.work.join(source_name(&name));
        (number, PackWriter::new(path, self.cipher.clone()))
    }

    /// Sends a pack on its way to stable storage.
    fn flush(&self, number: u32, writer: PackWriter) -> Result<(), Error> {
        self.flushing.send(number, writer, self.packs.are_copied())
    }

    /// From now on new objects are held in memory, as long as there is room: nothing is
    /// compressed or written while everything is frozen.
    pub fn hold(&self) {
        self.room.store(HELD, Ordering::Relaxed);
        self.holding.store(true, Ordering::Relaxed);
    }

    /// Writes what was held.
    pub fn release(&self, encoder: &mut Encoder) -> Result<(), Error> {
        self.holding.store(false, Ordering::Relaxed);
        let held = std::mem::take(&mut *lock(&self.held));
        for (id, bytes) in held {
            self.write(encoder, id, &bytes)?;
        }
        Ok(())
    }

    /// Brings all that was added to stable storage, and gives the packs their names.
    pub fn finish(&self) -> Result<(), Error> {
        for (number, writer) in self.merged_writers()? {
            self.flush(number, writer)?;
        }
        let flushed = self.flushing.all()?;
        let any = !flushed.is_empty();
        for pack in flushed {
            self.packs.place(pack.number, &pack.path, pack.length)?;
        }
        if any { self.packs.sync() } else { Ok(()) }
    }

    /// The packs that are still written, small ones put together.
    fn merged_writers(&self) -> Result<Vec<(u32, PackWriter)>, Error> {
        let mut writers = std::mem::take(&mut *lock(&self.writers));
        writers.sort_by_key(|(_, writer)| writer.length());
        let Some((number, mut last)) = writers.pop() else {
            return Ok(writers);
        };
        let mut kept = Vec::new();
        for (other, writer) in writers {
            match last.absorb(writer)? {
                Ok(moved) => {
                    for (id, span) in moved {
                        let pack = number;
                        lock(self.shard(&id)).insert(id, Location { pack, span });
                    }
                }
                Err(writer) => kept.push((other, *writer)),
            }
        }
        kept.push((number, last));
        Ok(kept)
    }

    /// Forgets all that was added since the last [`Self::finish`].
    pub fn abandon(&self) {
        self.holding.store(false, Ordering::Relaxed);
        lock(&self.held).clear();
        lock(&self.writers).clear();
        self.flushing.abandon();
        self.forget_absent();
    }

    /// Forgets the objects of packs that are not there.
    fn forget_absent(&self) {
        let there = self.packs.there();
        let there = |number: u32| there.get(number as usize).copied().unwrap_or_default();
        for shard in &self.shards {
            lock(shard).retain(|location| there(location.pack));
        }
    }

    /// The bytes of an object, put into `decoder`; they are what the id says. If the pack on this
    /// machine is damaged, and there is another, that takes its place.
    pub fn get<'a>(&self, decoder: &'a mut Decoder, id: &Id) -> Result<&'a [u8], Error> {
        let found = lock(self.shard(id)).get(id);
        let missing = || self.missing(id);
        let location = found.ok_or_else(missing)?;
        let (path, file) = self.packs.file(location.pack)?.ok_or_else(missing)?;
        if let Err(error) = self.read(decoder, id, location.span, (&path, &file)) {
            let (path, file) = self.packs.replace(location.pack, &file, error)?;
            self.read(decoder, id, location.span, (&path, &file))?;
        }
        Ok(decoder.decoded())
    }

    /// Reads an object of the pack at this path, which is this file.
    fn read(
        &self,
        decoder: &mut Decoder,
        id: &Id,
        span: Span,
        (path, file): (&Path, &File),
    ) -> Result<(), Error> {
        let stored = decoder.stored(span.stored as usize);
        file.read_exact_at(stored, span.offset.into())
            .context("read", path)?;
        let damaged = |why: String| Error::Damaged {
            path: path.to_owned(),
            why: format!("damaged: object {id} {why}"),
        };
        let bytes = decoder
            .decode(&self.cipher, id, span.raw as usize)
            .map_err(|error| damaged(format!("cannot be decoded: {error}")))?;
        if Id::of(bytes) != *id {
            return Err(damaged("has other bytes than its hash says".to_owned()));
        }
        Ok(())
    }

    /// That an object is missing.
    #[must_use]
    pub fn missing(&self, id: &Id) -> Error {
        Error::Damaged {
            path: self.dir.clone(),
            why: format!("has no object {id}: a pack is missing or damaged"),
        }
    }

    /// The packs that are there.
    #[must_use]
    pub fn packs(&self) -> Vec<Listed> {
        self.packs.list()
    }

    /// The names of the packs that are there.
    #[must_use]
    pub fn pack_names(&self) -> BTreeSet<String> {
        self.packs.names()
    }

    /// What is wrong with the lists of objects of the packs on this machine.
    #[must_use]
    pub fn check_packs(&self) -> Vec<Error> {
        self.packs.check()
    }

    /// The packs whose files are here but that are not in the table.
    pub fn strangers(&self) -> Result<Vec<String>, Error> {
        let (there, on_disk) = (self.packs.names(), self.packs.on_disk()?);
        Ok(on_disk.difference(&there).cloned().collect())
    }

    /// Whether all objects are on this machine.
    #[must_use]
    pub fn all_local(&self) -> bool {
        self.packs.all_local()
    }

    /// Brings these objects to this machine. Returns how many packs had to be fetched.
    pub fn bring<'a>(
        &self,
        ids: impl Iterator<Item = &'a Id>,
        meter: &Meter,
    ) -> Result<usize, Error> {
        let numbers: BTreeSet<u32> = ids.filter_map(|id| Some(self.place(id)?.0)).collect();
        let elsewhere = self.packs.elsewhere(&numbers);
        self.packs.fetch_all(&elsewhere, meter)?;
        Ok(elsewhere.len())
    }

    /// Writes an object that is there once more, so that its old pack can go.
    pub fn move_to_new_pack(
        &self,
        encoder: &mut Encoder,
        decoder: &mut Decoder,
        id: Id,
    ) -> Result<(), Error> {
        let bytes = self.get(decoder, &id)?;
        self.write(encoder, id, bytes)
    }

    /// Takes packs and the objects in them out of the table. Their files are still there.
    pub fn forget(&self, numbers: &[u32]) {
        self.packs.forget(numbers);
        self.forget_absent();
    }

    /// The names of packs.
    #[must_use]
    pub fn names_of(&self, numbers: &[u32]) -> Vec<String> {
        self.packs.names_of(numbers)
    }

    /// Removes the files of packs that are not in the table.
    pub fn remove_files(&self, names: &[String]) -> Result<(), Error> {
        remove_files(&self.dir, names)
    }
}
