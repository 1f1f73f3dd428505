//! What is recorded of us.

mod journal;
pub mod log_files;
pub mod logs;
pub mod recorder;
pub mod ring;

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Renames `path` to `….1`, that to `….2` and so on; `keep` of them stay.
fn rotate(path: &Path, keep: u32) -> io::Result<()> {
    let numbered = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        PathBuf::from(name)
    };
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    for number in (0..keep).rev() {
        match fs::rename(numbered(number), numbered(number + 1)) {
            Err(error) if !gone(&error) => return Err(error),
            _ => {}
        }
    }
    match fs::remove_file(path) {
        Err(error) if !gone(&error) => Err(error),
        _ => Ok(()),
    }
}
