//! Checkpoints of the environment's directory, and restoring them in place.
//!
//! The chart `operation` decides what is done when; [`Engine`] does each piece of work
//! that it asks for, with a [`Driver`] for the directory and [`hooks`] for the
//! components' own commands. The driver here is [`Store`]: objects named by their hashes.

pub mod driver;
mod durable;
pub mod engine;
pub mod hooks;
mod intent;
pub mod juicefs;
mod manifest;
mod mapped;
pub mod meter;
mod mounts;
mod open_files;
pub mod order;
mod processes;
pub mod replication;
mod store;
pub mod volume;

pub use driver::{
    Cancel, Collected, Difference, Driver, Error, Interrupted, Listed, Look, Verified,
};
pub use engine::{Engine, Freezer, Job};
pub use hooks::Hooks;
pub use manifest::Manifest;
pub use meter::Measured;
pub use order::{Line, Order, Progress, Request};
pub use replication::Replication;
pub use store::Store;
