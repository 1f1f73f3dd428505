//! The system calls that change something, and the names of what they change.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use Target::{At, Descriptor, Named};
use libc::c_long;

/// Which arguments tell what a call changes.
#[derive(Clone, Copy)]
enum Target {
    /// A descriptor.
    Descriptor(usize),
    /// A path.
    Named(usize),
    /// A path from a directory's descriptor on; without one, the descriptor's own file.
    At(usize, usize),
}

/// All calls.
const CALLS: &[(&str, c_long, Target)] = &[
    ("write", libc::SYS_write, Descriptor(0)),
    ("write", libc::SYS_writev, Descriptor(0)),
    ("write", libc::SYS_pwrite64, Descriptor(0)),
    ("write", libc::SYS_pwritev, Descriptor(0)),
    ("write", libc::SYS_pwritev2, Descriptor(0)),
    ("write", libc::SYS_sendfile, Descriptor(0)),
    ("write", libc::SYS_splice, Descriptor(2)),
    ("copy", libc::SYS_copy_file_range, Descriptor(2)),
    ("resize", libc::SYS_ftruncate, Descriptor(0)),
    ("resize", libc::SYS_truncate, Named(0)),
    ("resize", libc::SYS_fallocate, Descriptor(0)),
    ("flush", libc::SYS_fsync, Descriptor(0)),
    ("flush", libc::SYS_fdatasync, Descriptor(0)),
    ("flush", libc::SYS_syncfs, Descriptor(0)),
    ("flush", libc::SYS_sync_file_range, Descriptor(0)),
    ("ioctl", libc::SYS_ioctl, Descriptor(0)),
    ("lock", libc::SYS_flock, Descriptor(0)),
    ("chmod", libc::SYS_fchmod, Descriptor(0)),
    ("chown", libc::SYS_fchown, Descriptor(0)),
    ("set attribute", libc::SYS_fsetxattr, Descriptor(0)),
    ("set attribute", libc::SYS_setxattr, Named(0)),
    ("set attribute", libc::SYS_lsetxattr, Named(0)),
    ("remove attribute", libc::SYS_fremovexattr, Descriptor(0)),
    ("remove attribute", libc::SYS_lremovexattr, Named(0)),
    ("create", libc::SYS_openat, At(0, 1)),
    ("create directory", libc::SYS_mkdirat, At(0, 1)),
    ("create node", libc::SYS_mknodat, At(0, 1)),
    ("create link", libc::SYS_symlinkat, At(1, 2)),
    ("link", libc::SYS_linkat, At(2, 3)),
    ("rename to", libc::SYS_renameat2, At(2, 3)),
    ("remove", libc::SYS_unlinkat, At(0, 1)),
    ("chmod", libc::SYS_fchmodat, At(0, 1)),
    ("chmod", libc::SYS_fchmodat2, At(0, 1)),
    ("chown", libc::SYS_fchownat, At(0, 1)),
    ("set times", libc::SYS_utimensat, At(0, 1)),
];

/// Those that only older architectures have.
#[cfg(target_arch = "x86_64")]
const OLDER_CALLS: &[(&str, c_long, Target)] = &[
    ("create", libc::SYS_open, Named(0)),
    ("create directory", libc::SYS_mkdir, Named(0)),
    ("create link", libc::SYS_symlink, Named(1)),
    ("link", libc::SYS_link, Named(1)),
    ("rename to", libc::SYS_rename, Named(1)),
    ("rename to", libc::SYS_renameat, At(2, 3)),
    ("remove", libc::SYS_unlink, Named(0)),
    ("remove", libc::SYS_rmdir, Named(0)),
    ("chmod", libc::SYS_chmod, Named(0)),
    ("chown", libc::SYS_chown, Named(0)),
    ("chown", libc::SYS_lchown, Named(0)),
    ("create node", libc::SYS_mknod, Named(0)),
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER_CALLS: &[(&str, c_long, Target)] = &[];

/// What the call changes at which a thread has stopped, in words; none if that is nothing that
/// would outlive the process.
pub fn describe(thread: i32, pid: i32, root: &Path) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{thread}/syscall")).ok()?;
    let mut words = text.split_ascii_whitespace();
    let number: c_long = words.next()?.parse().ok()?;
    let hexadecimal = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
    let arguments: Vec<u64> = words.map_while(hexadecimal).collect();
    let mut calls = CALLS.iter().chain(OLDER_CALLS);
    let (call, _, target) = calls.find(|(_, it, _)| *it == number)?;
    if *call == "create" {
        // The flags are behind the path.
        let (At(_, path) | Named(path) | Descriptor(path)) = *target;
        let changing = u64::from((libc::O_CREAT | libc::O_TRUNC).cast_unsigned());
        if arguments.get(path + 1)? & changing == 0 {
            return None;
        }
    }
    let path = path_of(thread, *target, &arguments)?;
    Some(format!("{call} {}", name_of(&path, pid, root)?))
}

fn path_of(thread: i32, target: Target, arguments: &[u64]) -> Option<PathBuf> {
    let open = |place: usize| {
        let low = arguments.get(place)? & u64::from(u32::MAX);
        let descriptor = u32::try_from(low).ok()?.cast_signed();
        let link = if descriptor == libc::AT_FDCWD {
            format!("/proc/{thread}/cwd")
        } else {
            format!("/proc/{thread}/fd/{descriptor}")
        };
        fs::read_link(link).ok()
    };
    let given = |place: usize| Some(opened(thread, read_path(thread, *arguments.get(place)?)?));
    match target {
        Descriptor(place) => open(place),
        Named(place) => Some(open_directory(thread)?.join(given(place)?)),
        At(directory, path) => match given(path) {
            Some(path) if path.is_absolute() => Some(path),
            Some(path) => Some(open(directory)?.join(path)),
            None => open(directory),
        },
    }
}

/// A path that begins with one of the thread's own descriptors, by the name of what is open.
fn opened(thread: i32, path: PathBuf) -> PathBuf {
    let Ok(rest) = path.strip_prefix("/proc/self/fd") else {
        return path;
    };
    let mut names = rest.components();
    let open = names.next().and_then(|descriptor| {
        let descriptor = descriptor.as_os_str().to_str()?;
        fs::read_link(format!("/proc/{thread}/fd/{descriptor}")).ok()
    });
    open.map_or(path.clone(), |open| open.join(names.as_path()))
}

fn open_directory(thread: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{thread}/cwd")).ok()
}

/// The path at an address of the process; none if there is none.
fn read_path(thread: i32, address: u64) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    let memory = File::open(format!("/proc/{thread}/mem")).ok()?;
    let mut bytes = vec![0; libc::PATH_MAX as usize];
    let read = memory.read_at(&mut bytes, address).ok()?;
    bytes.truncate(read);
    bytes.truncate(bytes.iter().position(|byte| *byte == 0)?);
    let path = std::ffi::OsString::from_vec(bytes);
    (!path.is_empty()).then(|| PathBuf::from(path))
}

/// A name for a path that is the same in each run; none for what is gone with the process, for the
/// journal, which only tests have, and for the cgroups of others, which it removes when it starts.
fn name_of(path: &Path, pid: i32, root: &Path) -> Option<String> {
    let outside = ["/dev", "/proc"].iter().any(|it| path.starts_with(it))
        || path.starts_with("/sys") && !path.to_string_lossy().contains(&format!("-{pid}"));
    let text = path.to_str().unwrap_or("not UTF-8");
    if outside || !path.is_absolute() || text.contains("/journal-") {
        return None;
    }
    let inside = path.strip_prefix(root).unwrap_or(path);
    if let Ok(inside) = inside.strip_prefix("data/fs") {
        let depth = inside.components().count();
        return Some(if depth == 0 { "fs" } else { "fs/…" }.to_owned());
    }
    Some(without_numbers(&inside.to_string_lossy()))
}

/// Without runs of digits, and without long ones of hexadecimal digits.
pub fn without_numbers(text: &str) -> String {
    let mut named = String::new();
    let mut run = String::new();
    for letter in text.chars().chain(['/']) {
        if letter.is_ascii_hexdigit() {
            run.push(letter);
            continue;
        }
        if run.len() >= 8 {
            named.push('*');
        } else {
            for letter in run.chars() {
                let is_digit = letter.is_ascii_digit();
                if !is_digit || !named.ends_with('N') {
                    named.push(if is_digit { 'N' } else { letter });
                }
            }
        }
        run.clear();
        named.push(letter);
    }
    named.pop();
    named
}
