//! The walk of a tree: what has changed since the last one is read, cut into objects
//! and stored; all else is only looked at.
//!
//! The directories are shared out over several threads. A second walk right after the
//! first finds little to read; that is the one during which everything is held.

mod assemble;
mod content;
mod directory;
mod large;
mod limit;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;

pub use self::assemble::content_of;
pub use self::content::{Large, Older, Storing};
use self::directory::Buffers;
pub use self::large::{DEFERRED, Deferred, LargeFiles};
pub use self::limit::Limit;
use super::super::driver::{Context as _, Error};
use super::id::Id;
use super::live::{Directory, Entry, Live, Marks};
use super::look::Look;
use super::node::{BLOCKS, Time};
use super::objects::{Encoder, Objects};
use super::place::Place;
use super::pool::{Pool, Workers};
use super::stamp::{self, Stamp};
use super::{Written, attributes, lock};

/// How a tree is walked.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    /// Where content is stored.
    pub objects: &'a Objects,
    /// What is known from the walk before.
    pub previous: &'a Live,
    /// How long a change may hide behind an older one.
    pub granularity: Duration,
    /// How it is looked at.
    pub look: Look<'a>,
}

/// What is known of files besides what they look like, by their inode numbers.
#[derive(Debug, Default)]
pub struct Hints {
    /// The files whose stamps tell nothing.
    pub distrusted: HashSet<u64>,
    /// The files that are open for writing: not all changes to them are told.
    pub open: HashSet<u64>,
    /// The files whose content is known, though they have changed.
    pub written: HashMap<u64, Written>,
    /// What large files looked like, that were left for later, when what is known of their
    /// content was true.
    pub left: HashMap<u64, Stamp>,
    /// What large files looked like when they were cloned.
    pub cloned: HashMap<u64, Stamp>,
}

impl Hints {
    /// What is known after a walk that has found this.
    #[must_use]
    pub fn after(scanned: &Scanned) -> Self {
        let files = scanned.deferred.iter();
        let by_inode = |stamp: fn(&Deferred) -> Option<Stamp>| {
            let stamps = files.clone();
            stamps.filter_map(move |file| Some((file.inode, stamp(file)?)))
        };
        Self {
            left: by_inode(|file| file.stamp).collect(),
            cloned: by_inode(|file| file.cloned).collect(),
            ..Self::default()
        }
    }
}

/// What a walk has found.
#[derive(Debug)]
pub struct Scanned {
    /// The tree as it is now; the nodes of changed directories are not yet known.
    pub live: Live,
    /// The directories of which something has changed.
    pub changed: Vec<u32>,
    /// The inodes of files with several names that have changed, if there was a limit.
    pub relinked: HashSet<u64>,
    /// Large files that were cloned, or left for later.
    pub deferred: Vec<Deferred>,
}

impl Scanned {
    /// What is known before a walk.
    #[must_use]
    pub fn of(live: Live) -> Self {
        Self {
            live,
            changed: Vec::new(),
            relinked: HashSet::new(),
            deferred: Vec::new(),
        }
    }
}

/// An entry's place: its directory, and its index there.
type Spot = (u32, usize);

/// A walk under way.
struct Walk<'a> {
    scan: Scan<'a>,
    device: (u32, u32),
    free: Mutex<Vec<u32>>,
    next: AtomicU32,
    /// The numbers of the directories that there were, made when first needed.
    by_inode: OnceLock<HashMap<u64, u32>>,
    workers: Workers<Worker>,
    found: Mutex<Vec<Found>>,
    /// The first spot of each file with several names, and its looks there.
    first: Mutex<HashMap<u64, (Spot, Stamp)>>,
    /// The lists of large files, by their numbers, that no thread has begun with.
    waiting: Mutex<Vec<(Arc<Large>, usize)>>,
    failure: OnceLock<Error>,
}

/// What a thread needs.
#[derive(Default)]
struct Worker {
    encoder: Encoder,
    buffers: Buffers,
}

/// What the walk has found out.
enum Found {
    /// A directory; none if it is as it was.
    Directory {
        number: u32,
        parent: u32,
        inode: u64,
        directory: Option<Directory>,
    },
    /// One list of the blocks of a large file.
    List {
        spot: Spot,
        index: usize,
        list: Id,
        torn: bool,
    },
    /// A large file that is read later.
    Deferred(Deferred),
    /// Another name of a file.
    Alias { spot: Spot, of: Spot, same: bool },
}

/// A directory that is to be walked.
struct Task {
    place: Place,
    number: u32,
    parent: u32,
    inode: u64,
    previous: Option<Arc<Directory>>,
    /// Whether it is read, whatever the limit says.
    forced: bool,
}

/// The time now.
pub fn now() -> Time {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Time {
        seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        nanoseconds: now.subsec_nanos(),
    }
}

impl<'a> Scan<'a> {
    /// What the content of a file needs.
    fn storing(&self) -> Storing<'a> {
        Storing {
            objects: self.objects,
            cancel: self.look.cancel,
            meter: self.look.meter,
        }
    }
}

impl Scan<'_> {
    /// Walks the tree at `root`.
    pub fn run(self, pool: &Pool, root: &Place) -> Result<Scanned, Error> {
        let as_of = now();
        let fd = root.open().context("open", &root.full())?;
        let (stamp, device) =
            stamp::stamp_of(std::os::fd::AsFd::as_fd(&fd)).context("look at", &root.full())?;
        let attributes = attributes::read(std::os::fd::AsFd::as_fd(&fd), c".")
            .context("read the extended attributes of", &root.full())?;
        let slots = &self.previous.slots;
        let free = (1_u32..).zip(slots.iter().skip(1));
        let free = free.filter(|(_, slot)| slot.directory.is_none());
        let walk = Walk {
            scan: self,
            device,
            free: Mutex::new(free.map(|(number, _)| number).collect()),
            next: AtomicU32::new(u32::try_from(slots.len().max(1)).unwrap_or(u32::MAX)),
            by_inode: OnceLock::new(),
            workers: pool.workers(Worker::default),
            found: Mutex::default(),
            first: Mutex::default(),
            waiting: Mutex::default(),
            failure: OnceLock::new(),
        };
        let task = Task {
            place: root.clone(),
            number: 0,
            parent: 0,
            inode: stamp.inode,
            previous: self.previous.directory(0).cloned(),
            forced: false,
        };
        pool.scope(|scope| walk.directory(scope, &task));
        if let Some(error) = walk.failure.into_inner() {
            return Err(error);
        }
        let found = walk
            .found
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let mut encoder = Encoder::default();
        let mut scanned = self.assemble(found, &mut encoder)?;
        scanned.live.as_of = as_of;
        scanned.live.root = Some(Entry {
            stamp,
            name: 0,
            directory: 0,
            content: Id::HOLE,
            marks: Marks::default(),
            extras: directory::extras(attributes, Vec::new()),
        });
        Ok(scanned)
    }
}

impl Walk<'_> {
    /// Walks a directory, and has those in it walked.
    fn directory<'s>(&'s self, scope: &rayon::Scope<'s>, task: &Task) {
        let result = self.walk(scope, &mut self.workers.mine(), task);
        if let Err(error) = result {
            let _ = self.failure.set(error);
        }
    }

    /// The number of a directory that is not where it was, or was not there at all.
    fn number_by_inode(&self, inode: u64) -> u32 {
        let numbers = self.by_inode.get_or_init(|| {
            let slots = (0_u32..).zip(&self.scan.previous.slots);
            let there = slots.filter(|(_, slot)| slot.directory.is_some());
            there.map(|(number, slot)| (slot.inode, number)).collect()
        });
        numbers.get(&inode).copied().unwrap_or_else(|| {
            let free = lock(&self.free).pop();
            free.unwrap_or_else(|| self.next.fetch_add(1, Ordering::Relaxed))
        })
    }

    fn is_over(&self) -> Result<bool, Error> {
        self.scan.look.cancel.check()?;
        Ok(self.failure.get().is_some())
    }

    /// Whether what is known of an entry still holds, now that it looks like this.
    fn holds(&self, known: &Entry, now: &Stamp, mounted: bool) -> bool {
        let scan = &self.scan;
        known.stamp == *now
            && known.marks.mounted == mounted
            && !known.marks.doubtful
            && !known.marks.unreadable
            && (scan.granularity.is_zero() || settled(now.changed, scan))
            && (scan.look.hints.distrusted.is_empty()
                || !scan.look.hints.distrusted.contains(&now.inode))
    }
}

/// Whether a change after the last walk would have got another time than `changed`.
fn settled(changed: Time, scan: &Scan) -> bool {
    changed.since_epoch() + scan.granularity < scan.previous.as_of.since_epoch()
}

/// How many lists a file of so many bytes has.
pub fn lists(size: u64) -> u64 {
    size.div_ceil((super::node::BLOCK * BLOCKS) as u64)
}

/// Whether this error says that something was removed meanwhile.
fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::STALE)
}

/// Whether this error says that we may not do it.
fn is_forbidden(error: Errno) -> bool {
    matches!(error, Errno::ACCESS | Errno::PERM)
}
