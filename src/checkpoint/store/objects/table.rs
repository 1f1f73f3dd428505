//! Where objects are, by their ids: a hash table of places in a list.
//!
//! A hash table grows twofold at once, which with the ids in it would take twice the memory that
//! they need; with the places alone that is little, and the list grows by an eighth.

use hashbrown::HashTable;

use super::super::id::Id;
use super::Location;

/// Where objects are.
#[derive(Debug, Default)]
pub struct Table {
    /// Places in `entries`.
    places: HashTable<u32>,
    entries: Vec<(Id, Location)>,
}

/// An id is a hash already; its first byte has chosen the table.
fn hash(id: &Id) -> u64 {
    let last = id.as_bytes().last_chunk();
    last.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn entry(entries: &[(Id, Location)], place: u32) -> Option<&(Id, Location)> {
    entries.get(place as usize)
}

fn hash_at(entries: &[(Id, Location)], place: u32) -> u64 {
    entry(entries, place).map_or(0, |(id, _)| hash(id))
}

impl Table {
    /// Where an object is, if it is known.
    pub fn get(&self, id: &Id) -> Option<Location> {
        let is_it = |place: &u32| entry(&self.entries, *place).is_some_and(|(it, _)| it == id);
        let place = self.places.find(hash(id), is_it)?;
        entry(&self.entries, *place).map(|(_, location)| *location)
    }

    /// Notes where an object is; what was known of it before is forgotten.
    pub fn insert(&mut self, id: Id, location: Location) {
        let entries = &mut self.entries;
        let is_it = |place: &u32| entry(entries, *place).is_some_and(|(it, _)| *it == id);
        if let Some(place) = self.places.find(hash(&id), is_it) {
            if let Some((_, there)) = entries.get_mut(*place as usize) {
                *there = location;
            }
            return;
        }
        // It would be as if it were not there; but so many would take 200 GB.
        let Ok(place) = u32::try_from(entries.len()) else {
            return;
        };
        if entries.len() == entries.capacity() {
            entries.reserve_exact(entries.len() / 8 + 16);
        }
        entries.push((id, location));
        self.places
            .insert_unique(hash(&id), place, |place| hash_at(entries, *place));
    }

    /// Forgets the objects that are not in such a place.
    pub fn retain(&mut self, is_kept: impl Fn(&Location) -> bool) {
        let before = self.entries.len();
        self.entries.retain(|(_, location)| is_kept(location));
        if self.entries.len() == before {
            return;
        }
        self.places.clear();
        let entries = &self.entries;
        for (place, (id, _)) in (0_u32..).zip(entries) {
            self.places
                .insert_unique(hash(id), place, |place| hash_at(entries, *place));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::pack::Span;
    use super::*;

    #[test]
    fn it_is_a_map() {
        let mut table = Table::default();
        let mut map = HashMap::new();
        let mut random = fastrand::Rng::with_seed(1);
        for round in 0..20_000_u32 {
            let id = Id::of(&random.u32(..8_000).to_le_bytes());
            let span = Span {
                offset: round,
                stored: 1,
                raw: 2,
            };
            let pack = random.u32(..10);
            table.insert(id, Location { pack, span });
            map.insert(id, (pack, round));
            if round % 5_000 == 4_999 {
                let gone = random.u32(..10);
                table.retain(|location| location.pack != gone);
                map.retain(|_, (pack, _)| *pack != gone);
            }
        }
        for number in 0..9_000_u32 {
            let id = Id::of(&number.to_le_bytes());
            let found = table.get(&id).map(|it| (it.pack, it.span.offset));
            assert_eq!(found, map.get(&id).copied());
        }
        assert_eq!(table.entries.len(), map.len());
    }
}
