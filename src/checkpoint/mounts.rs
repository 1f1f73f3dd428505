//! What is mounted, as `/proc/self/mounts` tells it (proc_pid_mounts(5)).

use std::fs;
use std::path::{Path, PathBuf};

use super::driver::{Context as _, Error};

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted: `/dev/loop0`.
    pub device: String,
    /// Where.
    pub at: PathBuf,
    /// The kind of filesystem.
    pub kind: String,
    /// Its options, with commas in between.
    pub options: String,
}

impl Mount {
    fn of_line(line: &str) -> Option<Self> {
        let mut words = line.split(' ').map(plain);
        Some(Self {
            device: words.next()?,
            at: words.next()?.into(),
            kind: words.next()?,
            options: words.next()?,
        })
    }

    /// Whether one of its options is this.
    pub fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|has| has == option)
    }
}

/// A word without the escapes for what would end it.
fn plain(word: &str) -> String {
    let escapes = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    let replaced = |word: String, (escape, is): (&str, &str)| word.replace(escape, is);
    escapes.into_iter().fold(word.to_owned(), replaced)
}

/// All mounts that we see, the newest last.
pub fn all() -> Result<Vec<Mount>, Error> {
    let path = Path::new("/proc/self/mounts");
    let lines = fs::read_to_string(path).context("read", path)?;
    Ok(lines.lines().filter_map(Mount::of_line).collect())
}

/// What is mounted at `path`, uppermost; none if nothing is.
pub fn at(path: &Path) -> Result<Option<Mount>, Error> {
    // The kernel's paths are without links.
    let path = fs::canonicalize(path).context("look at", path)?;
    Ok(all()?.into_iter().rev().find(|mount| mount.at == path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_mount() {
        let line = "/dev/loop0 /a\\040b/c\\134d ext4 rw,noatime 0 0";
        let mount = Mount::of_line(line).unwrap();
        assert_eq!(
            (mount.device.as_str(), mount.kind.as_str()),
            ("/dev/loop0", "ext4")
        );
        assert_eq!(mount.at, Path::new("/a b/c\\d"));
        assert!(mount.has("noatime") && !mount.has("no"));
        assert_eq!(Mount::of_line("nothing"), None);
        let proc = at(Path::new("/proc")).unwrap();
        assert_eq!(proc.unwrap().kind, "proc");
    }
}
