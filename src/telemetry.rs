//! What is recorded of us.

mod journal;
pub mod log_files;
pub mod logs;
pub mod recorder;
pub mod ring;
