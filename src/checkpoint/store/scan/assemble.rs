//! From what the threads of a walk have found to the tree.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::super::super::driver::Error;
use super::super::id::Id;
use super::super::live::{Directory, Entry, Slot};
use super::super::objects::{Encoder, Objects};
use super::{Found, Scan, Scanned, Spot, limit};

impl Scan<'_> {
    /// Puts together what the threads have found.
    pub(super) fn assemble(
        self,
        found: Vec<Found>,
        encoder: &mut Encoder,
    ) -> Result<Scanned, Error> {
        let mut live = self.previous.clone();
        let mut seen = vec![false; live.slots.len()];
        let mut changed = Vec::new();
        let mut fresh: HashMap<u32, Directory> = HashMap::new();
        let mut lists: HashMap<Spot, Vec<(usize, Id, bool)>> = HashMap::new();
        let mut aliases = Vec::new();
        let mut deferred = Vec::new();
        for found in found {
            match found {
                Found::Directory {
                    number,
                    parent,
                    inode,
                    directory,
                } => {
                    let at = number as usize;
                    if live.slots.len() <= at {
                        live.slots.resize(at + 1, Slot::default());
                        seen.resize(at + 1, false);
                    }
                    if let (Some(slot), Some(seen)) = (live.slots.get_mut(at), seen.get_mut(at)) {
                        slot.parent = parent;
                        slot.inode = inode;
                        *seen = true;
                    }
                    if let Some(directory) = directory {
                        changed.push(number);
                        fresh.insert(number, directory);
                    }
                }
                Found::List {
                    spot,
                    index,
                    list,
                    torn,
                } => lists.entry(spot).or_default().push((index, list, torn)),
                Found::Deferred(file) => deferred.push(file),
                Found::Alias { spot, of, same } => aliases.push((spot, of, same)),
            }
        }
        for ((number, index), mut lists) in lists {
            lists.sort_by_key(|(index, _, _)| *index);
            let torn = lists.iter().any(|(_, _, torn)| *torn);
            let ids: Vec<Id> = lists.iter().map(|(_, list, _)| *list).collect();
            let content = content_of(self.objects, encoder, &ids)?;
            if let Some(entry) = entry_at(&mut fresh, (number, index)) {
                entry.content = content;
                entry.marks.doubtful |= torn;
            }
        }
        for (spot, of, same) in aliases {
            let first =
                entry_at(&mut fresh, of).map(|first| (first.stamp, first.content, first.marks));
            let Some(entry) = entry_at(&mut fresh, spot) else {
                continue;
            };
            if let Some((stamp, content, marks)) =
                first.filter(|(stamp, _, _)| stamp.inode == entry.stamp.inode)
            {
                entry.content = content;
                entry.stamp.size = stamp.size;
                entry.marks = marks;
                entry.marks.doubtful |= !same;
            } else {
                // The first name was removed before it was read.
                entry.stamp.size = 0;
                entry.marks.doubtful = true;
            }
        }
        let mut relinked = match self.look.limit {
            Some(_) => limit::relinked(self.previous, &fresh),
            None => HashSet::new(),
        };
        for (number, directory) in fresh {
            let groups = directory.entries.iter().filter(|e| e.stamp.is_group());
            for entry in groups {
                live.number_group(entry.stamp.inode);
            }
            if let Some(slot) = live.slots.get_mut(number as usize) {
                slot.directory = Some(Arc::new(directory));
            }
        }
        if self.look.limit.is_some() {
            relinked.extend(limit::drop_removed(&mut live, self.previous, &changed));
        } else {
            for (slot, seen) in live.slots.iter_mut().zip(seen) {
                if !seen {
                    *slot = Slot::default();
                }
            }
        }
        Ok(Scanned {
            live,
            changed,
            relinked,
            deferred,
        })
    }
}

/// The content that has these lists of blocks.
pub fn content_of(objects: &Objects, encoder: &mut Encoder, lists: &[Id]) -> Result<Id, Error> {
    if let [only] = lists {
        return Ok(*only);
    }
    let ids: Vec<u8> = lists.iter().flat_map(|id| *id.as_bytes()).collect();
    objects.put(encoder, &ids)
}

fn entry_at(fresh: &mut HashMap<u32, Directory>, (number, index): Spot) -> Option<&mut Entry> {
    fresh.get_mut(&number)?.entries.get_mut(index)
}
