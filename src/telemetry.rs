//! What is recorded of us.

pub mod journal;
