//! What an init does for a bare machine or container: filesystems of the kernel's, the host
//! name, the loopback interface; and at the end, the power.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use rustix::system::{RebootCommand, reboot, sethostname};

use super::is_pid_1;
use crate::config::{AtEnd, Init};

/// The inode of the initial PID namespace (`PROC_PID_INIT_INO` of the kernel).
const INITIAL_NAMESPACE: &str = "pid:[4026531836]";

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
#[error("init: cannot {what}: {source}")]
pub struct Error {
    what: String,
    source: io::Error,
}

impl Error {
    fn new(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        let (what, source) = (what.into(), source.into());
        Self { what, source }
    }
}

/// A filesystem of the kernel's.
struct Mount {
    at: &'static str,
    kind: &'static str,
    flags: MountFlags,
    options: Option<&'static CStr>,
}

const fn of_kernel(at: &'static str, kind: &'static str) -> Mount {
    let flags = MountFlags::NOSUID
        .union(MountFlags::NODEV)
        .union(MountFlags::NOEXEC);
    Mount {
        at,
        kind,
        flags,
        options: None,
    }
}

const fn in_memory(at: &'static str, options: &'static CStr) -> Mount {
    let flags = MountFlags::NOSUID.union(MountFlags::NODEV);
    Mount {
        at,
        kind: "tmpfs",
        flags,
        options: Some(options),
    }
}

/// In the order in which they can be mounted.
const MOUNTS: [Mount; 7] = [
    of_kernel("/proc", "proc"),
    of_kernel("/sys", "sysfs"),
    Mount {
        at: "/dev",
        kind: "devtmpfs",
        flags: MountFlags::NOSUID,
        options: None,
    },
    Mount {
        at: "/dev/pts",
        kind: "devpts",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        options: Some(c"mode=620,ptmxmode=666"),
    },
    in_memory("/dev/shm", c"mode=1777"),
    in_memory("/run", c"mode=755"),
    of_kernel("/sys/fs/cgroup", "cgroup2"),
];

/// Whether nobody has prepared anything for us: we are PID 1, and there is no `/proc`.
fn is_bare() -> bool {
    is_pid_1() && !Path::new("/proc/self").exists()
}

/// Whether we are the init of a whole machine: our end would be the kernel's panic.
#[must_use]
pub fn is_machine() -> bool {
    let is_initial = |namespace: PathBuf| namespace.as_os_str() == INITIAL_NAMESPACE;
    is_pid_1() && fs::read_link("/proc/self/ns/pid").is_ok_and(is_initial)
}

/// What the kernel has handed to us of its own command line: words that mean nothing to it
/// come before what stands behind its `--`. None of ours begins without a dash.
#[must_use]
pub fn without_words_of_the_kernel<T: AsRef<std::ffi::OsStr>>(words: Vec<T>) -> Vec<T> {
    if !is_bare() && !is_machine() {
        return words;
    }
    let mut words = words.into_iter();
    let program = words.next();
    let is_ours = |word: &T| word.as_ref().as_encoded_bytes().starts_with(b"-");
    let ours = words.skip_while(|word| !is_ours(word));
    program.into_iter().chain(ours).collect()
}

/// Mounts `/proc` if nobody has prepared anything for us: without it we cannot even tell
/// whether we are the init of a machine. Returns whether that was so.
#[must_use]
pub fn see_where_we_are() -> bool {
    let is_bare = is_bare();
    if is_bare && let [proc, ..] = &MOUNTS {
        // What it is needed for says so itself.
        let _ = mount_missing(proc);
    }
    is_bare
}

/// Does what is wanted, and by default what a bare machine lacks. What is not asked for and
/// cannot be done is returned as warnings.
pub fn set_up(init: &Init, is_bare: bool) -> Result<Vec<Error>, Error> {
    if let Some(what) = init.at_end.filter(|what| *what != AtEnd::Exit)
        && !is_pid_1()
    {
        let why = io::Error::other("this is not PID 1");
        return Err(Error::new(format!("do what init.at_end says, {what}"), why));
    }
    let mut warnings = Vec::new();
    if init.mounts.unwrap_or(is_bare) {
        for mount in &MOUNTS {
            match mount_missing(mount) {
                Err(error) if init.mounts.is_some() => return Err(error),
                mounted => warnings.extend(mounted.err()),
            }
        }
    }
    if let Some(name) = &init.hostname {
        let named = sethostname(name.as_bytes());
        named.map_err(|error| Error::new(format!("name this host {name}"), error))?;
    }
    if init.loopback.unwrap_or(is_bare) {
        let up = crate::sys::loopback_up();
        match up.map_err(|error| Error::new("bring up the loopback interface", error)) {
            Err(error) if init.loopback.is_some() => return Err(error),
            up => warnings.extend(up.err()),
        }
    }
    if is_machine() {
        // Ctrl-Alt-Del sends us SIGINT from here on, and so begins the orderly stop.
        let _ = reboot(RebootCommand::CadOff);
    }
    Ok(warnings)
}

fn mount_missing(missing: &Mount) -> Result<(), Error> {
    let at = Path::new(missing.at);
    if is_mounted(at) {
        return Ok(());
    }
    let made = fs::create_dir_all(at);
    let mounted = made.and_then(|()| {
        mount(
            missing.kind,
            at,
            missing.kind,
            missing.flags,
            missing.options,
        )
        .map_err(Into::into)
    });
    mounted.map_err(|error| Error::new(format!("mount {}", missing.at), error))
}

/// Whether `path` is on another device than the directory that it is in.
fn is_mounted(path: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    let above = path.parent().and_then(device);
    device(path).is_some_and(|own| Some(own) != above)
}

/// What is done at our end: what is wanted, or what the init of a machine must do.
#[must_use]
pub fn at_end(wanted: Option<AtEnd>) -> AtEnd {
    match wanted {
        _ if !is_pid_1() => AtEnd::Exit,
        Some(wanted) => wanted,
        None if is_machine() => AtEnd::PowerOff,
        None => AtEnd::Exit,
    }
}

/// Unmounts what can be, makes the rest read-only, writes everything to the disks, and turns
/// the machine off or over; `warn` is told what stays writable. Returns only if there is
/// nothing to do or it cannot be done.
pub fn end(what: AtEnd, warn: impl Fn(&str)) -> Result<(), Error> {
    let command = match what {
        AtEnd::Exit => return Ok(()),
        AtEnd::PowerOff => RebootCommand::PowerOff,
        AtEnd::Reboot => RebootCommand::Restart,
        AtEnd::Halt => RebootCommand::Halt,
    };
    if is_machine() {
        unmount_all(&warn);
    }
    rustix::fs::sync();
    reboot(command).map_err(|error| Error::new(format!("do what init.at_end says, {what}"), error))
}

/// The mounts, the last first: what is mounted in another comes before it.
fn unmount_all(warn: &dyn Fn(&str)) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines().rev() {
        let mut fields = line.split(' ').skip(1);
        let (Some(at), Some(kind)) = (fields.next(), fields.next()) else {
            continue;
        };
        if MOUNTS.iter().any(|mount| mount.kind == kind) || kind == "rootfs" {
            continue;
        }
        // Spaces are written as \040 there; such a path is left to the sync.
        if at != "/" && unmount(at, UnmountFlags::NOFOLLOW).is_ok() {
            continue;
        }
        rustix::fs::sync();
        if let Err(error) = mount_remount(at, MountFlags::RDONLY, c"") {
            warn(&format!("{at} stays mounted and writable: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_told_from_a_directory() {
        assert!(is_mounted(Path::new("/proc")));
        assert!(!is_mounted(Path::new("/proc/self")));
        assert!(!is_mounted(Path::new("/no/such/directory")));
    }

    #[test]
    fn only_an_init_is_given_words_of_the_kernel() {
        let words = vec!["sprite-env", "single", "-config", "x"];
        assert_eq!(without_words_of_the_kernel(words.clone()), words);
    }
}
