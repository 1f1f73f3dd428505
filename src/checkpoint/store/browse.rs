//! Looking into a checkpoint without restoring it.

use std::ops::ControlFlow;

use jiff::Timestamp;

use super::apply;
use super::diff;
use super::id::Id;
use super::node::{self, BLOCK, BLOCKS, Kind};
use super::objects::{Decoder, Objects};
use super::{plan, scan};
use crate::checkpoint::driver::{Change, Content, Difference, Error, FileContent, Listed, Look};

/// What is at `path` in the tree with this root. Symbolic links are not followed.
pub fn look(objects: &Objects, root: Id, path: &str) -> Result<Look, Error> {
    let mut decoder = Decoder::default();
    let unknown = || Error::NoEntry(path.to_owned());
    let bytes = objects.get(&mut decoder, &root)?.to_vec();
    let (entry, mut directory) = apply::root_of(&bytes, root)?;
    let mut names: Vec<&str> = path
        .split('/')
        .filter(|name| !matches!(*name, "" | "."))
        .collect();
    if names.contains(&"..") {
        return Err(unknown());
    }
    let Some(last) = names.pop() else {
        return list(objects, &mut decoder, &entry, directory);
    };
    for name in names {
        let node = objects.get(&mut decoder, &directory)?.to_vec();
        let found =
            find(&plan::decode(&node, &directory)?, name).map(|entry| entry.kind.into_directory());
        directory = found.flatten().ok_or_else(unknown)?;
    }
    let node = objects.get(&mut decoder, &directory)?.to_vec();
    let entries = plan::decode(&node, &directory)?;
    let entry = find(&entries, last).ok_or_else(unknown)?;
    match entry.kind {
        Kind::Directory { node } => list(objects, &mut decoder, entry, node),
        Kind::File { size, content, .. } => {
            let content = Content::Stored(content);
            Ok(Look::File(listed(entry), FileContent { size, content }))
        }
        _ => Ok(Look::Other(listed(entry))),
    }
}

fn find<'a, 'b>(entries: &'a [node::Entry<'b>], name: &str) -> Option<&'a node::Entry<'b>> {
    let found = entries.binary_search_by(|entry| entry.name.cmp(name.as_bytes()));
    entries.get(found.ok()?)
}

fn list(
    objects: &Objects,
    decoder: &mut Decoder,
    own: &node::Entry,
    node: Id,
) -> Result<Look, Error> {
    if node == Id::HOLE {
        return Ok(Look::Directory(listed(own), Vec::new()));
    }
    let bytes = objects.get(decoder, &node)?.to_vec();
    let entries = plan::decode(&bytes, &node)?;
    Ok(Look::Directory(
        listed(own),
        entries.iter().map(listed).collect(),
    ))
}

fn listed(entry: &node::Entry) -> Listed {
    let (kind, size, target) = match entry.kind {
        Kind::File { size, .. } => ("file", size, None),
        Kind::Directory { .. } => ("directory", 0, None),
        Kind::Link(to) => ("symlink", 0, Some(String::from_utf8_lossy(to).into_owned())),
        _ => ("other", 0, None),
    };
    let modified = entry.modified;
    let nanoseconds = i32::try_from(modified.nanoseconds).unwrap_or_default();
    let time = Timestamp::new(modified.seconds, nanoseconds);
    Listed {
        name: String::from_utf8_lossy(entry.name).into_owned(),
        kind,
        size,
        mode: format!("{:04o}", entry.mode),
        uid: entry.uid,
        gid: entry.gid,
        mod_time: time.map(|time| time.to_string()).unwrap_or_default(),
        target,
    }
}

/// The bytes of a file from `offset` on, at most one block; empty at its end.
pub fn read(objects: &Objects, file: &FileContent, offset: u64) -> Result<Vec<u8>, Error> {
    let mut decoder = Decoder::default();
    let FileContent { size, content } = file.clone();
    let Content::Stored(content) = content else {
        let why = "the file is not of a checkpoint of the store";
        return Err(Error::Unusable(why.to_owned()));
    };
    if offset >= size {
        return Ok(Vec::new());
    }
    let block = offset / BLOCK as u64;
    let id = block_of(objects, &mut decoder, size, content, block)?;
    let length = usize::try_from(size - block * BLOCK as u64)
        .unwrap_or(BLOCK)
        .min(BLOCK);
    let bytes = if id == Id::HOLE {
        vec![0; length]
    } else {
        objects.get(&mut decoder, &id)?.to_vec()
    };
    let skip = usize::try_from(offset - block * BLOCK as u64).unwrap_or(BLOCK);
    Ok(bytes.get(skip..).unwrap_or_default().to_vec())
}

/// The id of a block of a file.
fn block_of(
    objects: &Objects,
    decoder: &mut Decoder,
    size: u64,
    content: Id,
    block: u64,
) -> Result<Id, Error> {
    if size <= BLOCK as u64 {
        return Ok(content);
    }
    let at = |ids: Vec<Id>, number: u64, list: Id| {
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        let short = || Error::Unusable(format!("the list {list} is too short for its file"));
        ids.get(number).copied().ok_or_else(short)
    };
    let mut list = content;
    if scan::lists(size) > 1 {
        let lists = plan::ids(objects.get(decoder, &content)?, content)?;
        list = at(lists, block / BLOCKS as u64, content)?;
    }
    let blocks = plan::ids(objects.get(decoder, &list)?, list)?;
    at(blocks, block % BLOCKS as u64, list)
}

/// What differs between two trees; at most `most` things, and whether there are more.
pub fn differences(
    objects: &Objects,
    old: Id,
    new: Id,
    most: usize,
) -> Result<(Vec<Difference>, bool), Error> {
    let mut found = Vec::new();
    let mut more = false;
    diff::diff(objects, old, new, &mut |path, old, new| {
        if found.len() == most {
            more = true;
            return ControlFlow::Break(());
        }
        found.push(difference(path, old, new));
        ControlFlow::Continue(())
    })?;
    Ok((found, more))
}

fn difference(path: &[u8], old: Option<&node::Entry>, new: Option<&node::Entry>) -> Difference {
    let change = match (old, new) {
        (None, _) => Change::Added,
        (_, None) => Change::Removed,
        (Some(old), Some(new)) => match (old.kind, new.kind) {
            (Kind::Directory { .. }, Kind::Directory { .. }) => Change::Metadata,
            (
                Kind::File { size, content, .. },
                Kind::File {
                    size: new_size,
                    content: new_content,
                    ..
                },
            ) if (size, content) == (new_size, new_content) => Change::Metadata,
            (old, new) if old == new => Change::Metadata,
            _ => Change::Modified,
        },
    };
    let path = String::from_utf8_lossy(path);
    let path = if path.is_empty() { ".".into() } else { path };
    let size = |entry: Option<&node::Entry>| match entry.map(|entry| entry.kind) {
        Some(Kind::File { size, .. }) => Some(size),
        _ => None,
    };
    Difference {
        path: path.into_owned(),
        change,
        kind: new.or(old).map_or("other", |entry| listed(entry).kind),
        old_size: size(old),
        size: size(new),
    }
}
