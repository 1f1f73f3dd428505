//! Copying a tree with everything that can be seen of it: bytes, holes, modes, owners,
//! times, extended attributes, hard links, symbolic links, FIFOs, device nodes.
//!
//! A second pass over the same source brings the copy up to date: it copies again only
//! what the first pass could have missed, so that the pause of a checkpoint is a walk
//! and not a copy.

mod data;
mod metadata;

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs as sys;

use super::driver::{Cancel, Context as _, Error};
use super::durable;

/// How coarse a filesystem's change times may be. A file that changed this short before
/// it was looked at may change again without its times telling.
const COARSE: Duration = Duration::from_millis(20);

/// What a file looked like when it was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    mode: u32,
    links: u64,
    owner: (u32, u32),
}

/// What was copied, by its path below the root.
#[derive(Debug, Default)]
pub struct Index {
    stamps: HashMap<PathBuf, Stamp>,
    /// Changes from then on may not show in the stamps.
    racy_since: Duration,
}

/// What a copy came to.
#[derive(Debug, Default)]
pub struct Report {
    /// What was copied.
    pub index: Index,
    /// How many entries the tree has, its root not counted.
    pub entries: u64,
    /// How many bytes its files have.
    pub bytes: u64,
    /// What could not be copied, and why.
    pub skipped: Vec<String>,
}

/// Copies the tree at `source` to `target`. With the `previous` copy's index it brings
/// `target` up to date. `distrusted`: inodes whose times tell nothing.
pub fn copy(
    source: &Path,
    target: &Path,
    previous: Option<&Index>,
    distrusted: &HashSet<u64>,
    cancel: &Cancel,
) -> Result<Report, Error> {
    let device = fs::symlink_metadata(source)
        .context("look at", source)?
        .dev();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut copier = Copier {
        source,
        target,
        previous,
        distrusted,
        cancel,
        device,
        links: HashMap::new(),
        report: Report::default(),
    };
    copier.report.index.racy_since = now.saturating_sub(COARSE);
    if previous.is_none() {
        fs::create_dir(target).context("create", target)?;
    }
    let mut left = vec![PathBuf::new()];
    let mut directories = Vec::new();
    while let Some(directory) = left.pop() {
        copier.directory(&directory, &mut left)?;
        directories.push(directory);
    }
    // A directory's times change with its content, so they come last, innermost first.
    for directory in directories.iter().rev() {
        copier.metadata(directory)?;
    }
    Ok(copier.report)
}

/// The inodes that one of `processes` (none = any at all) has mapped shared and writable:
/// a store to such a page changes no time stamp when the page is dirty already.
pub fn mapped_inodes(processes: Option<&[i32]>) -> HashSet<u64> {
    let directories: Vec<PathBuf> = if let Some(pids) = processes {
        pids.iter()
            .map(|pid| format!("/proc/{pid}").into())
            .collect()
    } else {
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        all.map(|entry| entry.path()).collect()
    };
    let mut inodes = HashSet::new();
    for maps in directories
        .iter()
        .filter_map(|dir| fs::read_to_string(dir.join("maps")).ok())
    {
        // address perms offset device inode path (proc(5))
        for line in maps.lines() {
            let mut fields = line.split_ascii_whitespace().skip(1);
            let shared = fields
                .next()
                .is_some_and(|p| p.starts_with("rw") && p.ends_with('s'));
            if let (true, Some(Ok(inode))) = (shared, fields.nth(2).map(str::parse)) {
                inodes.insert(inode);
            }
        }
    }
    inodes
}

struct Copier<'a> {
    source: &'a Path,
    target: &'a Path,
    previous: Option<&'a Index>,
    distrusted: &'a HashSet<u64>,
    cancel: &'a Cancel,
    device: u64,
    /// Where the first name of each file with several names is.
    links: HashMap<u64, PathBuf>,
    report: Report,
}

impl Copier<'_> {
    /// Copies what is in one directory; its directories are put on `left`.
    fn directory(&mut self, path: &Path, left: &mut Vec<PathBuf>) -> Result<(), Error> {
        let source = self.source.join(path);
        let entries = match fs::read_dir(&source) {
            Ok(entries) => entries,
            Err(error) if self.may_skip(&error) && path != Path::new("") => {
                self.skip(path, &error);
                return Ok(());
            }
            Err(error) => return Err(error).context("read", &source),
        };
        let mut seen = HashSet::<OsString>::new();
        for entry in entries {
            self.cancel.check()?;
            let name = entry.context("read", &source)?.file_name();
            let child = path.join(&name);
            match self.entry(&child, left) {
                Ok(()) => {
                    seen.insert(name);
                }
                Err(Error::Io { source, .. }) if self.may_skip(&source) => {
                    // Half a copy is none.
                    let _ = fs::remove_file(self.target.join(&child));
                    self.skip(&child, &source);
                }
                Err(error) => return Err(error),
            }
        }
        if self.previous.is_some() {
            self.remove_others(path, &seen)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, left: &mut Vec<PathBuf>) -> Result<(), Error> {
        let (source, target) = (self.source.join(path), self.target.join(path));
        let meta = fs::symlink_metadata(&source).context("look at", &source)?;
        let kind = meta.file_type();
        if kind.is_socket() {
            self.report
                .skipped
                .push(format!("{}: a socket has no content", path.display()));
            return Ok(());
        }
        if kind.is_dir() && meta.dev() != self.device {
            let why = format!("{}: another filesystem is mounted there", path.display());
            self.report.skipped.push(why);
        }
        let stamp = Stamp::of(&meta);
        let known = self.previous.and_then(|index| index.stamps.get(path));
        let kept = known.is_some_and(|known| self.is_unchanged(known, &stamp));
        if kind.is_dir() {
            // Whatever its mode is to be: it is set last.
            let there = fs::symlink_metadata(&target);
            if there.as_ref().is_ok_and(Metadata::is_dir) {
                let _ = fs::set_permissions(&target, fs::Permissions::from_mode(0o700));
            }
            if !there.as_ref().is_ok_and(Metadata::is_dir) {
                self.clear(&target)?;
                fs::create_dir(&target).context("create", &target)?;
            }
            if meta.dev() == self.device {
                left.push(path.to_owned());
            }
        } else if !kept {
            self.clear(&target)?;
            if let Some(first) = (stamp.links > 1)
                .then(|| self.links.get(&stamp.inode))
                .flatten()
            {
                fs::hard_link(self.target.join(first), &target).context("link", &target)?;
            } else {
                self.leaf(&source, &target, &meta)?;
                metadata::copy(&source, &target, &meta, path, &mut self.report.skipped)?;
            }
        }
        if !kind.is_dir() && stamp.links > 1 {
            self.links
                .entry(stamp.inode)
                .or_insert_with(|| path.to_owned());
        }
        // Only what is in the copy counts: a restore compares.
        self.report.entries += 1;
        self.report.bytes += if kind.is_file() { meta.len() } else { 0 };
        self.report.index.stamps.insert(path.to_owned(), stamp);
        Ok(())
    }

    fn is_unchanged(&self, known: &Stamp, now: &Stamp) -> bool {
        let (seconds, nanoseconds) = now.changed;
        let changed = Duration::new(
            u64::try_from(seconds).unwrap_or(u64::MAX),
            u32::try_from(nanoseconds).unwrap_or(0),
        );
        let racy_since = self
            .previous
            .map_or(Duration::ZERO, |index| index.racy_since);
        known == now && changed < racy_since && !self.distrusted.contains(&now.inode)
    }

    fn leaf(&self, source: &Path, target: &Path, meta: &Metadata) -> Result<(), Error> {
        let kind = meta.file_type();
        if kind.is_symlink() {
            let to = fs::read_link(source).context("read the link", source)?;
            return std::os::unix::fs::symlink(to, target).context("create the link", target);
        }
        if kind.is_file() {
            return data::copy(source, target, meta.len(), self.cancel);
        }
        let kind = sys::FileType::from_raw_mode(meta.mode());
        let mode = sys::Mode::from_raw_mode(meta.mode());
        sys::mknodat(sys::CWD, target, kind, mode, meta.rdev()).context("create", target)
    }

    /// Gives a directory the metadata of its source.
    fn metadata(&mut self, path: &Path) -> Result<(), Error> {
        let (source, target) = (self.source.join(path), self.target.join(path));
        match fs::symlink_metadata(&source) {
            Ok(meta) => metadata::copy(&source, &target, &meta, path, &mut self.report.skipped),
            Err(error) if self.may_skip(&error) => Ok(()),
            Err(error) => Err(error).context("look at", &source),
        }
    }

    /// Removes from the copy what is no longer in the source.
    fn remove_others(&self, path: &Path, seen: &HashSet<OsString>) -> Result<(), Error> {
        let target = self.target.join(path);
        for entry in fs::read_dir(&target).context("read", &target)? {
            let name = entry.context("read", &target)?.file_name();
            if !seen.contains(&name) {
                self.clear(&target.join(name))?;
            }
        }
        Ok(())
    }

    /// Removes whatever is at `target`.
    fn clear(&self, target: &Path) -> Result<(), Error> {
        if self.previous.is_none() {
            return Ok(());
        }
        match fs::symlink_metadata(target) {
            Ok(meta) if meta.is_dir() => durable::remove_tree(target),
            Ok(_) => fs::remove_file(target).context("remove", target),
            Err(_) => Ok(()),
        }
    }

    /// What is gone was removed meanwhile; what we may not read is reported.
    #[allow(clippy::unused_self, reason = "reads as a method where it is called")]
    fn may_skip(&self, error: &io::Error) -> bool {
        matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
        )
    }

    fn skip(&mut self, path: &Path, error: &io::Error) {
        if error.kind() == io::ErrorKind::PermissionDenied {
            self.report
                .skipped
                .push(format!("{}: {error}", path.display()));
        }
    }
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self {
            inode: meta.ino(),
            size: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
            mode: meta.mode(),
            links: meta.nlink(),
            owner: (meta.uid(), meta.gid()),
        }
    }
}
