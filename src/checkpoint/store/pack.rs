//! Packs: the files that hold objects.
//!
//! ```text
//! pack    = "SPRPACK1" object* segment footer
//! object  = the bytes as they are, or one zstd frame
//! segment = (id: 32 bytes, offset: u32, stored: u32, raw: u32)*     one for each object
//! footer  = offset of the segment: u32, objects: u32, BLAKE3 of the segment: 32 bytes, "SPRPACKE"
//! ```
//!
//! Numbers are little-endian. `stored` is the object's length in the pack, `raw` its true
//! length; where they are the same, the object is not compressed. A pack has its name
//! only after all of it is on stable storage, and never changes. With a key, each object and
//! the segment are encrypted; then their lengths are those of what is stored.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::super::driver::{Context as _, Error};
use super::cipher::{Cipher, Place};
use super::id::Id;
use super::objects::Decoder;

const MAGIC: &[u8; 8] = b"SPRPACK1";
const END: &[u8; 8] = b"SPRPACKE";
const ENTRY: usize = Id::LENGTH + 12;
const FOOTER: usize = 4 + 4 + Id::LENGTH + END.len();
/// How much is gathered before it is written.
const BUFFER: usize = 1 << 20;
/// A pack of this length is complete.
pub const FULL: u64 = 12 << 20;

/// Where an object is in its pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first byte.
    pub offset: u32,
    /// How many bytes it has in the pack.
    pub stored: u32,
    /// How many bytes it has.
    pub raw: u32,
}

/// Where the objects of another pack are now, or that pack, if it was not taken over.
pub type Absorbed = Result<Vec<(Id, Span)>, Box<PackWriter>>;

/// A pack in the making.
#[derive(Debug)]
pub struct PackWriter {
    path: PathBuf,
    file: Option<File>,
    buffer: Vec<u8>,
    written: u64,
    segment: Vec<u8>,
    objects: u32,
    cipher: Cipher,
}

impl PackWriter {
    /// A pack that is to be written at `path`; the file is made with its first bytes.
    #[must_use]
    pub fn new(path: PathBuf, cipher: Cipher) -> Self {
        let mut buffer = Vec::with_capacity(BUFFER + (BUFFER >> 3));
        buffer.extend_from_slice(MAGIC);
        Self {
            path,
            file: None,
            buffer,
            written: 0,
            segment: Vec::new(),
            objects: 0,
            cipher,
        }
    }

    /// How long it is so far.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Adds an object, of which `stored` is what is written.
    pub fn add(&mut self, id: &Id, stored: &[u8], raw: usize) -> Result<Span, Error> {
        let too_long = |_| Error::Damaged {
            path: self.path.clone(),
            why: "would be longer than a pack can be".to_owned(),
        };
        let span = Span {
            offset: u32::try_from(self.length()).map_err(too_long)?,
            stored: u32::try_from(stored.len()).map_err(too_long)?,
            raw: u32::try_from(raw).map_err(too_long)?,
        };
        self.segment.extend_from_slice(id.as_bytes());
        for number in [span.offset, span.stored, span.raw] {
            self.segment.extend_from_slice(&number.to_le_bytes());
        }
        self.objects += 1;
        self.buffer.extend_from_slice(stored);
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(span)
    }

    fn flush(&mut self) -> Result<(), Error> {
        let file = match &mut self.file {
            Some(file) => file,
            empty => empty.insert(File::create_new(&self.path).context("create", &self.path)?),
        };
        file.write_all(&self.buffer).context("write", &self.path)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Takes over the objects of `other`, if nothing of it is written yet; else gives it
    /// back.
    pub fn absorb(&mut self, other: Self) -> Result<Absorbed, Error> {
        if other.file.is_some() {
            return Ok(Err(Box::new(other)));
        }
        let mut moved = Vec::new();
        for entry in entries(&other.segment) {
            let (id, span) = entry.ok_or_else(|| Error::Damaged {
                path: other.path.clone(),
                why: "has half an entry".to_owned(),
            })?;
            let start = span.offset as usize;
            let stored = other.buffer.get(start..start + span.stored as usize);
            let span = self.add(&id, stored.unwrap_or_default(), span.raw as usize)?;
            moved.push((id, span));
        }
        Ok(Ok(moved))
    }

    /// Writes the rest of it. What is returned still has to be flushed to stable storage.
    pub fn finish(mut self) -> Result<(PathBuf, File), Error> {
        let offset = u32::try_from(self.length()).map_err(|_| Error::Damaged {
            path: self.path.clone(),
            why: "is longer than a pack can be".to_owned(),
        })?;
        let mut sealed = Vec::new();
        let segment = self
            .cipher
            .seal(Place::Segment, &self.segment, &mut sealed)?;
        let hash = Id::of(segment);
        self.buffer.extend_from_slice(segment);
        self.buffer.extend_from_slice(&offset.to_le_bytes());
        self.buffer.extend_from_slice(&self.objects.to_le_bytes());
        self.buffer.extend_from_slice(hash.as_bytes());
        self.buffer.extend_from_slice(END);
        self.flush()?;
        match self.file {
            Some(file) => Ok((self.path, file)),
            None => Err(Error::Unusable("a pack without a file".to_owned())),
        }
    }
}

/// The objects of a pack, and its length.
pub type Listing = (Vec<(Id, Span)>, u64);

/// The objects of the pack at `path`, and its length.
pub fn read_segment(path: &Path, file: &File, cipher: &Cipher) -> Result<Listing, Error> {
    let length = file.metadata().context("look at", path)?.len();
    let mut footer = [0; FOOTER];
    let at = length.checked_sub(FOOTER as u64);
    let at = at.ok_or_else(|| damaged(path, "it is too short for a pack"))?;
    file.read_exact_at(&mut footer, at).context("read", path)?;
    let index = index_length(path, &footer, cipher)?;
    let start = length.checked_sub(index as u64);
    let start = start.ok_or_else(|| damaged(path, "its footer does not fit its length"))?;
    let mut bytes = vec![0; index];
    file.read_exact_at(&mut bytes, start)
        .context("read", path)?;
    let (entries, told) = read_index(path, &bytes, cipher)?;
    if told != length {
        return Err(damaged(path, "its footer does not fit its length"));
    }
    Ok((entries, length))
}

/// How long the index of a pack is, its segment and its footer, as the last bytes of the
/// pack say.
pub fn index_length(path: &Path, tail: &[u8], cipher: &Cipher) -> Result<usize, Error> {
    let (_, objects, _) = read_footer(path, tail)?;
    Ok(objects as usize * ENTRY + cipher.overhead() + FOOTER)
}

/// The objects of a pack, and its length, as its index tells them: its last bytes.
pub fn read_index(path: &Path, index: &[u8], cipher: &Cipher) -> Result<Listing, Error> {
    let (offset, objects, hash) = read_footer(path, index)?;
    let end = index.len().saturating_sub(FOOTER);
    let start = end.checked_sub(objects as usize * ENTRY + cipher.overhead());
    let segment = start.and_then(|start| index.get(start..end));
    let segment = segment.ok_or_else(|| damaged(path, "its list is cut off"))?;
    if Id::of(segment).as_bytes() != hash {
        return Err(damaged(path, "its list of objects does not have its hash"));
    }
    let length = u64::from(offset) + (segment.len() + FOOTER) as u64;
    let mut segment = segment.to_vec();
    let opened = cipher.open(Place::Segment, &mut segment);
    opened.map_err(|error| damaged(path, &format!("its list of objects: {error}")))?;
    let entries: Option<Vec<_>> = entries(&segment).collect();
    let entries = entries.ok_or_else(|| damaged(path, "its list is cut off"))?;
    Ok((entries, length))
}

/// Fails if these are not the bytes of a whole pack of this length, each object with the
/// bytes that its id says.
pub fn check(path: &Path, bytes: &[u8], length: u64, cipher: &Cipher) -> Result<(), Error> {
    let (entries, told) = read_index(path, bytes, cipher)?;
    if told != length || bytes.len() as u64 != length {
        return Err(damaged(path, "it does not have its length"));
    }
    let mut decoder = Decoder::default();
    for (id, span) in entries {
        let start = span.offset as usize;
        let stored = bytes.get(start..start + span.stored as usize);
        let stored = stored.ok_or_else(|| damaged(path, "an object is cut off"))?;
        decoder.stored(stored.len()).copy_from_slice(stored);
        let object = decoder.decode(cipher, &id, span.raw as usize);
        if object.map_or(true, |object| Id::of(object) != id) {
            return Err(damaged(
                path,
                "an object has other bytes than its hash says",
            ));
        }
    }
    Ok(())
}

/// Where the segment begins, how many objects it has, and its hash.
fn read_footer<'a>(path: &Path, tail: &'a [u8]) -> Result<(u32, u32, &'a [u8]), Error> {
    let footer = tail.last_chunk::<FOOTER>();
    let footer = footer.ok_or_else(|| damaged(path, "it is too short for a pack"))?;
    let (offset, rest) = number(footer).ok_or_else(|| damaged(path, "no footer"))?;
    let (objects, rest) = number(rest).ok_or_else(|| damaged(path, "no footer"))?;
    let (hash, end) = rest.split_at_checked(Id::LENGTH).unwrap_or_default();
    if end != END {
        return Err(damaged(path, "it does not end as a pack does"));
    }
    Ok((offset, objects, hash))
}

fn damaged(path: &Path, why: &str) -> Error {
    Error::Damaged {
        path: path.to_owned(),
        why: format!("damaged: {why}"),
    }
}

/// The entries of a segment; none for what is no entry.
fn entries(segment: &[u8]) -> impl Iterator<Item = Option<(Id, Span)>> {
    segment.chunks_exact(ENTRY).map(|entry| {
        let (id, rest) = entry.split_first_chunk::<{ Id::LENGTH }>()?;
        let (offset, rest) = number(rest)?;
        let (stored, rest) = number(rest)?;
        let (raw, _) = number(rest)?;
        let span = Span {
            offset,
            stored,
            raw,
        };
        Some((Id::from_bytes(*id), span))
    })
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*number), rest))
}
