//! Checkpoints as archives: tar, compressed with zstd, that other programs can read and
//! another environment can import.
//!
//! ```text
//! checkpoint.json   what is known of it: see [`About`]
//! fs/…              the environment's tree
//! components/…      what components kept, if there is anything
//! ```
//!
//! Headers are GNU's; times below the second and extended attributes are in pax records
//! (`mtime`, `SCHILY.xattr.*`). The first name of a file with several is the file, the others
//! are links to it. Holes are zeros, which take no room when compressed.

mod content;
mod export;
mod import;
mod members;
mod tree;

use std::io;

use serde::{Deserialize, Serialize};

pub use self::export::export;
pub use self::import::{Imported, import};
use crate::checkpoint::driver::Error;

/// What an archive of ours begins with.
const ABOUT: &str = "checkpoint.json";
/// The directory with the environment's tree.
const TREE: &str = "fs";
/// The directory with what components kept.
const COMPONENTS: &str = "components";
/// What the key of a pax record with an extended attribute begins with.
const ATTRIBUTE: &str = "SCHILY.xattr.";
/// How long a name in a header can be; longer ones have an entry of their own before it.
const NAME: usize = 100;

/// What is known of a checkpoint in an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The version of this layout.
    pub sprite_checkpoint: u32,
    /// Its id where it was made.
    pub id: String,
    /// When its instant was: RFC 3339, UTC.
    pub create_time: String,
    /// What its maker said about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub comment: Option<String>,
    /// What could not be captured, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<String>,
}

/// The version of the layout that this program writes, and the newest that it reads.
const VERSION: u32 = 1;

/// That an archive cannot be imported.
fn refuse(why: impl Into<String>) -> io::Error {
    io::Error::other(Error::Archive(why.into()))
}
