//! From a checkpoint to an archive.

use std::collections::HashMap;
use std::io::{self, Write};

use tar::{Builder, EntryType, Header};

use super::super::apply;
use super::super::id::Id;
use super::super::node::{self, Kind};
use super::super::objects::{Decoder, Objects};
use super::super::plan;
use super::content::Reader;
use super::{ABOUT, ATTRIBUTE, About, COMPONENTS, NAME, TREE, VERSION};
use crate::checkpoint::driver::Error;
use crate::checkpoint::manifest::Manifest;

/// The level of compression: what it wins above that costs more than sending it.
const LEVEL: i32 = 3;

/// Writes a checkpoint as an archive.
pub fn export(objects: &Objects, manifest: &Manifest, to: &mut dyn Write) -> Result<(), Error> {
    let written = write_all(objects, manifest, to);
    written.map_err(|error| match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::Unusable(format!("cannot write the archive: {error}")),
    })
}

fn write_all(objects: &Objects, manifest: &Manifest, to: &mut dyn Write) -> io::Result<()> {
    let zstd = zstd::stream::write::Encoder::new(to, LEVEL)?;
    let mut archive = Archive {
        tar: Builder::new(zstd),
        objects,
        decoder: Decoder::default(),
        first_names: HashMap::new(),
    };
    archive.about(manifest)?;
    archive.tree(TREE, manifest.root)?;
    if let Some(components) = manifest.components {
        archive.tree(COMPONENTS, components)?;
    }
    archive.tar.into_inner()?.finish()?.flush()
}

struct Archive<'a, W: Write> {
    tar: Builder<W>,
    objects: &'a Objects,
    decoder: Decoder,
    /// The path of the first name of each file with several.
    first_names: HashMap<u64, Vec<u8>>,
}

impl<W: Write> Archive<'_, W> {
    fn about(&mut self, manifest: &Manifest) -> io::Result<()> {
        let about = serde_json::to_vec_pretty(&About {
            sprite_checkpoint: VERSION,
            id: manifest.id.clone(),
            create_time: manifest.create_time.clone(),
            comment: manifest.comment.clone(),
            skipped: manifest.skipped.clone(),
        })?;
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(about.len() as u64);
        self.append(&mut header, ABOUT.as_bytes(), about.as_slice())
    }

    /// Everything that is reached from `root`, below `name`.
    fn tree(&mut self, name: &str, root: Id) -> io::Result<()> {
        // Numbers of files are those of one tree.
        self.first_names.clear();
        // Each directory is followed by what is in it, and only then by others: programs
        // that unpack give it its times when they have left it.
        let mut left = vec![(name.as_bytes().to_vec(), self.get(root)?)];
        while let Some((path, node)) = left.pop() {
            let (entry, directory) = apply::root_of(&node, root).map_err(io::Error::other)?;
            self.entry(&path, &entry)?;
            if directory == Id::HOLE {
                continue;
            }
            let node = self.get(directory)?;
            let entries = plan::decode(&node, &directory).map_err(io::Error::other)?;
            for entry in entries {
                let path = [&path, entry.name].join(&b'/');
                if matches!(entry.kind, Kind::Directory { .. }) {
                    let alone = node::encode(&[entry]).map_err(io::Error::other)?;
                    left.push((path, alone));
                } else {
                    self.entry(&path, &entry)?;
                }
            }
        }
        Ok(())
    }

    fn get(&mut self, id: Id) -> io::Result<Vec<u8>> {
        let bytes = self.objects.get(&mut self.decoder, &id);
        Ok(bytes.map_err(io::Error::other)?.to_vec())
    }

    fn entry(&mut self, path: &[u8], entry: &node::Entry) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_mode(entry.mode);
        header.set_uid(entry.uid.into());
        header.set_gid(entry.gid.into());
        header.set_size(0);
        let modified = entry.modified;
        header.set_mtime(u64::try_from(modified.seconds).unwrap_or(0));
        let mut link: &[u8] = &[];
        let first;
        match entry.kind {
            Kind::File {
                group: Some(group), ..
            } if self.first_names.contains_key(&group) => {
                header.set_entry_type(EntryType::Link);
                first = self.first_names.get(&group).cloned().unwrap_or_default();
                link = &first;
            }
            Kind::File { size, group, .. } => {
                header.set_entry_type(EntryType::Regular);
                header.set_size(size);
                if let Some(group) = group {
                    self.first_names.insert(group, path.to_vec());
                }
            }
            Kind::Directory { .. } => header.set_entry_type(EntryType::Directory),
            Kind::Link(to) => {
                header.set_entry_type(EntryType::Symlink);
                link = to;
            }
            Kind::Fifo => header.set_entry_type(EntryType::Fifo),
            Kind::Character(device) | Kind::Block(device) => {
                let is_block = matches!(entry.kind, Kind::Block(_));
                header.set_entry_type(if is_block {
                    EntryType::Block
                } else {
                    EntryType::Char
                });
                header.set_device_major(rustix::fs::major(device))?;
                header.set_device_minor(rustix::fs::minor(device))?;
            }
            Kind::Unreadable => return Ok(()),
        }
        self.extensions(entry)?;
        if header.entry_type() == EntryType::Regular
            && let Kind::File { size, content, .. } = entry.kind
        {
            let reader = Reader::new(self.objects, size, content).map_err(io::Error::other)?;
            return self.append(&mut header, path, reader);
        }
        self.long_name(EntryType::GNULongLink, link)?;
        set_bytes(&mut header.as_old_mut().linkname, link);
        self.append(&mut header, path, io::empty())
    }

    /// What the header of an entry has no room for.
    fn extensions(&mut self, entry: &node::Entry) -> io::Result<()> {
        let modified = entry.modified;
        let mut records: Vec<(String, &[u8])> = Vec::new();
        let time = decimal(modified.seconds, modified.nanoseconds);
        if modified.nanoseconds != 0 || modified.seconds < 0 {
            records.push(("mtime".to_owned(), time.as_bytes()));
        }
        for attribute in &entry.attributes {
            let name = String::from_utf8_lossy(&attribute.name);
            records.push((format!("{ATTRIBUTE}{name}"), &attribute.value));
        }
        let records = records.iter().map(|(key, value)| (key.as_str(), *value));
        self.tar.append_pax_extensions(records)
    }

    fn append(&mut self, header: &mut Header, path: &[u8], data: impl io::Read) -> io::Result<()> {
        self.long_name(EntryType::GNULongName, path)?;
        set_bytes(&mut header.as_old_mut().name, path);
        header.set_cksum();
        self.tar.append(header, data)
    }

    /// The entry before the true one, with a name that is too long for it.
    fn long_name(&mut self, kind: EntryType, name: &[u8]) -> io::Result<()> {
        if name.len() <= NAME {
            return Ok(());
        }
        let mut header = Header::new_gnu();
        set_bytes(&mut header.as_old_mut().name, b"././@LongLink");
        header.set_mode(0o644);
        header.set_entry_type(kind);
        // With a NUL behind it.
        header.set_size(name.len() as u64 + 1);
        header.set_cksum();
        self.tar.append(&header, [name, b"\0"].concat().as_slice())
    }
}

fn set_bytes(field: &mut [u8; NAME], bytes: &[u8]) {
    field.fill(0);
    for (to, from) in field.iter_mut().zip(bytes) {
        *to = *from;
    }
}

/// A time as pax writes it: seconds since 1970, with a sign and a fraction.
fn decimal(seconds: i64, nanoseconds: u32) -> String {
    if seconds < 0 && nanoseconds > 0 {
        // -0.25 s is 750,000,000 ns after second -1.
        let (whole, part) = (-(seconds + 1), 1_000_000_000 - nanoseconds);
        return format!("-{whole}.{part:09}");
    }
    format!("{seconds}.{nanoseconds:09}")
}

/// The time that [`decimal`] has written, or another program: none if it is none.
pub fn parse_decimal(text: &str) -> Option<(i64, u32)> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let seconds: i64 = whole.parse().ok()?;
    let part = part.get(..9).unwrap_or(part);
    let nanoseconds: u32 = format!("{part:0<9}").parse().ok()?;
    Some(match (negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive() {
        for (seconds, nanoseconds, text) in [
            (0, 0, "0.000000000"),
            (1, 5, "1.000000005"),
            (-1, 750_000_000, "-0.250000000"),
            (-3, 1, "-2.999999999"),
            (-3, 0, "-3.000000000"),
        ] {
            assert_eq!(decimal(seconds, nanoseconds), text);
            assert_eq!(parse_decimal(text), Some((seconds, nanoseconds)));
        }
        assert_eq!(parse_decimal("17"), Some((17, 0)));
        assert_eq!(parse_decimal("17.25"), Some((17, 250_000_000)));
        assert_eq!(parse_decimal("1.1234567891"), Some((1, 123_456_789)));
        assert_eq!(parse_decimal("soon"), None);
    }
}
