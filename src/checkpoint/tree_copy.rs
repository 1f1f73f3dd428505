//! Copying a tree with everything that can be seen of it: bytes, holes, modes, owners,
//! times, extended attributes, hard links, symbolic links, FIFOs, device nodes.
//!
//! A second pass over the same source brings the copy up to date: it copies again only
//! what the first pass could have missed, so that the pause of a checkpoint is a walk
//! and not a copy.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs as sys;

use super::driver::{Cancel, Context as _, Error};

/// How coarse a filesystem's change times may be. A file that changed this short before
/// it was looked at may change again without its times telling.
const COARSE: Duration = Duration::from_millis(20);
/// How much is copied at once, so that a copy can be given up.
const PIECE: usize = 4 << 20;

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

/// The inodes that some process has mapped shared and writable: a store to such a page
/// changes no time stamp when the page is dirty already.
pub fn mapped_inodes() -> HashSet<u64> {
    let mut inodes = HashSet::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for maps in processes.filter_map(|entry| fs::read_to_string(entry.path().join("maps")).ok()) {
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
        self.report.entries += 1;
        self.report.bytes += if kind.is_file() { meta.len() } else { 0 };
        let stamp = Stamp::of(&meta);
        let known = self.previous.and_then(|index| index.stamps.get(path));
        let kept = known.is_some_and(|known| self.is_unchanged(known, &stamp));
        if kind.is_dir() {
            let there = fs::symlink_metadata(&target);
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
                copy_metadata(&source, &target, &meta, path, &mut self.report.skipped)?;
            }
        }
        if !kind.is_dir() && stamp.links > 1 {
            self.links
                .entry(stamp.inode)
                .or_insert_with(|| path.to_owned());
        }
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
            return copy_bytes(source, target, meta.len(), self.cancel);
        }
        let kind = sys::FileType::from_raw_mode(meta.mode());
        let mode = sys::Mode::from_raw_mode(meta.mode());
        sys::mknodat(sys::CWD, target, kind, mode, meta.rdev()).context("create", target)
    }

    /// Gives a directory the metadata of its source.
    fn metadata(&mut self, path: &Path) -> Result<(), Error> {
        let (source, target) = (self.source.join(path), self.target.join(path));
        match fs::symlink_metadata(&source) {
            Ok(meta) => copy_metadata(&source, &target, &meta, path, &mut self.report.skipped),
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
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(target).context("remove", target),
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

/// Copies a file's data and leaves its holes holes.
fn copy_bytes(source: &Path, target: &Path, size: u64, cancel: &Cancel) -> Result<(), Error> {
    let from = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(source)
        .context("open", source)?;
    let to = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(target)
        .context("create", target)?;
    let mut at = 0;
    while let Some((start, end)) = next_data(&from, at, size).context("read", source)? {
        let (mut read_at, mut write_at) = (start, start);
        while read_at < end {
            cancel.check()?;
            let piece = usize::try_from(end - read_at).unwrap_or(PIECE).min(PIECE);
            let copied = copy_piece(&from, &mut read_at, &to, &mut write_at, piece)
                .context("copy to", target)?;
            // The file got shorter meanwhile.
            if copied == 0 {
                break;
            }
        }
        at = end;
    }
    to.set_len(size).context("set the size of", target)
}

/// The next range of `file` with data at or behind `at`, before `size`.
fn next_data(file: &File, at: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= size {
        return Ok(None);
    }
    match sys::seek(file, sys::SeekFrom::Data(at)) {
        Ok(start) => {
            let end = sys::seek(file, sys::SeekFrom::Hole(start))?;
            Ok((start < size).then_some((start, end.min(size))))
        }
        // No data behind `at`.
        Err(rustix::io::Errno::NXIO) => Ok(None),
        // This filesystem knows no holes.
        Err(rustix::io::Errno::INVAL) => Ok(Some((at, size))),
        Err(error) => Err(error.into()),
    }
}

/// Copies up to `length` bytes, in the kernel where it can (which shares blocks where
/// the filesystem can), and advances both positions.
fn copy_piece(
    from: &File,
    read_at: &mut u64,
    to: &File,
    write_at: &mut u64,
    length: usize,
) -> io::Result<usize> {
    use rustix::io::Errno;
    use std::os::unix::fs::FileExt as _;
    match sys::copy_file_range(from, Some(read_at), to, Some(write_at), length) {
        Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
            let mut buffer = vec![0; length.min(1 << 20)];
            let read = from.read_at(&mut buffer, *read_at)?;
            let data = buffer.get(..read).unwrap_or_default();
            to.write_all_at(data, *write_at)?;
            *read_at += read as u64;
            *write_at += read as u64;
            Ok(read)
        }
        result => Ok(result?),
    }
}

/// Gives `target` the owner, mode, extended attributes and times of `source`, in the
/// order in which none undoes another.
fn copy_metadata(
    source: &Path,
    target: &Path,
    meta: &Metadata,
    path: &Path,
    skipped: &mut Vec<String>,
) -> Result<(), Error> {
    let mut note = |what: &str, error: rustix::io::Errno| {
        let error = io::Error::from(error);
        skipped.push(format!(
            "{}: its {what} was not kept: {error}",
            path.display()
        ));
    };
    let owner = sys::Uid::from_raw(meta.uid());
    let group = sys::Gid::from_raw(meta.gid());
    let flags = sys::AtFlags::SYMLINK_NOFOLLOW;
    if let Err(error) = sys::chownat(sys::CWD, target, Some(owner), Some(group), flags) {
        note("owner", error);
    }
    if !meta.is_symlink() {
        let mode = sys::Mode::from_raw_mode(meta.mode() & 0o7777);
        sys::chmodat(sys::CWD, target, mode, sys::AtFlags::empty()).context("chmod", target)?;
    }
    if let Err(error) = copy_attributes(source, target) {
        note("extended attributes", error);
    }
    let time = |seconds, nanoseconds| sys::Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = sys::Timestamps {
        last_access: time(meta.atime(), meta.atime_nsec()),
        last_modification: time(meta.mtime(), meta.mtime_nsec()),
    };
    sys::utimensat(sys::CWD, target, &times, flags).context("set the times of", target)
}

/// Gives `target` the extended attributes of `source`, and no others.
fn copy_attributes(source: &Path, target: &Path) -> rustix::io::Result<()> {
    use rustix::io::Errno;
    let wanted = attribute_names(source)?;
    for name in &wanted {
        let mut value = vec![0_u8; 4096];
        let length = loop {
            match sys::lgetxattr(source, name, &mut value) {
                Err(Errno::RANGE) => value.resize(value.len() * 4, 0),
                result => break result?,
            }
        };
        let value = value.get(..length).unwrap_or_default();
        sys::lsetxattr(target, name, value, sys::XattrFlags::empty())?;
    }
    for name in attribute_names(target)? {
        if !wanted.contains(&name) {
            sys::lremovexattr(target, &name)?;
        }
    }
    Ok(())
}

fn attribute_names(path: &Path) -> rustix::io::Result<Vec<OsString>> {
    use rustix::io::Errno;
    let mut names = vec![0_u8; 1024];
    let length = loop {
        match sys::llistxattr(path, &mut names) {
            Err(Errno::RANGE) => names.resize(names.len() * 4, 0),
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            result => break result?,
        }
    };
    let names = names.get(..length).unwrap_or_default();
    let names = names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    Ok(names
        .map(|name| OsStr::from_bytes(name).to_owned())
        .collect())
}
