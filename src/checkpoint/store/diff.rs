//! What differs between two trees. Directories that are the same are not looked into.

use std::ops::ControlFlow;

use super::super::driver::Error;
use super::apply;
use super::id::Id;
use super::node::{self, Kind};
use super::objects::{Decoder, Objects};
use super::plan;

/// Told of each path at which the trees differ, with the entries there, if there are any.
/// What is below a directory that only one tree has is told too.
pub type Tell<'a> =
    dyn FnMut(&[u8], Option<&node::Entry>, Option<&node::Entry>) -> ControlFlow<()> + 'a;

/// Tells what differs between the trees with the roots `old` and `new`.
pub fn diff(objects: &Objects, old: Id, new: Id, tell: &mut Tell) -> Result<(), Error> {
    if old == new {
        return Ok(());
    }
    let mut decoder = Decoder::default();
    let old = objects.get(&mut decoder, &old)?.to_vec();
    let new = objects.get(&mut decoder, &new)?.to_vec();
    let (old, old_node) = apply::root_of(&old, Id::of(&old))?;
    let (new, new_node) = apply::root_of(&new, Id::of(&new))?;
    if !same_looks(&old, &new) && tell(b"", Some(&old), Some(&new)).is_break() {
        return Ok(());
    }
    let mut left = vec![(Vec::new(), old_node, new_node)];
    while let Some((path, old, new)) = left.pop() {
        if old == new {
            continue;
        }
        let bytes = [
            node(objects, &mut decoder, old)?,
            node(objects, &mut decoder, new)?,
        ];
        let [old_entries, new_entries] = &bytes;
        let old_entries = plan::decode(old_entries, &old)?;
        let new_entries = plan::decode(new_entries, &new)?;
        let mut below = Vec::new();
        for (old, new) in merge(&old_entries, &new_entries) {
            let Some(name) = old.or(new).map(|entry| entry.name) else {
                continue;
            };
            let mut path = path.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            let nodes = (directory(old), directory(new));
            let same = match (old, new) {
                (Some(old), Some(new)) => same_looks(old, new),
                _ => false,
            };
            if !same && tell(&path, old, new).is_break() {
                return Ok(());
            }
            if nodes.0 != nodes.1 {
                below.push((path, nodes.0, nodes.1));
            }
        }
        // In the order of the names.
        left.extend(below.into_iter().rev());
    }
    Ok(())
}

/// The entries of two directories side by side, in the order of their names.
fn merge<'a, 'b>(
    old: &'a [node::Entry<'b>],
    new: &'a [node::Entry<'b>],
) -> impl Iterator<Item = (Option<&'a node::Entry<'b>>, Option<&'a node::Entry<'b>>)> {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return None,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(old), Some(new)) => old.name.cmp(new.name),
        };
        Some(match order {
            std::cmp::Ordering::Less => (old.next(), None),
            std::cmp::Ordering::Equal => (old.next(), new.next()),
            std::cmp::Ordering::Greater => (None, new.next()),
        })
    })
}

/// The node of a directory; [`Id::HOLE`] for anything else.
fn directory(entry: Option<&node::Entry>) -> Id {
    match entry.map(|entry| entry.kind) {
        Some(Kind::Directory { node }) => node,
        _ => Id::HOLE,
    }
}

fn node(objects: &Objects, decoder: &mut Decoder, id: Id) -> Result<Vec<u8>, Error> {
    if id == Id::HOLE {
        return Ok(node::encode(&[]).unwrap_or_default());
    }
    Ok(objects.get(decoder, &id)?.to_vec())
}

/// Whether two entries are the same, apart from what is in them if they are directories.
fn same_looks(old: &node::Entry, new: &node::Entry) -> bool {
    let same_kind = match (old.kind, new.kind) {
        (Kind::Directory { .. }, Kind::Directory { .. }) => true,
        (old, new) => old == new,
    };
    (old.mode, old.uid, old.gid, old.modified) == (new.mode, new.uid, new.gid, new.modified)
        && old.attributes == new.attributes
        && same_kind
}
