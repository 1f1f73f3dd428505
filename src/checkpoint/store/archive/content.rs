//! The bytes of files in and out of the store, one after the other.

use std::io::{self, Read};

use super::super::id::Id;
use super::super::node::{BLOCK, BLOCKS};
use super::super::objects::{Decoder, Encoder, Objects};
use super::super::{plan, scan};
use crate::checkpoint::driver::Error;

/// Reads a file from its first byte to its last.
pub struct Reader<'a> {
    objects: &'a Objects,
    decoder: Decoder,
    /// The lists and blocks that are still to be read, the next last.
    lists: Vec<Id>,
    blocks: Vec<Id>,
    /// How many bytes are still to be given out, those in `block` included.
    left: u64,
    block: Vec<u8>,
    /// How many bytes of `block` were given out.
    given: usize,
}

impl<'a> Reader<'a> {
    /// Of the file with this content.
    pub fn new(objects: &'a Objects, size: u64, content: Id) -> Result<Self, Error> {
        let mut reader = Self {
            objects,
            decoder: Decoder::default(),
            lists: Vec::new(),
            blocks: Vec::new(),
            left: size,
            block: Vec::new(),
            given: 0,
        };
        if size <= BLOCK as u64 {
            reader.blocks.push(content);
        } else if scan::lists(size) <= 1 {
            reader.lists.push(content);
        } else {
            reader.lists = reader.ids(content)?;
            reader.lists.reverse();
        }
        Ok(reader)
    }

    fn ids(&mut self, list: Id) -> Result<Vec<Id>, Error> {
        plan::ids(self.objects.get(&mut self.decoder, &list)?, list)
    }

    /// Brings the next block here.
    fn advance(&mut self) -> Result<(), Error> {
        if self.blocks.is_empty()
            && let Some(list) = self.lists.pop()
        {
            self.blocks = self.ids(list)?;
            self.blocks.reverse();
        }
        let short = || Error::Unusable("the list of a file's blocks is too short".to_owned());
        let id = self.blocks.pop().ok_or_else(short)?;
        let length = usize::try_from(self.left).unwrap_or(BLOCK).min(BLOCK);
        self.block.clear();
        self.given = 0;
        if id == Id::HOLE {
            self.block.resize(length, 0);
            return Ok(());
        }
        let bytes = self.objects.get(&mut self.decoder, &id)?;
        if bytes.len() != length {
            return Err(Error::Unusable(format!(
                "the block {id} has {} bytes instead of {length}",
                bytes.len()
            )));
        }
        self.block.extend_from_slice(bytes);
        Ok(())
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        if self.given == self.block.len() {
            self.advance().map_err(io::Error::other)?;
        }
        let rest = self.block.get(self.given..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        self.given += length;
        self.left -= length as u64;
        Ok(length)
    }
}

/// Stores a file of `size` bytes; returns its content. Its objects are those that a walk of a
/// tree with it would make.
pub fn store(
    objects: &Objects,
    encoder: &mut Encoder,
    file: &mut impl Read,
    size: u64,
) -> io::Result<Id> {
    if size == 0 {
        return Ok(Id::HOLE);
    }
    let mut block = vec![0; BLOCK];
    let mut left = size;
    let mut lists = Vec::new();
    let mut blocks: Vec<u8> = Vec::new();
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        let part = block.get_mut(..length).unwrap_or_default();
        file.read_exact(part)?;
        left -= length as u64;
        let is_hole = size > BLOCK as u64 && part.iter().all(|byte| *byte == 0);
        let id = if is_hole {
            Id::HOLE
        } else {
            objects.put(encoder, part).map_err(io::Error::other)?
        };
        if size <= BLOCK as u64 {
            return Ok(id);
        }
        blocks.extend_from_slice(id.as_bytes());
        if blocks.len() == BLOCKS * Id::LENGTH || left == 0 {
            lists.push(objects.put(encoder, &blocks).map_err(io::Error::other)?);
            blocks.clear();
        }
    }
    scan::content_of(objects, encoder, &lists).map_err(io::Error::other)
}
