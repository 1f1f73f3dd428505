//! Commands that people run in the environment.

pub mod lines;
pub mod run;
pub mod sessions;

pub use run::{Event, Request, Runner};
pub use sessions::Sessions;
