//! The newest checkpoints as a filesystem that can only be read: `v3/etc/hosts`, and
//! `active` for the one that the environment came from.

mod inodes;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use fuser::{
    BackgroundSession, Config, Errno, FileHandle, FileType, Filesystem, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry,
    ReplyXattr, Request, Session, SessionACL,
};
use rustix::mount::UnmountFlags;

use self::inodes::{Directory, Inodes, Item, What};
use super::{Store, browse};
use crate::checkpoint::driver::{Context as _, Error};

/// So many checkpoints are there.
const NEWEST: usize = 5;
/// The name of the link to the checkpoint that the environment came from.
const ACTIVE: &str = "active";
/// How long the kernel may take a checkpoint as there.
const SHORT: Duration = Duration::from_secs(1);
/// How long it may take what is in one as it is: that never changes.
const LONG: Duration = Duration::from_secs(3600);

/// A mount; gone when this is dropped.
#[derive(Debug)]
pub struct Mount(#[allow(dead_code, reason = "it unmounts")] BackgroundSession);

/// Mounts the newest checkpoints of `store` at `at`.
pub fn mount(store: &Arc<Store>, at: &Path) -> Result<Mount, Error> {
    let unusable = |why: &str| Err(Error::Unusable(format!("{}: {why}", at.display())));
    if !Path::new("/dev/fuse").exists() {
        return unusable("there is no /dev/fuse here: give it to the container, or load fuse");
    }
    if !rustix::process::geteuid().is_root() {
        return unusable("only root can mount something");
    }
    if fs::symlink_metadata(at).is_err_and(|error| is_left_behind(&error)) {
        // A daemon that was killed has left it.
        rustix::mount::unmount(at, UnmountFlags::DETACH).context("unmount", at)?;
    }
    fs::create_dir_all(at).context("create", at)?;
    let options = [
        MountOption::RO,
        MountOption::NoDev,
        MountOption::NoSuid,
        MountOption::DefaultPermissions,
        MountOption::FSName("sprite-env".to_owned()),
        MountOption::Subtype("checkpoints".to_owned()),
    ];
    let mut config = Config::default();
    config.mount_options = options.to_vec();
    config.acl = SessionACL::All;
    let filesystem = Checkpoints {
        store: Arc::downgrade(store),
        inodes: Inodes::default(),
    };
    let session = Session::new(filesystem, at, &config).and_then(Session::spawn);
    Ok(Mount(session.context("mount the checkpoints at", at)?))
}

/// Whether a mount has nobody behind it any more.
fn is_left_behind(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NOTCONN.raw_os_error())
}

/// The filesystem.
struct Checkpoints {
    store: Weak<Store>,
    inodes: Inodes,
}

impl Checkpoints {
    fn store(&self) -> Result<Arc<Store>, Errno> {
        self.store.upgrade().ok_or(Errno::EIO)
    }

    fn item(&self, inode: INodeNo) -> Result<Arc<Item>, Errno> {
        self.inodes.get(inode.into()).ok_or(Errno::ESTALE)
    }

    /// What is in a directory, sorted by name.
    fn entries(&self, inode: u64) -> Result<Directory, Errno> {
        if inode == u64::from(INodeNo::ROOT) {
            return self.checkpoints();
        }
        let item = self.item(INodeNo(inode))?;
        let What::Directory { root, node } = item.what else {
            return Err(Errno::ENOTDIR);
        };
        let store = self.store()?;
        let objects = &store.opened().map_err(fault)?.objects;
        self.inodes.directory(objects, root, node).map_err(fault)
    }

    /// The newest checkpoints, and the link to the active one.
    fn checkpoints(&self) -> Result<Directory, Errno> {
        let store = self.store()?;
        let (newest, base) = {
            let state = store.state();
            let newest: Vec<_> = state.catalog.list(false).take(NEWEST).collect();
            let base = state.catalog.base().map(ToOwned::to_owned);
            (newest, base)
        };
        let objects = &store.opened().map_err(fault)?.objects;
        let mut found = Vec::new();
        if let Some(base) = base.filter(|base| newest.iter().any(|it| it.id == *base)) {
            let link = Item::link(base.into_bytes());
            found.push((ACTIVE.as_bytes().to_vec(), Arc::new(link)));
        }
        for manifest in newest {
            let item = Item::root(objects, manifest.root).map_err(fault)?;
            found.push((manifest.id.into_bytes(), Arc::new(item)));
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Arc::new(found))
    }

    fn find(&self, parent: u64, name: &OsStr) -> Result<(u64, Arc<Item>), Errno> {
        let entries = self.entries(parent)?;
        let name = name.as_bytes();
        let found = entries.binary_search_by(|(there, _)| there.as_slice().cmp(name));
        let found = found.ok().and_then(|at| entries.get(at));
        let (_, item) = found.ok_or(Errno::ENOENT)?;
        Ok((inodes::number(parent, name, item), Arc::clone(item)))
    }

    fn read_file(&self, inode: INodeNo, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        let item = self.item(inode)?;
        let What::File(content) = &item.what else {
            return Err(Errno::EISDIR);
        };
        let store = self.store()?;
        let objects = &store.opened().map_err(fault)?.objects;
        let mut bytes = Vec::with_capacity(size as usize);
        while bytes.len() < size as usize {
            let at = offset + bytes.len() as u64;
            let part = browse::read(objects, content, at).map_err(fault)?;
            if part.is_empty() {
                break;
            }
            bytes.extend_from_slice(&part);
        }
        bytes.truncate(size as usize);
        Ok(bytes)
    }
}

/// What a reader sees of an error; the log has the rest.
#[allow(clippy::needless_pass_by_value, reason = "it is passed to map_err")]
fn fault(error: Error) -> Errno {
    tracing::warn!("a mounted checkpoint: {error}");
    Errno::EIO
}

/// How long the kernel may keep what is in the directory `parent`.
fn time_to_live(parent: INodeNo) -> Duration {
    if parent == INodeNo::ROOT { SHORT } else { LONG }
}

impl Filesystem for Checkpoints {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.find(parent.into(), name) {
            Ok((number, item)) => {
                self.inodes.remember(number, &item);
                let attributes = item.attributes(number);
                reply.entry(&time_to_live(parent), &attributes, Generation(0));
            }
            Err(error) => reply.error(error),
        }
    }

    fn forget(&self, _: &Request, inode: INodeNo, lookups: u64) {
        self.inodes.forget(inode.into(), lookups);
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.item(inode) {
            Ok(item) => reply.attr(&SHORT, &item.attributes(inode.into())),
            Err(error) => reply.error(error),
        }
    }

    fn readlink(&self, _: &Request, inode: INodeNo, reply: ReplyData) {
        match self.item(inode) {
            Ok(item) => match &item.what {
                What::Link(to) => reply.data(to),
                _ => reply.error(Errno::EINVAL),
            },
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.read_file(inode, offset, size) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let entries = match self.entries(inode.into()) {
            Ok(entries) => entries,
            Err(error) => return reply.error(error),
        };
        let inode = u64::from(inode);
        let dots = [
            (inode, ".", FileType::Directory),
            (inode, "..", FileType::Directory),
        ];
        let dots = dots.map(|(number, name, kind)| (number, name.as_bytes(), kind));
        let all = entries.iter();
        let all = all.map(|(name, item)| (inodes::number(inode, name, item), &name[..], item.kind));
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        for (next, (number, name, kind)) in (1..).zip(dots.into_iter().chain(all)).skip(skipped) {
            if reply.add(INodeNo(number), next, kind, OsStr::from_bytes(name)) {
                break;
            }
        }
        reply.ok();
    }

    fn listxattr(&self, _: &Request, inode: INodeNo, size: u32, reply: ReplyXattr) {
        match self.item(inode) {
            Ok(item) => {
                let names = item.extended.iter();
                let names = names.flat_map(|it| it.name.iter().copied().chain([0]));
                answer(&names.collect::<Vec<_>>(), size, reply);
            }
            Err(error) => reply.error(error),
        }
    }

    fn getxattr(&self, _: &Request, inode: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        match self.item(inode) {
            Ok(item) => {
                let mut all = item.extended.iter();
                match all.find(|it| it.name == name.as_bytes()) {
                    Some(found) => answer(&found.value, size, reply),
                    None => reply.error(Errno::ENODATA),
                }
            }
            Err(error) => reply.error(error),
        }
    }
}

/// Bytes of which the asker may only want to know how many there are.
fn answer(bytes: &[u8], size: u32, reply: ReplyXattr) {
    match u32::try_from(bytes.len()) {
        Ok(length) if size == 0 => reply.size(length),
        Ok(length) if length <= size => reply.data(bytes),
        _ => reply.error(Errno::ERANGE),
    }
}
