//! Files that are open for writing. The kernel does not tell of each change to them
//! (fanotify(7)): not of what libaio writes, nor of stores to a mapping that is gone while the
//! file is still open, and of one whose name has changed it names the directory that it was in.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::processes;

/// The inodes of the regular files on `device` (`st_dev`) that one of `processes` (none = any but
/// this one) has open for writing. What may not be looked at is left out.
pub fn inodes(processes: Option<&[i32]>, device: u64) -> HashSet<u64> {
    let mut inodes = HashSet::new();
    for process in processes::directories(processes) {
        let open = fs::read_dir(process.join("fd"));
        for descriptor in open.into_iter().flatten().flatten() {
            let Ok(looks) = fs::metadata(descriptor.path()) else {
                continue;
            };
            if looks.is_file()
                && looks.dev() == device
                && is_for_writing(&process.join("fdinfo").join(descriptor.file_name()))
            {
                inodes.insert(looks.ino());
            }
        }
    }
    inodes
}

/// What proc(5) says in `fdinfo`: the flags of open(2), in octal.
fn is_for_writing(information: &Path) -> bool {
    let text = fs::read_to_string(information).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_written_to_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["read", "written", "both"] {
            fs::write(path(name), "x").unwrap();
        }
        let _read = fs::File::open(path("read")).unwrap();
        let _written = fs::OpenOptions::new().append(true).open(path("written"));
        let both = fs::OpenOptions::new().read(true).write(true).clone();
        let _both = both.open(path("both")).unwrap();
        let looks = |name: &str| fs::metadata(path(name)).unwrap();
        let device = looks("read").dev();
        let ours = i32::try_from(std::process::id()).unwrap();
        let found = inodes(Some(&[ours]), device);
        assert!(found.contains(&looks("written").ino()));
        assert!(found.contains(&looks("both").ino()));
        assert!(!found.contains(&looks("read").ino()));
        assert!(!inodes(None, device).contains(&looks("both").ino()));
        assert!(!inodes(Some(&[ours]), device + 1).contains(&looks("both").ino()));
        assert!(inodes(Some(&[]), device).is_empty());
    }
}
