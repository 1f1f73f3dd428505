//! From an archive to objects. Nothing of it is laid out on disk, so no privileges are
//! needed, and no path in it can lead anywhere.

use std::io::{self, BufReader, Read, Seek as _};

use rustix::fs::makedev;
use tar::EntryType;

use super::super::id::Id;
use super::super::node::{Attribute, Time};
use super::super::objects::{Encoder, Objects};
use super::export::parse_decimal;
use super::members::{Member, Members};
use super::tree::{Item, ItemKind, Tree};
use super::{ABOUT, ATTRIBUTE, About, COMPONENTS, TREE, VERSION, content, refuse};
use crate::checkpoint::driver::Error;

/// What a file compressed with zstd begins with (RFC 8878, 3.1.1).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The longest description of a checkpoint.
const LONGEST: u64 = 16 << 20;

/// What an archive comes to.
#[derive(Debug)]
pub struct Imported {
    /// What it says of itself; none if it is no archive of ours.
    pub about: Option<About>,
    /// The root of the environment's tree.
    pub root: Id,
    /// The root of what components kept, if there is anything.
    pub components: Option<Id>,
    /// How many entries the tree has, and how many bytes its files have.
    pub entries: u64,
    /// See `entries`.
    pub bytes: u64,
}

/// Takes in the archive in `file`: one of ours, or any other, which is then the
/// environment's tree.
pub fn import(
    objects: &Objects,
    encoder: &mut Encoder,
    mut file: std::fs::File,
) -> Result<Imported, Error> {
    let mut magic = [0; ZSTD.len()];
    // Whoever wrote it is at its end.
    let read = file.rewind().and_then(|()| {
        let compressed = file.read_exact(&mut magic).is_ok() && magic == ZSTD;
        file.rewind()?;
        let file = BufReader::with_capacity(1 << 18, file);
        if compressed {
            let zstd = zstd::stream::read::Decoder::with_buffer(file)?;
            read_all(objects, encoder, zstd)
        } else {
            read_all(objects, encoder, file)
        }
    });
    read.map_err(|error| match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::Archive(format!("it cannot be read: {error}")),
    })
}

fn read_all(objects: &Objects, encoder: &mut Encoder, archive: impl Read) -> io::Result<Imported> {
    let mut members = Members::new(archive);
    let (mut tree, mut components) = (Tree::default(), Tree::default());
    let mut about = None;
    let mut any = false;
    while let Some(member) = members.next()? {
        if !any && member.path == ABOUT.as_bytes() {
            any = true;
            about = Some(read_about(members.data(member.size))?);
            continue;
        }
        any = true;
        let names = names(&member.path)?;
        let (tree, below) = match (&about, names.first()) {
            (None, _) => (&mut tree, 0),
            (Some(_), Some(first)) if *first == TREE.as_bytes() => (&mut tree, 1),
            (Some(_), Some(first)) if *first == COMPONENTS.as_bytes() => (&mut components, 1),
            (Some(_), _) => {
                let path = String::from_utf8_lossy(&member.path);
                return Err(refuse(format!(
                    "it has a {ABOUT}, so nothing but {TREE} and {COMPONENTS} can be in it: {path}"
                )));
            }
        };
        let names = names.get(below..).unwrap_or_default();
        let added = if member.header.entry_type() == EntryType::Link {
            let target = self::names(&member.link)?;
            tree.link(names, target.get(below..).unwrap_or_default())
        } else {
            let kind = kind(objects, encoder, &member, &mut members)?;
            tree.insert(names, item(&member, kind)?)
        };
        added.map_err(|why| refuse(format!("{}: {why}", String::from_utf8_lossy(&member.path))))?;
    }
    if !any {
        return Err(refuse("it is empty"));
    }
    let store = |tree: &Tree, encoder: &mut Encoder| tree.store(objects, encoder);
    let (entries, bytes) = tree.count();
    Ok(Imported {
        about,
        root: store(&tree, encoder).map_err(io::Error::other)?,
        components: if components.is_empty() {
            None
        } else {
            Some(store(&components, encoder).map_err(io::Error::other)?)
        },
        entries,
        bytes,
    })
}

fn read_about(text: impl Read) -> io::Result<About> {
    let about: About = serde_json::from_reader(text.take(LONGEST)).map_err(|error| {
        refuse(format!(
            "it begins with a {ABOUT}, but not with one that tells of a checkpoint: {error}"
        ))
    })?;
    if about.sprite_checkpoint > VERSION {
        return Err(refuse(format!(
            "its layout is version {}, and this program reads up to {VERSION}: import it with a \
             newer one",
            about.sprite_checkpoint
        )));
    }
    Ok(about)
}

/// The names that a path consists of.
fn names(path: &[u8]) -> io::Result<Vec<&[u8]>> {
    let names = path.split(|byte| *byte == b'/');
    let names: Vec<_> = names.filter(|name| !matches!(*name, b"" | b".")).collect();
    if names.contains(&b"..".as_slice()) {
        let path = String::from_utf8_lossy(path);
        return Err(refuse(format!("{path}: no path may have .. in it")));
    }
    Ok(names)
}

/// What a member is; for a file, its content is stored.
fn kind(
    objects: &Objects,
    encoder: &mut Encoder,
    member: &Member,
    members: &mut Members<impl Read>,
) -> io::Result<ItemKind> {
    let (header, size) = (&member.header, member.size);
    let device = || -> io::Result<u64> {
        let major = header.device_major()?.unwrap_or_default();
        Ok(makedev(major, header.device_minor()?.unwrap_or_default()))
    };
    let why = |why| {
        let path = String::from_utf8_lossy(&member.path);
        Err(refuse(format!("{path}: {why}")))
    };
    Ok(match header.entry_type() {
        EntryType::GNUSparse => {
            return why("it is a sparse file; make the archive without --sparse");
        }
        _ if member
            .records
            .keys()
            .any(|key| key.starts_with(b"GNU.sparse.")) =>
        {
            return why("it is a sparse file; make the archive without --sparse");
        }
        // Programs of old ended the names of directories with a slash.
        EntryType::Regular if member.path.ends_with(b"/") => ItemKind::Directory(0),
        EntryType::Regular | EntryType::Continuous => ItemKind::File {
            size,
            content: content::store(objects, encoder, &mut members.data(size), size)?,
            group: None,
        },
        EntryType::Directory => ItemKind::Directory(0),
        EntryType::Symlink if member.link.is_empty() => return why("it is a link to nowhere"),
        EntryType::Symlink => ItemKind::Link(member.link.clone()),
        EntryType::Fifo => ItemKind::Fifo,
        EntryType::Char => ItemKind::Character(device()?),
        EntryType::Block => ItemKind::Block(device()?),
        _ => return why("it is of a kind that is not known"),
    })
}

fn item(member: &Member, kind: ItemKind) -> io::Result<Item> {
    let header = &member.header;
    let narrow = |id: u64| u32::try_from(id).map_err(|_| refuse("an owner has no such number"));
    let time = match member.records.get(b"mtime".as_slice()) {
        Some(text) => std::str::from_utf8(text).ok().and_then(parse_decimal),
        None => i64::try_from(header.mtime()?)
            .ok()
            .map(|seconds| (seconds, 0)),
    };
    let (seconds, nanoseconds) = time.ok_or_else(|| refuse("a time in it is none"))?;
    let attributes = member.records.iter().filter_map(|(key, value)| {
        Some(Attribute {
            name: key.strip_prefix(ATTRIBUTE.as_bytes())?.to_vec(),
            value: value.clone(),
        })
    });
    let mut attributes: Vec<_> = attributes.collect();
    attributes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Item {
        mode: header.mode()? & 0o7777,
        uid: narrow(member.number("uid", header.uid())?)?,
        gid: narrow(member.number("gid", header.gid())?)?,
        modified: Time {
            seconds,
            nanoseconds,
        },
        attributes,
        kind,
    })
}
