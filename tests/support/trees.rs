//! Directory trees: making one of everything, and describing one so that two can be
//! compared entry by entry.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs as sys;

/// How a tree looks: what is told of each entry.
pub type Looks = BTreeMap<PathBuf, String>;

/// Bytes that cannot be compressed.
pub fn noise(random: &mut fastrand::Rng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

/// An access control list, as the kernel takes it (`struct posix_acl_xattr_header`): the owner, the
/// user 1234, the group, the mask and others, with these permissions.
pub fn access_list(permissions: [u16; 5]) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let who = [
        (1, NOBODY),
        (2, 1234),
        (4, NOBODY),
        (16, NOBODY),
        (32, NOBODY),
    ];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for ((tag, id), permissions) in who.into_iter().zip(permissions) {
        bytes.extend(u16::to_le_bytes(tag));
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// A capability of a file, as the kernel takes it (`struct vfs_cap_data`, revision 2).
pub fn capability(which: u8) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 2, 1 << which];
    bytes.resize(20, 0);
    bytes
}

/// Makes a tree with one of everything at `root`, which must exist.
pub fn make(root: &Path, is_root: bool) {
    let at = |name: &str| root.join(name);
    fs::write(at("plain"), "text\n").unwrap();
    fs::write(at("empty"), "").unwrap();
    fs::create_dir(at("empty-dir")).unwrap();
    fs::create_dir_all(at("deep/er/still")).unwrap();
    fs::write(at("deep/er/still/file"), vec![7; 100_000]).unwrap();
    symlink("plain", at("link")).unwrap();
    symlink("/nowhere/at/all", at("dangling")).unwrap();
    fs::hard_link(at("plain"), at("deep/hard-link")).unwrap();
    fs::write(at("secret"), "x").unwrap();
    fs::set_permissions(at("secret"), std::fs::Permissions::from_mode(0o4711)).unwrap();
    fs::set_permissions(at("empty-dir"), std::fs::Permissions::from_mode(0o1770)).unwrap();
    for name in ["a b", "newline\nin it", "-dash", "ünï", "*?[", ".hidden"] {
        fs::write(at(name), name).unwrap();
    }
    fs::write(root.join(OsStr::from_bytes(b"not-utf8-\xff\xfe")), "bytes").unwrap();
    let sparse = fs::File::create(at("sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"in the middle", 4 << 20).unwrap();
    sys::mknodat(
        sys::CWD,
        at("fifo"),
        sys::FileType::Fifo,
        sys::Mode::from_raw_mode(0o620),
        0,
    )
    .unwrap();
    // Not every filesystem has extended attributes; then there are none to compare.
    let flags = sys::XattrFlags::empty();
    let _ = sys::lsetxattr(at("plain"), "user.note", b"kept\0bytes", flags);
    let _ = sys::lsetxattr(at("deep"), "user.dir", b"too", flags);
    if is_root {
        std::os::unix::fs::lchown(at("secret"), Some(1234), Some(2345)).unwrap();
        std::os::unix::fs::lchown(at("link"), Some(4321), None).unwrap();
        fs::set_permissions(at("secret"), std::fs::Permissions::from_mode(0o4711)).unwrap();
        for (name, kind) in [
            ("null", sys::FileType::CharacterDevice),
            ("disk", sys::FileType::BlockDevice),
        ] {
            // A container may not be allowed to.
            let _ = sys::mknodat(
                sys::CWD,
                at(name),
                kind,
                sys::Mode::from_raw_mode(0o640),
                sys::makedev(1, 3),
            );
        }
        let _ = sys::lsetxattr(at("secret"), "security.capability", &capability(0), flags);
        let _ = sys::lsetxattr(at("link"), "trusted.link", b"of a link", flags);
    }
    let list = access_list([6, 4, 0, 4, 0]);
    let _ = sys::lsetxattr(at(".hidden"), "system.posix_acl_access", &list, flags);
    let _ = sys::lsetxattr(at("deep/er"), "system.posix_acl_default", &list, flags);
    for (name, time) in [
        ("plain", 1_000_000_000),
        ("deep/er", 1_234_567_890),
        ("link", 1),
    ] {
        let time = sys::Timespec {
            tv_sec: time,
            tv_nsec: 123_456_789,
        };
        let times = sys::Timestamps {
            last_access: time,
            last_modification: time,
        };
        sys::utimensat(sys::CWD, at(name), &times, sys::AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// Everything that can be seen of a tree, by path. Hard links are told by the first
/// path of their file, sparse files by having fewer blocks than bytes.
pub fn describe(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut first_names = BTreeMap::new();
    visit(root, Path::new(""), &mut found, &mut first_names);
    found
}

/// The extended attributes of what is at `path`.
fn attributes(path: &Path) -> String {
    let mut names = vec![0; 4096];
    let length = sys::llistxattr(path, &mut names).unwrap_or(0);
    let names = names[..length].split(|byte| *byte == 0);
    let mut names: Vec<_> = names.filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    let with_value = |name: &[u8]| {
        let mut value = vec![0; 4096];
        let length = sys::lgetxattr(path, OsStr::from_bytes(name), &mut value).unwrap_or(0);
        format!("{}={}", name.escape_ascii(), value[..length].escape_ascii())
    };
    names
        .into_iter()
        .map(with_value)
        .collect::<Vec<_>>()
        .join(" ")
}

fn visit(
    root: &Path,
    path: &Path,
    found: &mut BTreeMap<PathBuf, String>,
    first_names: &mut BTreeMap<u64, PathBuf>,
) {
    let full = root.join(path);
    let meta = fs::symlink_metadata(&full).unwrap();
    let content = if meta.is_symlink() {
        format!("-> {}", fs::read_link(&full).unwrap().display())
    } else if meta.is_file() {
        let bytes = fs::read(&full).unwrap();
        let sum = bytes.iter().fold(5381_u64, |sum, byte| {
            sum.wrapping_mul(33) ^ u64::from(*byte)
        });
        let sparse = meta.len() > 1 << 20 && meta.blocks() * 512 < meta.len();
        format!("{} bytes, sum {sum}, sparse {sparse}", meta.len())
    } else {
        String::new()
    };
    let first = (!meta.is_dir() && meta.nlink() > 1).then(|| {
        first_names
            .entry(meta.ino())
            .or_insert_with(|| path.to_owned())
            .clone()
    });
    let description = format!(
        "{:o} {}:{} {}.{:09} {:x} {:?} {} {content}",
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.rdev(),
        first,
        attributes(&full),
    );
    found.insert(path.to_owned(), description);
    if meta.is_dir() {
        let mut names: Vec<_> = fs::read_dir(&full)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        for name in names {
            visit(root, &path.join(name), found, first_names);
        }
    }
}
