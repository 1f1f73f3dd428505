//! One directory of the walk.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

use rustix::fs::{self as sys, FileType, RawDir};
use rustix::io::Errno;

use super::super::super::driver::{Context as _, Error};
use super::super::id::Id;
use super::super::live::{Directory, Entry, Extras, Marks};
use super::super::node::{Attribute, BLOCK};
use super::super::stamp::{Stamp, stamp};
use super::super::{attributes, scan};
use super::content::{self, Large};
use super::large::Later;
use super::{Found, Task, Walk, Worker, is_forbidden, is_gone, lock};

/// Room that is used for one directory after the other.
#[derive(Default)]
pub struct Buffers {
    kernel: Vec<MaybeUninit<u8>>,
    /// The names, each with a NUL behind it.
    names: Vec<u8>,
    /// Where they begin, sorted by name.
    starts: Vec<u32>,
    stamps: Vec<(Stamp, bool)>,
    block: Vec<u8>,
}

impl Buffers {
    fn name(&self, start: u32) -> &CStr {
        let rest = self.names.get(start as usize..).unwrap_or_default();
        CStr::from_bytes_until_nul(rest).unwrap_or_default()
    }

    /// Reads the names in `directory`.
    fn read_names(&mut self, directory: BorrowedFd<'_>) -> Result<(), Errno> {
        self.names.clear();
        self.starts.clear();
        self.kernel.resize(64 << 10, MaybeUninit::uninit());
        let mut raw = RawDir::new(directory, &mut self.kernel);
        while let Some(entry) = raw.next() {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                let start = u32::try_from(self.names.len()).map_err(|_| Errno::OVERFLOW)?;
                self.starts.push(start);
                self.names.extend_from_slice(name.to_bytes_with_nul());
            }
        }
        let mut starts = std::mem::take(&mut self.starts);
        starts.sort_unstable_by(|a, b| self.name(*a).cmp(self.name(*b)));
        self.starts = starts;
        Ok(())
    }

    /// Looks at each of them. What is gone is left out.
    fn look(&mut self, directory: BorrowedFd<'_>, device: (u32, u32)) -> Result<(), (Errno, u32)> {
        self.stamps.clear();
        let mut starts = std::mem::take(&mut self.starts);
        let mut failure = None;
        starts.retain(|start| match stamp(directory, self.name(*start), device) {
            Ok(looks) => {
                self.stamps.push(looks);
                true
            }
            Err(error) if is_gone(error) => false,
            Err(error) => {
                failure.get_or_insert((error, *start));
                false
            }
        });
        self.starts = starts;
        failure.map_or(Ok(()), Err)
    }
}

/// The extras with these parts; none if there is nothing in them.
pub fn extras(attributes: Vec<Attribute>, link: Vec<u8>) -> Option<Box<Extras>> {
    let empty = attributes.is_empty() && link.is_empty();
    (!empty).then(|| Box::new(Extras { attributes, link }))
}

impl Walk<'_> {
    pub(super) fn walk<'s>(
        &'s self,
        scope: &rayon::Scope<'s>,
        worker: &mut Worker,
        task: &Task,
    ) -> Result<(), Error> {
        if self.is_over()? {
            return Ok(());
        }
        if let (Some(limit), Some(known)) = (self.scan.look.limit, &task.previous)
            && !task.forced
            && !limit.reads(task.number)
        {
            return self.spawn_directories(scope, task, known, known);
        }
        let fd = match task.place.open() {
            Ok(fd) => fd,
            Err(error) if is_forbidden(error) => {
                self.report(task, Some(unreadable()));
                return Ok(());
            }
            Err(error) if is_gone(error) || error == Errno::LOOP => {
                self.report(task, Some(Directory::default()));
                return Ok(());
            }
            Err(error) => return Err(error).context("open", &task.place.full()),
        };
        let buffers = &mut worker.buffers;
        buffers
            .read_names(fd.as_fd())
            .context("read", &task.place.full())?;
        match buffers.look(fd.as_fd(), self.device) {
            Ok(()) => {}
            // The names may be read, but not what they name.
            Err((error, _)) if is_forbidden(error) => {
                self.report(task, Some(unreadable()));
                return Ok(());
            }
            Err((error, start)) => {
                let path = task.place.full_of(buffers.name(start).to_bytes());
                return Err(error).context("look at", &path);
            }
        }
        self.scan.look.meter.add(buffers.starts.len() as u64, 0);
        let nothing = Arc::default();
        let known = task.previous.as_ref().unwrap_or(&nothing);
        if task.previous.is_some() && self.is_as_it_was(known, buffers) {
            self.spawn_directories(scope, task, known, known)?;
            self.report(task, None);
            return Ok(());
        }
        let directory = self.renew(scope, worker, task, fd.as_fd(), known)?;
        self.spawn_directories(scope, task, &directory, known)?;
        self.report(task, Some(directory));
        Ok(())
    }

    fn report(&self, task: &Task, directory: Option<Directory>) {
        lock(&self.found).push(Found::Directory {
            number: task.number,
            parent: task.parent,
            inode: task.inode,
            directory,
        });
    }

    /// Notes that a directory which is not looked at is in another one now.
    fn report_moved(&self, parent: u32, entry: &Entry) {
        let slot = self.scan.previous.slots.get(entry.directory as usize);
        if slot.is_some_and(|slot| slot.parent != parent) {
            lock(&self.found).push(Found::Directory {
                number: entry.directory,
                parent,
                inode: entry.stamp.inode,
                directory: None,
            });
        }
    }

    /// Whether nothing has changed.
    fn is_as_it_was(&self, known: &Directory, buffers: &Buffers) -> bool {
        let now = buffers.starts.iter().zip(&buffers.stamps);
        !known.unreadable
            && known.entries.len() == buffers.starts.len()
            && known
                .entries
                .iter()
                .zip(now)
                .all(|(entry, (start, (stamp, mounted)))| {
                    self.holds(entry, stamp, *mounted) && known.name(entry) == buffers.name(*start)
                })
    }

    fn spawn_directories<'s>(
        &'s self,
        scope: &rayon::Scope<'s>,
        task: &Task,
        directory: &Directory,
        before: &Directory,
    ) -> Result<(), Error> {
        let mut before = before
            .entries
            .iter()
            .map(|entry| (before.name(entry), entry))
            .peekable();
        for entry in &directory.entries {
            if !entry.is_directory() {
                continue;
            }
            let previous = self.scan.previous.directory(entry.directory).cloned();
            // One that has become another is read even if nothing in it has changed since.
            let name = directory.name(entry);
            while before.next_if(|(other, _)| *other < name).is_some() {}
            let known = before.next_if(|(other, _)| *other == name);
            let forced = known.is_none_or(|(_, known)| known.stamp != entry.stamp);
            let limit = self
                .scan
                .look
                .limit
                .filter(|_| previous.is_some() && !forced);
            if limit.is_some_and(|limit| !limit.reaches(entry.directory)) {
                self.report_moved(task.number, entry);
                continue;
            }
            let name = name.to_bytes();
            let place = task.place.child(name);
            let place = place.context("open", &task.place.full_of(name))?;
            let task = Task {
                place,
                number: entry.directory,
                parent: task.number,
                inode: entry.stamp.inode,
                previous,
                forced,
            };
            scope.spawn(move |scope| self.directory(scope, &task));
        }
        Ok(())
    }

    /// Makes the directory anew from what is known and what has changed.
    fn renew<'s>(
        &'s self,
        scope: &rayon::Scope<'s>,
        worker: &mut Worker,
        task: &Task,
        fd: BorrowedFd<'_>,
        known: &Directory,
    ) -> Result<Directory, Error> {
        let mut old = known.entries.iter().peekable();
        let starts = std::mem::take(&mut worker.buffers.starts);
        let stamps = std::mem::take(&mut worker.buffers.stamps);
        let names = std::mem::take(&mut worker.buffers.names);
        let mut directory = Directory::with_room(starts.len(), names.len());
        for (start, (stamp, mounted)) in starts.iter().zip(&stamps) {
            let rest = names.get(*start as usize..).unwrap_or_default();
            let name = CStr::from_bytes_until_nul(rest).unwrap_or_default();
            while old.next_if(|entry| known.name(entry) < name).is_some() {}
            let known = old.next_if(|entry| known.name(entry) == name);
            if let Some(known) = known.filter(|known| self.holds(known, stamp, *mounted)) {
                directory.push(name, known.clone());
                continue;
            }
            let spot = (task.number, directory.entries.len());
            let mut entry = Entry {
                stamp: *stamp,
                name: 0,
                directory: 0,
                content: Id::HOLE,
                marks: Marks {
                    mounted: *mounted,
                    ..Marks::default()
                },
                extras: None,
            };
            if entry.is_directory() {
                entry.directory = self.number_of(known, stamp);
            }
            let old = known.filter(|known| known.stamp.inode == stamp.inode);
            match self.read(scope, worker, task, fd, name, &mut entry, spot, old) {
                Ok(()) => directory.push(name, entry),
                Err(Error::Io { source, .. }) if gone(&source) => {}
                Err(error) => return Err(error),
            }
        }
        let buffers = &mut worker.buffers;
        (buffers.starts, buffers.stamps, buffers.names) = (starts, stamps, names);
        Ok(directory)
    }

    /// The number of a directory: that which it had, wherever it was, or a new one.
    fn number_of(&self, known: Option<&Entry>, stamp: &Stamp) -> u32 {
        let is_it = |known: &&Entry| known.is_directory() && known.stamp.inode == stamp.inode;
        match known.filter(is_it) {
            Some(known) => known.directory,
            None => self.number_by_inode(stamp.inode),
        }
    }

    /// Reads what the stamp of an entry does not tell.
    #[allow(clippy::too_many_arguments, reason = "all of it is of this one entry")]
    fn read<'s>(
        &'s self,
        scope: &rayon::Scope<'s>,
        worker: &mut Worker,
        task: &Task,
        fd: BorrowedFd<'_>,
        name: &CStr,
        entry: &mut Entry,
        spot: scan::Spot,
        known: Option<&Entry>,
    ) -> Result<(), Error> {
        let path = || task.place.full_of(name.to_bytes());
        let kind = entry.stamp.kind();
        if kind == FileType::Socket || entry.marks.mounted {
            return Ok(());
        }
        let link = if kind == FileType::Symlink {
            let link = sys::readlinkat(fd, name, Vec::new());
            link.context("read the link", &path())?.into_bytes()
        } else {
            Vec::new()
        };
        let file = self.open_content(fd, name, entry, spot, &path)?;
        let attributes = match &file {
            Some(file) => attributes::read_open(file.as_fd()),
            None => attributes::read(fd, name),
        };
        match attributes {
            Ok(attributes) => entry.extras = extras(attributes, link),
            Err(error) if is_forbidden(error) => entry.extras = extras(Vec::new(), link),
            Err(error) => return Err(error).context("read the extended attributes of", &path()),
        }
        let Some(file) = file else {
            return Ok(());
        };
        if entry.stamp.size > BLOCK as u64 {
            let full_path = || task.place.path_of(name.to_bytes());
            let older = match self.defer(&file, entry, known, &full_path) {
                Some(Later::Deferred) => return Ok(()),
                Some(Later::Compared(older)) => Some(older),
                None => None,
            };
            let large = Arc::new(Large {
                file,
                size: entry.stamp.size,
                path: path(),
                spot,
                older,
            });
            self.spawn_lists(scope, &mut worker.encoder, &large);
            return Ok(());
        }
        let buffer = &mut worker.buffers.block;
        buffer.resize(BLOCK, 0);
        let length = content::read(file.as_fd(), buffer, 0, entry.stamp.size);
        let length = length.context("read", &path())?;
        if length as u64 != entry.stamp.size {
            // Written to meanwhile: what was read is one state of it.
            entry.stamp.size = length as u64;
            entry.marks.doubtful = true;
        }
        let bytes = buffer.get(..length).unwrap_or_default();
        self.scan.look.meter.add(0, length as u64);
        if !bytes.is_empty() {
            entry.content = self.scan.objects.put(&mut worker.encoder, bytes)?;
        }
        Ok(())
    }
}

/// A directory that may not be read.
fn unreadable() -> Directory {
    Directory {
        unreadable: true,
        ..Directory::default()
    }
}

fn gone(error: &std::io::Error) -> bool {
    error
        .raw_os_error()
        .is_some_and(|number| is_gone(Errno::from_raw_os_error(number)))
}
