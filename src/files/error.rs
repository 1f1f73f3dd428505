//! What went wrong with a file, as the kernel names it.

use rustix::io::Errno;

/// What is returned here.
pub type Result<T> = std::result::Result<T, Error>;

/// Something that cannot be done with a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {what} {path}: {}", .why.as_deref().map_or_else(|| sentence(*.errno), str::to_owned))]
pub struct Error {
    /// What was to be done: `read`, `list`.
    pub what: &'static str,
    /// With which path, as the client named it.
    pub path: String,
    /// The kernel's number.
    pub errno: Errno,
    /// More than the number says.
    pub why: Option<String>,
}

impl Error {
    /// `what` with `path` failed with `errno`.
    #[must_use]
    pub fn new(what: &'static str, path: &str, errno: Errno) -> Self {
        Self {
            what,
            path: path.to_owned(),
            errno,
            why: None,
        }
    }

    /// The same from an error of the standard library.
    #[must_use]
    pub fn io(what: &'static str, path: &str, error: &std::io::Error) -> Self {
        let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
        Self {
            why: error.raw_os_error().is_none().then(|| error.to_string()),
            ..Self::new(what, path, errno)
        }
    }

    /// The request itself makes no sense.
    #[must_use]
    pub fn invalid(what: &'static str, path: &str, why: impl Into<String>) -> Self {
        Self {
            why: Some(why.into()),
            ..Self::new(what, path, Errno::INVAL)
        }
    }

    /// The number's name, as C has it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self.errno {
            Errno::NOENT => "ENOENT",
            Errno::EXIST => "EEXIST",
            Errno::NOTDIR => "ENOTDIR",
            Errno::ISDIR => "EISDIR",
            Errno::ACCESS => "EACCES",
            Errno::PERM => "EPERM",
            Errno::NOTEMPTY => "ENOTEMPTY",
            Errno::INVAL | Errno::NAMETOOLONG | Errno::LOOP | Errno::XDEV => "EINVAL",
            Errno::NOSPC => "ENOSPC",
            Errno::ROFS => "EROFS",
            Errno::BUSY => "EBUSY",
            _ => "EIO",
        }
    }
}

fn sentence(errno: Errno) -> String {
    match errno {
        Errno::NOENT => "no such file or directory".to_owned(),
        Errno::EXIST => "it exists already".to_owned(),
        Errno::NOTDIR => "it is not a directory".to_owned(),
        Errno::ISDIR => "it is a directory".to_owned(),
        Errno::ACCESS => "permission denied".to_owned(),
        Errno::NOTEMPTY => "the directory is not empty".to_owned(),
        Errno::XDEV => "it leads out of fs.root, or to another filesystem".to_owned(),
        other => std::io::Error::from(other).to_string(),
    }
}
