//! Writing a file: readers see the old one or the new one, whole, and it is on stable
//! storage before it is there.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::error::{Error, Result};
use super::place::{Files, Place, give, give_to};

/// The permissions of a file that is made, unless told otherwise.
const FILE: u32 = 0o644;
/// The permissions of a directory that is made.
const DIRECTORY: u32 = 0o755;
/// What clients make a directory with: they write it empty.
const PLACEHOLDER: &str = ".keep";

/// A file that is being written beside its place.
#[derive(Debug)]
pub struct Draft {
    place: Place,
    file: File,
    name: OsString,
    mode: u32,
    written: u64,
    is_kept: bool,
}

/// How a file is to be written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Its permissions; none = as they are, or 0644 for a new one.
    pub mode: Option<u32>,
    /// Whether missing directories are made.
    pub parents: bool,
    /// Whether it is to belong to root rather than to the environment's user.
    pub as_root: bool,
}

impl Files {
    /// Begins to write `path`.
    pub fn write(&self, path: &Path, options: Options) -> Result<Draft> {
        let what = "write";
        let owner = self.owner(options.as_root);
        if let Some(parent) = path.parent() {
            self.make_parents(parent, path, options)?;
        }
        let place = self.followed(what, path)?;
        let before = match place.stat() {
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Some(stat),
                FileType::Directory => return Err(place.error(what, Errno::ISDIR)),
                _ => {
                    return Err(Error::invalid(
                        what,
                        &place.path,
                        "it is not a regular file",
                    ));
                }
            },
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(place.error(what, errno)),
        };
        let name = draft_name();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&place.parent, &name, flags, Mode::from(0o600));
        let file = File::from(made.map_err(|errno| place.error(what, errno))?);
        let draft = Draft {
            mode: options
                .mode
                .or(before.map(|stat| stat.st_mode & 0o7777))
                .unwrap_or(FILE),
            place,
            file,
            name,
            written: 0,
            is_kept: false,
        };
        let given = match before {
            // What is replaced keeps its owner.
            Some(stat) => give_to(&draft.file, stat.st_uid, stat.st_gid),
            None => give(&draft.file, owner.as_ref()),
        };
        given.map_err(|errno| draft.place.error(what, errno))?;
        Ok(draft)
    }

    /// Makes the directories that are missing on the way to `parent`. Clients make a
    /// directory by writing a placeholder into it, so that one is made in any case.
    fn make_parents(&self, parent: &Path, path: &Path, options: Options) -> Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let mut missing = Vec::new();
        for directory in parent.ancestors() {
            match self.open("write", directory, flags) {
                Ok(_) => break,
                Err(error) if error.errno == Errno::NOENT => missing.push(directory),
                Err(error) => {
                    let path = path.display().to_string();
                    return Err(Error { path, ..error });
                }
            }
        }
        let is_placeholder = path.file_name().is_some_and(|name| name == PLACEHOLDER);
        if missing.is_empty() || options.parents || is_placeholder && missing.len() == 1 {
            return self.make_directories(&missing, options);
        }
        let path = path.display().to_string();
        Err(Error::new("write", &path, Errno::NOENT))
    }

    fn make_directories(&self, missing: &[&Path], options: Options) -> Result<()> {
        let owner = self.owner(options.as_root);
        for directory in missing.iter().rev() {
            let what = "make the directory";
            let place = self.place(what, directory)?;
            match rustix::fs::mkdirat(&place.parent, &place.name, Mode::from(DIRECTORY)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(place.error(what, errno)),
            }
            let made = self.open(what, directory, OFlags::RDONLY | OFlags::DIRECTORY)?;
            give(made, owner.as_ref()).map_err(|errno| place.error(what, errno))?;
        }
        Ok(())
    }
}

impl Draft {
    /// Adds bytes.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.written += bytes.len() as u64;
        let written = self.file.write_all(bytes);
        written.map_err(|error| Error::io("write", &self.place.path, &error))
    }

    /// Copies everything that `source` has.
    pub fn append_all(&mut self, source: &mut File) -> Result<()> {
        let copied = std::io::copy(source, &mut self.file);
        self.written += copied.map_err(|error| Error::io("write", &self.place.path, &error))?;
        Ok(())
    }

    /// The file as it is being written.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Puts the file in its place; returns its path, length and permissions.
    pub fn keep(mut self) -> Result<(String, u64, u32)> {
        let error = |errno| self.place.error("write", errno);
        rustix::fs::fchmod(&self.file, Mode::from(self.mode)).map_err(error)?;
        rustix::fs::fsync(&self.file).map_err(error)?;
        let place = &self.place;
        rustix::fs::renameat(&place.parent, &self.name, &place.parent, &place.name)
            .map_err(error)?;
        self.is_kept = true;
        sync_directory(&self.place).map_err(|errno| self.place.error("write", errno))?;
        Ok((self.place.path.clone(), self.written, self.mode))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = rustix::fs::unlinkat(&self.place.parent, &self.name, AtFlags::empty());
        }
    }
}

/// Makes what happened in the directory of `place` last.
pub fn sync_directory(place: &Place) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(&place.parent, ".", flags, Mode::empty()) {
        Ok(directory) => match rustix::fs::fsync(directory) {
            // Not every filesystem can.
            Err(Errno::INVAL) => Ok(()),
            result => result,
        },
        // It may be written to without being readable.
        Err(Errno::ACCESS) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// A name that nobody else uses.
fn draft_name() -> OsString {
    OsString::from(format!(".sprite-draft-{:016x}", fastrand::u64(..)))
}
