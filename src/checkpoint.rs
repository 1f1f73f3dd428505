//! Checkpoints of the environment's directory, and restoring them in place.
//!
//! The chart `operation` decides what is done when; [`Engine`] does each piece of work
//! that it asks for, with a [`Driver`] for the directory and [`hooks`] for the
//! components' own commands. The driver here is [`CopyStore`]: a plain full copy.

mod copy_store;
pub mod driver;
mod durable;
pub mod engine;
pub mod hooks;
mod intent;
mod manifest;
pub mod order;
mod tree_copy;

pub use copy_store::CopyStore;
pub use driver::{Cancel, Driver, Error, Interrupted};
pub use engine::{Engine, Freezer, Job};
pub use hooks::Hooks;
pub use manifest::Manifest;
pub use order::{Line, Order, Progress, Request};
