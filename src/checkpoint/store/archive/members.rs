//! The members of a tar archive, one after the other (POSIX.1-2017, pax; GNU's long names).
//!
//! The tar crate reads archives too, but takes a line end in a pax record for the end of the
//! record, and extended attributes may have any bytes. Its headers are used.

use std::collections::HashMap;
use std::io::{self, Read};

use tar::{EntryType, Header};

use super::refuse;

/// The length of a block.
const BLOCK: usize = 512;
/// Where the checksum is in a header.
const CHECKSUM: std::ops::Range<usize> = 148..156;
/// The most that may be said of one member besides its header.
const LONGEST: u64 = 16 << 20;

/// Reads an archive.
pub struct Members<R> {
    from: R,
    /// How many bytes of the last member, its padding included, were not read yet.
    rest: u64,
}

/// A member: its header, and what the entries before it say of it.
pub struct Member {
    pub header: Header,
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub size: u64,
    /// The pax records.
    pub records: HashMap<Vec<u8>, Vec<u8>>,
}

impl<R: Read> Members<R> {
    pub fn new(from: R) -> Self {
        Self { from, rest: 0 }
    }

    /// The next member; none behind the last. What was not read of the one before is left
    /// out.
    pub fn next(&mut self) -> io::Result<Option<Member>> {
        let mut records: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
        let (mut path, mut link) = (None, None);
        while let Some(header) = self.header()? {
            let length = header.entry_size()?;
            self.rest = length.next_multiple_of(BLOCK as u64);
            match header.entry_type() {
                EntryType::XHeader => records = parse_records(&self.text(length)?)?,
                EntryType::GNULongName => path = Some(self.text(length)?),
                EntryType::GNULongLink => link = Some(self.text(length)?),
                // It is of the archive, not of what is in it.
                EntryType::XGlobalHeader => {
                    self.text(length)?;
                }
                _ => {
                    let is = |key: &str| records.get(key.as_bytes()).cloned();
                    let size = is("size").map_or(Ok(length), |size| number(&size))?;
                    self.rest = size.next_multiple_of(BLOCK as u64);
                    let short = || header.path_bytes().into_owned();
                    let path = is("path").or(path).unwrap_or_else(short);
                    let short = || header.link_name_bytes().unwrap_or_default().into_owned();
                    let link = is("linkpath").or(link).unwrap_or_else(short);
                    return Ok(Some(Member {
                        path: until_nul(path),
                        link: until_nul(link),
                        size,
                        records,
                        header,
                    }));
                }
            }
        }
        Ok(None)
    }

    /// The next header; none at the end.
    fn header(&mut self) -> io::Result<Option<Header>> {
        let rest = std::mem::take(&mut self.rest);
        let skipped = io::copy(&mut (&mut self.from).take(rest), &mut io::sink())?;
        if skipped < rest {
            return Err(cut());
        }
        let mut block = Vec::with_capacity(BLOCK);
        (&mut self.from)
            .take(BLOCK as u64)
            .read_to_end(&mut block)?;
        if block.is_empty() {
            // Some programs leave out the blocks of zeros at the end.
            return Ok(None);
        }
        let mut header = Header::new_old();
        let whole = block.try_into().map_err(|_| cut())?;
        *header.as_mut_bytes() = whole;
        let bytes = header.as_bytes();
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum = bytes.iter().enumerate().map(|(at, byte)| {
            // It is counted as if it were blank.
            u32::from(if CHECKSUM.contains(&at) { b' ' } else { *byte })
        });
        if header.cksum().ok() != Some(sum.sum()) {
            return Err(refuse("it is no tar, nor tar compressed with zstd"));
        }
        Ok(Some(header))
    }

    /// All of a member that tells of the next.
    fn text(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > LONGEST {
            return Err(refuse(format!(
                "what it says of one file is longer than {LONGEST} bytes"
            )));
        }
        let mut text = Vec::new();
        self.data(size).read_to_end(&mut text)?;
        if (text.len() as u64) < size {
            return Err(cut());
        }
        Ok(text)
    }

    /// What is in the member that came last, of this size.
    pub fn data(&mut self, size: u64) -> impl Read {
        Data {
            left: size,
            members: self,
        }
    }
}

/// The bytes of a member.
struct Data<'a, R> {
    left: u64,
    members: &'a mut Members<R>,
}

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let length = buffer.len().min(most);
        let read = self
            .members
            .from
            .read(buffer.get_mut(..length).unwrap_or_default())?;
        self.left -= read as u64;
        self.members.rest -= read as u64;
        Ok(read)
    }
}

fn cut() -> io::Error {
    refuse("it is cut off, or no tar")
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0);
    bytes.truncate(end.unwrap_or(bytes.len()));
    bytes
}

fn number(digits: &[u8]) -> io::Result<u64> {
    let number = std::str::from_utf8(digits)
        .ok()
        .and_then(|it| it.parse().ok());
    number.ok_or_else(|| refuse("a size or owner in it is no number"))
}

impl Member {
    /// The value of a pax record that is a number, or what the header says.
    pub fn number(&self, key: &str, header: io::Result<u64>) -> io::Result<u64> {
        match self.records.get(key.as_bytes()) {
            Some(digits) => number(digits),
            None => header,
        }
    }
}

/// The records `LENGTH KEY=VALUE\n`, of which LENGTH counts all.
fn parse_records(mut text: &[u8]) -> io::Result<HashMap<Vec<u8>, Vec<u8>>> {
    let mut records = HashMap::new();
    let damaged = || refuse("a pax record in it is damaged");
    while !text.is_empty() {
        let space = text
            .iter()
            .position(|byte| *byte == b' ')
            .ok_or_else(damaged)?;
        let length = text.get(..space).map(number).ok_or_else(damaged)??;
        let length = usize::try_from(length).map_err(|_| damaged())?;
        let record = text.get(space + 1..length).ok_or_else(damaged)?;
        let record = record.strip_suffix(b"\n").ok_or_else(damaged)?;
        let equals = record
            .iter()
            .position(|byte| *byte == b'=')
            .ok_or_else(damaged)?;
        let (key, value) = record.split_at(equals);
        records.insert(key.to_vec(), value.get(1..).unwrap_or_default().to_vec());
        text = text.get(length..).unwrap_or_default();
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_may_have_any_bytes() {
        let text = b"21 mtime=12.5\n2 =a\nb\n11 path=\xffx\n";
        let records = parse_records(text).unwrap();
        assert_eq!(records[b"mtime".as_slice()], b"12.5\n2 =a\nb");
        assert_eq!(records[b"path".as_slice()], b"\xffx");
        for damaged in [
            &b"x"[..],
            b"9 a=b\n",
            b"6 a=bc",
            b"5 ab\n",
            b"99999999999999999999999 a=b\n",
            b"2 ",
        ] {
            assert!(parse_records(damaged).is_err(), "{damaged:?}");
        }
    }
}
