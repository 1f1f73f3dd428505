//! The environment's files, for clients: read, write, list, change.
//!
//! Every path is looked up below one root (`fs.root`, or `/`): the kernel resolves it so
//! that neither `..` nor a link leads out (`openat2` with `RESOLVE_IN_ROOT`). Everything
//! here blocks.

pub mod change;
pub mod error;
pub mod list;
pub mod place;
pub mod read;
pub mod write;

pub use error::{Error, Result};
pub use place::{Files, Place};
