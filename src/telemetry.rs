//! What is recorded of us.

mod journal;
pub mod recorder;
pub mod ring;
