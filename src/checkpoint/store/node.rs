//! Nodes: directories as objects. A directory whose content is the same has the same
//! node, in whichever checkpoint.
//!
//! A node is its entries, sorted by name, in postcard's encoding (see its specification
//! of the wire format). A file's content is named by one id: a file of up to
//! [`BLOCK`] bytes is one object, its *chunk*; a longer one is cut into blocks of
//! [`BLOCK`] bytes, each an object or [`Id::HOLE`], and its content is the *list* of their
//! ids, one after the other; a file of more than [`BLOCKS`] blocks has a list of lists,
//! each of which but the last names [`BLOCKS`] blocks. An empty file's content is
//! [`Id::HOLE`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::id::Id;

/// The length of a block.
pub const BLOCK: usize = 64 << 10;
/// How many blocks a list names.
pub const BLOCKS: usize = 1024;

/// A point in time: seconds since 1970 and nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Time {
    /// Seconds since 1970; negative before.
    pub seconds: i64,
    /// Nanoseconds after that second.
    pub nanoseconds: u32,
}

impl Time {
    /// How long after 1970 it is; nothing for what was before.
    #[must_use]
    pub fn since_epoch(self) -> Duration {
        Duration::new(u64::try_from(self.seconds).unwrap_or(0), self.nanoseconds)
    }
}

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// Its name.
    #[serde(with = "serde_bytes")]
    pub name: Vec<u8>,
    /// Its value.
    #[serde(with = "serde_bytes")]
    pub value: Vec<u8>,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<'a> {
    /// Its name.
    #[serde(borrow, with = "serde_bytes")]
    pub name: &'a [u8],
    /// Permissions, set-user-id, set-group-id and sticky bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// When it was modified last.
    pub modified: Time,
    /// Its extended attributes, sorted by name.
    pub attributes: Vec<Attribute>,
    /// What it is.
    #[serde(borrow)]
    pub kind: Kind<'a>,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind<'a> {
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
        /// Its content.
        content: Id,
        /// Names of the same file have the same number, which nothing else in the tree
        /// has; none if it has one name.
        group: Option<u64>,
    },
    /// A directory.
    Directory {
        /// Its node.
        node: Id,
    },
    /// A symbolic link.
    Link(#[serde(with = "serde_bytes")] &'a [u8]),
    /// A FIFO.
    Fifo,
    /// A character device.
    Character(u64),
    /// A block device.
    Block(u64),
    /// Something that could not be read. A restore leaves what is there alone.
    Unreadable,
}

impl Kind<'_> {
    /// The node, if it is a directory.
    #[must_use]
    pub fn into_directory(self) -> Option<Id> {
        match self {
            Self::Directory { node } => Some(node),
            _ => None,
        }
    }
}

/// The node with these entries.
pub fn encode(entries: &[Entry]) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_stdvec(entries)
}

/// The entries of a node.
pub fn decode(node: &[u8]) -> Result<Vec<Entry<'_>>, postcard::Error> {
    let (entries, rest) = postcard::take_from_bytes(node)?;
    if rest.is_empty() {
        Ok(entries)
    } else {
        Err(postcard::Error::DeserializeBadEncoding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_the_documented_bytes() {
        let entry = |name, kind| Entry {
            name,
            mode: 0o644,
            uid: 1,
            gid: 300,
            modified: Time {
                seconds: -1,
                nanoseconds: 5,
            },
            attributes: vec![],
            kind,
        };
        let content = Id::of(b"x");
        let file = Kind::File {
            size: 1,
            content,
            group: Some(2),
        };
        let entries = [entry(b"f", file), entry(b"l", Kind::Link(b"to"))];
        let node = encode(&entries).unwrap();
        let mut expected = vec![2, 1, b'f', 0xa4, 3, 1, 0xac, 2, 1, 5, 0, 0, 1];
        expected.extend_from_slice(content.as_bytes());
        expected.extend_from_slice(&[1, 2]);
        expected.extend_from_slice(&[1, b'l', 0xa4, 3, 1, 0xac, 2, 1, 5, 0, 2, 2, b't', b'o']);
        assert_eq!(node, expected);
        assert_eq!(decode(&node).unwrap(), entries);
        assert!(decode(&node[1..]).is_err() && decode(&[0, 0]).is_err());
    }
}
