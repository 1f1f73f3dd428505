//! Commands that people run in the environment. Each is a [`session::Session`], which any
//! number of clients may watch.

pub mod history;
pub mod lines;
mod pump;
pub mod run;
pub mod session;
pub mod sessions;
pub mod start;
pub mod terminal;
mod unfinished;

pub use run::{Event, Request};
pub use session::{Attachment, Input, Linger, Output, Piece, Session};
pub use sessions::Sessions;
pub use start::{Runner, Spec};
