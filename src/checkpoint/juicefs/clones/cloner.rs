//! Clones of images: JuiceFS copies which blocks a file has, and not what is in them.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::super::super::driver::{Cancel, Context as _, Error};
use super::super::super::durable;
use super::super::Volume;

/// The versions of JuiceFS whose mounts are asked as it is done here.
const UNDERSTOOD: &str = "1.4.";
/// What `juicefs clone` asks a mount for: `meta.Clone`, with what follows in `cmd/clone.go`.
const CLONE: u32 = 1006;
/// Keep the owner and the mode.
const PRESERVE: u8 = 1;
/// So many entries at once; there is one.
const AT_ONCE: u8 = 1;
/// What an answer begins with that says how far it is, and how long that is.
const PROGRESS: u8 = 0xfe;
const LENGTH_OF_PROGRESS: usize = 17;
/// The mount does not tell when there is an answer.
const ASK_AGAIN: Duration = Duration::from_millis(1);

/// Makes clones.
#[derive(Debug)]
pub struct Cloner {
    /// Where the mount takes requests, if it understands ours.
    control: Option<File>,
}

/// What a mount says of itself.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Mounted {
    version: String,
}

/// Opens where the mount takes requests, if it is one that we understand.
fn open_control(root: &Path) -> io::Result<File> {
    let text = fs::read(root.join(".config"))?;
    let mounted: Mounted = serde_json::from_slice(&text)?;
    if !mounted.version.starts_with(UNDERSTOOD) {
        let why = format!("version {} may be asked otherwise", mounted.version);
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    let mut options = File::options();
    options.read(true).write(true).open(root.join(".control"))
}

impl Cloner {
    /// For what is on this volume.
    pub fn on(volume: &Volume) -> Self {
        let control = open_control(&volume.mount_point());
        if let Err(error) = &control {
            tracing::info!("JuiceFS is not asked for clones, which take longer: {error}");
        }
        Self {
            control: control.ok(),
        }
    }

    /// Clones an image that nobody writes to: as `juicefs clone` does it, which takes a tenth of a
    /// second to start, or else, which takes three to four times as long, as the kernel does.
    pub fn clone_image(self, from: &Path, to: &Path, cancel: &Cancel) -> Result<(), Error> {
        cancel.check()?;
        let length = flushed_length(from)?;
        let is_cloned = match self.control {
            Some(control) => request(control, from, to, cancel)?,
            None => false,
        };
        if !is_cloned {
            copy_ranges(from, to, length, cancel)?;
        }
        let cloned = fs::metadata(to).context("look at", to)?.len();
        if cloned != length {
            return Err(Error::Damaged {
                path: to.to_owned(),
                why: format!("has {cloned} bytes, and should have {length}"),
            });
        }
        Ok(())
    }
}

/// Has what was written to an image become blocks; its length. JuiceFS ignores the flush of a file
/// that cannot be written.
fn flushed_length(image: &Path) -> Result<u64, Error> {
    let mut options = File::options();
    let file = options.read(true).write(true).open(image);
    let file = file.context("open", image)?;
    file.sync_all().context("flush", image)?;
    Ok(file.metadata().context("look at", image)?.len())
}

/// What asks for a clone.
fn message(from: &Path, to: &Path) -> Result<Vec<u8>, Error> {
    let inode = |path: &Path| fs::metadata(path).context("look at", path);
    let parent = |path: &Path| inode(path.parent().unwrap_or(path));
    let name = to.file_name().unwrap_or_default().as_bytes();
    let length = u8::try_from(name.len()).map_err(io::Error::other);
    let mut message = vec![];
    for file in [inode(from)?, parent(from)?, parent(to)?] {
        message.extend(file.ino().to_be_bytes());
    }
    message.push(length.context("name", to)?);
    message.extend(name);
    // What the mask would take away, were it not to be preserved.
    message.extend(0_u16.to_be_bytes());
    message.extend([PRESERVE, AT_ONCE]);
    let length = u32::try_from(message.len()).map_err(io::Error::other);
    let length = length.context("name", to)?;
    let head = [CLONE.to_be_bytes(), length.to_be_bytes()].concat();
    Ok([head, message].concat())
}

/// Asks the mount for a clone, and waits for it; whether it was not interrupted. A request is when
/// anybody closes the file, as each program does that is started meanwhile.
fn request(mut control: File, from: &Path, to: &Path, cancel: &Cancel) -> Result<bool, Error> {
    let message = message(from, to)?;
    control.write_all(&message).context("clone to", to)?;
    let mut answer = vec![];
    loop {
        let mut part = [0; 4096];
        let read = match control.read(&mut part) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.context("clone to", to)?,
        };
        answer.extend(part.iter().take(read));
        match result(&answer).map(i32::from) {
            Some(0) => return Ok(true),
            Some(libc::EINTR | libc::ECANCELED) => {
                tracing::info!("JuiceFS was interrupted while it cloned");
                durable::remove_file(to)?;
                return Ok(false);
            }
            Some(error) => {
                let error = io::Error::from_raw_os_error(error);
                return Err(error).context("clone to", to);
            }
            None => cancel.check()?,
        }
        if read == 0 {
            std::thread::sleep(ASK_AGAIN);
        }
    }
}

/// The number of the error that an answer ends with, 0 for none; nothing if it has not ended.
fn result(answer: &[u8]) -> Option<u8> {
    let mut parts = answer;
    while parts.first() == Some(&PROGRESS) {
        parts = parts.get(LENGTH_OF_PROGRESS..)?;
    }
    parts.first().copied()
}

/// Has the kernel ask for all that is in a file.
fn copy_ranges(from: &Path, to: &Path, length: u64, cancel: &Cancel) -> Result<(), Error> {
    let image = File::open(from).context("open", from)?;
    let mut options = File::options();
    let clone = options.write(true).create_new(true).mode(0o600).open(to);
    let clone = clone.context("create", to)?;
    let (mut read, mut written) = (0, 0);
    while written < length {
        cancel.check()?;
        let left = usize::try_from(length - written).unwrap_or(usize::MAX);
        let (there, here) = (Some(&mut read), Some(&mut written));
        let copied = rustix::fs::copy_file_range(&image, there, &clone, here, left);
        if copied.context("clone to", to)? == 0 {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_with_an_error_or_none() {
        let progress = [&[PROGRESS][..], &[0; 16]].concat();
        assert_eq!(result(&[]), None);
        assert_eq!(result(&progress[..9]), None);
        assert_eq!(result(&progress), None);
        assert_eq!(result(&[&progress[..], &progress, &[0]].concat()), Some(0));
        assert_eq!(result(&[122]), Some(122));
    }
}
