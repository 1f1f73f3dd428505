//! Reading a file.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::error::{Error, Result};
use super::place::Files;

impl Files {
    /// Opens a regular file for reading; its length in bytes, or 0 if that is not known:
    /// what the kernel makes up as it is read (in /proc and /sys) takes no blocks.
    pub fn read(&self, path: &Path) -> Result<(File, u64)> {
        let what = "read";
        // Without waiting for the other end of a pipe, which is refused then.
        let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK;
        let fd = self.open(what, path, flags)?;
        let text = path.display().to_string();
        let stat = rustix::fs::fstat(&fd).map_err(|errno| Error::new(what, &text, errno))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return Err(Error::new(what, &text, Errno::ISDIR)),
            _ => return Err(Error::invalid(what, &text, "it is not a regular file")),
        }
        let length = match stat.st_blocks {
            0 => 0,
            _ => u64::try_from(stat.st_size).unwrap_or(0),
        };
        Ok((File::from(fd), length))
    }
}
