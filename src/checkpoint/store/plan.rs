//! What a restore has to touch: the directories in which the live tree and the target
//! differ, and how the names of each file with several names come together again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::CStr;
use std::ops::Range;

use super::super::driver::Error;
use super::id::Id;
use super::live::{self, Directory, Live};
use super::node::{self, Kind};
use super::objects::{Decoder, Objects};

/// A directory in which something differs.
#[derive(Debug)]
pub struct Visit {
    /// Its name in the directory above it; empty for the root.
    pub name: Vec<u8>,
    /// Its node in the target.
    pub node: Vec<u8>,
    /// Its number in the live tree; none if it is to be made.
    pub live: Option<u32>,
    /// The visited directories in it, by their indices.
    pub children: Range<usize>,
}

/// Where one of the names of a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spot {
    /// In a directory that is visited, by its index and the name.
    Visited(usize, Vec<u8>),
    /// In a directory of the live tree that stays as it is, by its number.
    Kept(u32, Vec<u8>),
}

/// What is to be done.
#[derive(Debug, Default)]
pub struct Plan {
    /// The directories, each behind the one that it is in.
    pub visits: Vec<Visit>,
    /// For each file with several names, by its number: the name that the others are
    /// links to.
    pub anchors: HashMap<u64, Spot>,
}

impl Plan {
    /// The visits that are equally deep, the root's first: none of them is in another.
    #[must_use]
    pub fn levels(&self) -> Vec<Range<usize>> {
        let mut levels = Vec::new();
        let mut level = 0..self.visits.len().min(1);
        while let Some(last) = self.visits.get(level.clone()).and_then(<[Visit]>::last) {
            let next = level.end..last.children.end;
            levels.push(level);
            level = next;
        }
        levels
    }
}

/// Makes plans.
#[derive(Debug)]
pub struct Planner<'a> {
    objects: &'a Objects,
    live: &'a Live,
    decoder: Decoder,
    plan: Plan,
    /// The directories of the live tree that stay as they are, with all below them.
    kept: Vec<u32>,
    /// For each number in a visited directory: a name that has it in both trees, or else
    /// the first that has it in the target.
    candidates: BTreeMap<u64, (bool, Spot)>,
}

/// The decoded entries of `node`, the object `id`.
pub fn decode<'a>(
    node: &'a [u8],
    what: &dyn std::fmt::Display,
) -> Result<Vec<node::Entry<'a>>, Error> {
    node::decode(node)
        .map_err(|error| Error::Unusable(format!("the node {what} is damaged: {error}")))
}

/// The ids in a list.
pub fn ids(list: &[u8], id: Id) -> Result<Vec<Id>, Error> {
    let (ids, rest) = list.as_chunks::<{ Id::LENGTH }>();
    if rest.is_empty() {
        Ok(ids.iter().map(|bytes| Id::from_bytes(*bytes)).collect())
    } else {
        Err(Error::Unusable(format!("the list {id} ends in half an id")))
    }
}

/// The live entry `name` of a directory; a directory and an entry that is gone have none.
pub fn known<'a>(directory: Option<&'a Directory>, name: &[u8]) -> Option<&'a live::Entry> {
    let directory = directory?;
    let by_name = |entry: &live::Entry| directory.name(entry).to_bytes().cmp(name);
    let index = directory.entries.binary_search_by(by_name).ok()?;
    directory.entries.get(index)
}

impl<'a> Planner<'a> {
    /// Plans how `live` becomes the tree whose root has the node `target`.
    pub fn plan(objects: &'a Objects, live: &'a Live, target: Id) -> Result<Plan, Error> {
        let mut planner = Self {
            objects,
            live,
            decoder: Decoder::default(),
            plan: Plan::default(),
            kept: Vec::new(),
            candidates: BTreeMap::new(),
        };
        let root = live.directory(0).map(|_| 0);
        if root.is_some() && live.node(0) == target {
            return Ok(planner.plan);
        }
        planner.add(Vec::new(), target, root)?;
        let mut next = 0;
        while next < planner.plan.visits.len() {
            planner.visit(next)?;
            next += 1;
        }
        planner.settle_anchors();
        Ok(planner.plan)
    }

    fn add(&mut self, name: Vec<u8>, id: Id, live: Option<u32>) -> Result<(), Error> {
        let node = if id == Id::HOLE {
            // Something was mounted there: the directory itself is empty.
            node::encode(&[]).unwrap_or_default()
        } else {
            self.objects.get(&mut self.decoder, &id)?.to_vec()
        };
        self.plan.visits.push(Visit {
            name,
            node,
            live,
            children: 0..0,
        });
        Ok(())
    }

    fn visit(&mut self, index: usize) -> Result<(), Error> {
        let Some(visit) = self.plan.visits.get_mut(index) else {
            return Ok(());
        };
        // Given back below: meanwhile others are added.
        let node = std::mem::take(&mut visit.node);
        let live = visit.live;
        let first = self.plan.visits.len();
        let directory = live.and_then(|number| self.live.directory(number)).cloned();
        for entry in decode(&node, &Id::of(&node))? {
            let known = known(directory.as_deref(), entry.name);
            match entry.kind {
                Kind::Directory { node } => {
                    if known.is_some_and(|known| known.marks.mounted) {
                        continue;
                    }
                    let number = known
                        .filter(|known| known.is_directory())
                        .map(|known| known.directory);
                    match number {
                        Some(number) if self.live.node(number) == node && node != Id::HOLE => {
                            self.kept.push(number);
                        }
                        _ => self.add(entry.name.to_vec(), node, number)?,
                    }
                }
                Kind::File {
                    group: Some(group), ..
                } => {
                    let keeps = known.is_some_and(|known| self.group(known) == Some(group));
                    let spot = || Spot::Visited(index, entry.name.to_vec());
                    let candidate = self.candidates.entry(group);
                    let candidate = candidate.or_insert_with(|| (keeps, spot()));
                    if keeps && !candidate.0 {
                        *candidate = (true, spot());
                    }
                }
                _ => {}
            }
        }
        let children = first..self.plan.visits.len();
        if let Some(visit) = self.plan.visits.get_mut(index) {
            visit.node = node;
            visit.children = children;
        }
        Ok(())
    }

    fn group(&self, entry: &live::Entry) -> Option<u64> {
        group(self.live, entry)
    }

    /// Decides which name the others of each file are links to: one that stays as it is,
    /// or one that has it in both trees, or one that is made.
    fn settle_anchors(&mut self) {
        let missing: HashSet<u64> = {
            let candidates = self.candidates.iter();
            let missing = candidates.filter(|(_, (keeps, _))| !keeps);
            missing.map(|(group, _)| *group).collect()
        };
        if !missing.is_empty() {
            self.look_in_kept(&missing);
        }
        let candidates = std::mem::take(&mut self.candidates);
        for (group, (_, spot)) in candidates {
            self.plan.anchors.insert(group, spot);
        }
    }

    fn look_in_kept(&mut self, missing: &HashSet<u64>) {
        let mut left = std::mem::take(&mut self.kept);
        while let Some(number) = left.pop() {
            let Some(directory) = self.live.directory(number) else {
                continue;
            };
            for (name, entry) in directory.named() {
                if entry.is_directory() {
                    left.push(entry.directory);
                }
                let Some(group) = self.group(entry).filter(|group| missing.contains(group)) else {
                    continue;
                };
                let kept = Spot::Kept(number, name.to_vec());
                self.candidates.insert(group, (true, kept));
            }
        }
    }
}

/// The number of a live file with several names.
pub fn group(live: &Live, entry: &live::Entry) -> Option<u64> {
    if !entry.stamp.is_group() {
        return None;
    }
    live.groups.get(&entry.stamp.inode).copied()
}

/// A name for the kernel. Nothing that leads to another directory is one.
pub fn c_name<'a>(name: &[u8], buffer: &'a mut Vec<u8>) -> Result<&'a CStr, Error> {
    buffer.clear();
    buffer.extend_from_slice(name);
    buffer.push(0);
    match CStr::from_bytes_with_nul(buffer) {
        Ok(found) if !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/') => Ok(found),
        _ => Err(Error::Unusable(format!(
            "a node has the entry \"{}\", which cannot be the name of a file",
            String::from_utf8_lossy(name)
        ))),
    }
}
