//! Finding the cgroup that we may make groups in, and making ours.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::fs::{FlockOperation, flock};

use super::{Cgroup, Cgroups, ResourceLimits, STORAGE, Shared, open_dir, subdirectories};

/// What the names of our directories begin with.
const PREFIX: &str = "sprite-env-";
/// How many of us may have the same process id, each in a PID namespace of its own.
const NAMES: u32 = 1_000;

/// Why there are no groups of ours.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine has none.
    #[error("no cgroup v2 is mounted here that we are in")]
    None,
    /// The kernel is too old for them.
    #[error("this kernel cannot kill or hold a cgroup; that came with Linux 5.14")]
    Old,
    /// They cannot be made.
    #[error("no cgroup can be made in {}: {source}", .dir.display())]
    Refused {
        /// Where.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What was made cannot be used.
    #[error("{} is \"{kind}\", which can hold no processes of ours", .dir.display())]
    Kind {
        /// What was made.
        dir: PathBuf,
        /// Its `cgroup.type`.
        kind: String,
    },
    /// A limit cannot be set.
    #[error(
        "limits need the controllers {needed}, and {} has: {has}. Give this program's cgroup all \
         of them (with systemd: Delegate=yes), or leave the limits out", .dir.display()
    )]
    Controllers {
        /// Our cgroup.
        dir: PathBuf,
        /// What is needed.
        needed: String,
        /// What is there.
        has: String,
    },
    /// A limit cannot be set either.
    #[error(
        "the controllers for the limits cannot be given to {}: {source}. Nothing but this \
         program may run in its cgroup", .dir.display()
    )]
    Delegate {
        /// Our cgroup.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Makes our groups; each of `limits` is for one of them.
pub fn set_up(limits: Vec<(Cgroup, ResourceLimits)>) -> Result<Cgroups, Error> {
    let own = own().ok_or(Error::None)?;
    tidy(&own);
    let claimed = claim(&own).and_then(|(base, lock)| {
        let tree = base.join("tree");
        let storage = fs::create_dir(base.join(STORAGE));
        storage.and_then(|()| fs::create_dir(&tree).map(|()| (base, tree, lock)))
    });
    let (base, tree, lock) = claimed.map_err(|source| Error::Refused {
        dir: own.clone(),
        source,
    })?;
    if !tree.join("cgroup.kill").exists() || !tree.join("cgroup.freeze").exists() {
        super::remove(&base);
        return Err(Error::Old);
    }
    let kind = fs::read_to_string(tree.join("cgroup.type")).unwrap_or_default();
    let kind = kind.trim();
    if kind != "domain" {
        let (dir, kind) = (tree.clone(), kind.to_owned());
        super::remove(&base);
        return Err(Error::Kind { dir, kind });
    }
    let needed: BTreeSet<_> = limits
        .iter()
        .flat_map(|(_, limits)| limits.controllers())
        .collect();
    let divided = fs::read_to_string(own.join("cgroup.subtree_control")).unwrap_or_default();
    let missing = |name: &&str| !divided.split_whitespace().any(|word| word == *name);
    let enabled: Vec<_> = needed.iter().copied().filter(missing).collect();
    if !needed.is_empty()
        && let Err(error) = enable(&needed, &own, &base)
    {
        leave(&base, &enabled);
        super::remove(&base);
        return Err(error);
    }
    let shared = Shared {
        base,
        _lock: lock,
        limits: Mutex::new(limits),
        controllers: needed,
        enabled,
    };
    Ok(Cgroups {
        shared: Arc::new(shared),
    })
}

/// Makes the directory of our groups. It is locked for as long as we live: whoever else there
/// is may have our process id, in another PID namespace.
fn claim(own: &Path) -> io::Result<(PathBuf, OwnedFd)> {
    let pid = std::process::id();
    for number in 0..NAMES {
        let base = own.join(match number {
            0 => format!("{PREFIX}{pid}"),
            number => format!("{PREFIX}{pid}.{number}"),
        });
        match fs::create_dir(&base) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            // Somebody who tidies up may have had it first.
            Ok(()) => match lock(&base) {
                Ok(lock) if base.is_dir() => return Ok((base, lock)),
                _ => {}
            },
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Locks a directory of groups; fails if whoever made it lives.
fn lock(base: &Path) -> io::Result<OwnedFd> {
    let dir = open_dir(base)?;
    flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
    Ok(dir)
}

/// Our own cgroup: its path in the hierarchy is in `/proc/self/cgroup`, and where the
/// hierarchy can be seen in `/proc/self/mountinfo` (proc(5), cgroups(7)).
fn own() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let is_v2 = kind.split(' ').next() == Some("cgroup2");
        let mut fields = place.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        let below = Path::new(path).strip_prefix(root).ok()?;
        let dir = Path::new(at).join(below);
        (is_v2 && dir.is_dir()).then_some(dir)
    })
}

/// Removes what was left by those of us that were killed, and lets go what they held.
fn tidy(own: &Path) {
    let is_one_of_us = |dir: &PathBuf| {
        let name = dir.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(PREFIX))
    };
    for dir in subdirectories(own).filter(is_one_of_us) {
        if let Ok(_lock) = lock(&dir) {
            let _ = fs::write(dir.join("tree/cgroup.freeze"), "0");
            super::remove(&dir);
        }
    }
}

/// Has the kernel divide what `needed` controls among our groups.
fn enable(needed: &BTreeSet<&'static str>, own: &Path, base: &Path) -> Result<(), Error> {
    let has = fs::read_to_string(own.join("cgroup.controllers")).unwrap_or_default();
    let words: BTreeSet<_> = has.split_whitespace().collect();
    if !needed.iter().all(|name| words.contains(name)) {
        let has = has.trim();
        return Err(Error::Controllers {
            dir: own.to_owned(),
            needed: needed.iter().copied().collect::<Vec<_>>().join(", "),
            has: if has.is_empty() { "none" } else { has }.to_owned(),
        });
    }
    // A group whose parts are controlled has no processes of its own.
    let supervisor = base.join("supervisor");
    let added: Vec<_> = needed.iter().map(|name| format!("+{name}")).collect();
    let added = added.join(" ");
    let enabled = fs::create_dir(&supervisor)
        .and_then(|()| fs::write(supervisor.join("cgroup.procs"), "0"))
        .and_then(|()| fs::write(own.join("cgroup.subtree_control"), &added))
        .and_then(|()| fs::write(base.join("cgroup.subtree_control"), &added))
        .and_then(|()| fs::write(base.join("tree/cgroup.subtree_control"), &added))
        .and_then(|()| fs::write(base.join("storage/cgroup.subtree_control"), &added));
    enabled.map_err(|source| Error::Delegate {
        dir: own.to_owned(),
        source,
    })
}

/// Goes back to where we were before our groups were made; `enabled` are the controllers that
/// our own cgroup has divided since then.
pub(super) fn leave(base: &Path, enabled: &[&str]) {
    let Some(own) = base.parent() else {
        return;
    };
    if base.join("supervisor").exists() {
        // A group whose parts are controlled takes no processes, so that must end first.
        for dir in [&base.join("tree"), &base.join(STORAGE), base] {
            let divided = fs::read_to_string(dir.join("cgroup.subtree_control"));
            for name in divided.unwrap_or_default().split_whitespace() {
                let _ = fs::write(dir.join("cgroup.subtree_control"), format!("-{name}"));
            }
        }
        for name in enabled {
            let _ = fs::write(own.join("cgroup.subtree_control"), format!("-{name}"));
        }
        let _ = fs::write(own.join("cgroup.procs"), "0");
    }
}
