//! What is in a directory, or what a file is.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat};
use rustix::io::Errno;
use serde::Serialize;

use super::error::{Error, Result};
use super::place::Files;

/// How many entries one answer may have.
const MOST: usize = 1_000_000;

/// A file, as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub path: String,
    /// `file`, `directory` or `symlink`; `other` for pipes, sockets and devices.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its length in bytes.
    pub size: u64,
    /// Its permissions in octal.
    pub mode: String,
    /// When it was last written to: RFC 3339.
    pub mod_time: String,
    /// Whether it is a directory.
    pub is_dir: bool,
}

impl Files {
    /// The entries of a directory, directories first, then by name; or the one entry that
    /// describes a file. With `pattern`, those whose name matches it.
    pub fn list(&self, path: &Path, recursive: bool, pattern: Option<&str>) -> Result<Vec<Entry>> {
        let what = "list";
        let opened = self.open(what, path, OFlags::PATH)?;
        let text = path.display().to_string();
        let error = |errno| Error::new(what, &text, errno);
        let stat = rustix::fs::fstat(&opened).map_err(error)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(vec![entry(path, &stat)]);
        }
        let mut entries = Vec::new();
        let mut pending = vec![path.to_owned()];
        while let Some(directory) = pending.pop() {
            let children = match self.children(&directory) {
                Ok(children) => children,
                // What goes away meanwhile, or is closed to us, hides no other.
                Err(_) if directory != path => continue,
                Err(error) => return Err(error),
            };
            for (child, stat) in children {
                let entry = entry(&child, &stat);
                if recursive && entry.is_dir {
                    pending.push(child);
                }
                if pattern.is_none_or(|pattern| fast_glob::glob_match(pattern, &entry.name)) {
                    entries.push(entry);
                }
                if entries.len() > MOST {
                    let why = format!("it has more than {MOST} entries; list parts of it");
                    return Err(Error::invalid(what, &text, why));
                }
            }
        }
        entries.sort_by(|a, b| (!a.is_dir, &a.path).cmp(&(!b.is_dir, &b.path)));
        Ok(entries)
    }

    /// What is directly in `directory`.
    pub(super) fn children(&self, directory: &Path) -> Result<Vec<(PathBuf, Stat)>> {
        let what = "list";
        let text = directory.display().to_string();
        let error = |errno| Error::new(what, &text, errno);
        let fd = self.open(what, directory, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut children = Vec::new();
        for child in Dir::read_from(&fd).map_err(error)? {
            let child = child.map_err(error)?;
            let name: &CStr = child.file_name();
            if [c".", c".."].contains(&name) {
                continue;
            }
            match rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => {
                    let name = OsStr::from_bytes(name.to_bytes());
                    children.push((directory.join(name), stat));
                }
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(error(errno)),
            }
        }
        Ok(children)
    }
}

/// How a file is described.
#[must_use]
pub fn entry(path: &Path, stat: &Stat) -> Entry {
    let kind = FileType::from_raw_mode(stat.st_mode);
    let time = Timestamp::from_second(stat.st_mtime).unwrap_or_default();
    Entry {
        name: path
            .file_name()
            .unwrap_or(OsStr::new("/"))
            .to_string_lossy()
            .into_owned(),
        path: path.to_string_lossy().into_owned(),
        kind: match kind {
            FileType::RegularFile => "file",
            FileType::Directory => "directory",
            FileType::Symlink => "symlink",
            _ => "other",
        },
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mode: format!("{:04o}", stat.st_mode & 0o7777),
        mod_time: time.to_string(),
        is_dir: kind == FileType::Directory,
    }
}
