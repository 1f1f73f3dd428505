//! The collection: removes the packs that no checkpoint needs, and writes those anew of
//! which little is needed.
//!
//! A pack is removed only after what is needed of it is on stable storage in another one,
//! so that a crash leaves at worst objects that are there twice.

use std::collections::HashMap;

use super::super::driver::{Cancel, Error};
use super::id::Id;
use super::objects::{Decoder, Encoder, Objects};
use super::pool::Pool;
use super::reach::{Reached, reach};

/// A pack of which less than so many hundredths are needed is written anew.
const SPARSE: u64 = 40;

/// What a collection has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// How many packs it has removed.
    pub packs: usize,
    /// How many bytes they had, without what was written anew.
    pub bytes: u64,
}

/// Removes what is not reached from `roots`. Returns also what is.
pub fn collect(
    objects: &Objects,
    pool: &Pool,
    roots: &[Id],
    cancel: &Cancel,
) -> Result<(Collected, Reached), Error> {
    let reached = reach(objects, pool, roots, cancel)?;
    let mut needed: HashMap<u32, (u64, Vec<Id>)> = HashMap::new();
    for id in reached.ids() {
        if let Some((pack, stored)) = objects.place(id) {
            let (bytes, ids) = needed.entry(pack).or_default();
            *bytes += u64::from(stored);
            ids.push(*id);
        }
    }
    let mut collected = Collected::default();
    let mut removed = Vec::new();
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
    for pack in objects.packs() {
        let (bytes, ids) = needed.remove(&pack.number).unwrap_or_default();
        if bytes * 100 >= pack.length * SPARSE && !ids.is_empty() {
            continue;
        }
        cancel.check()?;
        for id in ids {
            objects.move_to_new_pack(&mut encoder, &mut decoder, id)?;
        }
        removed.push(pack.number);
        collected.packs += 1;
        collected.bytes += pack.length.saturating_sub(bytes);
    }
    objects.finish()?;
    objects.remove(&removed)?;
    Ok((collected, reached))
}
