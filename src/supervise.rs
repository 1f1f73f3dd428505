//! The machines at work: one event loop around the pure supervisor, and the executor
//! that carries out its commands.

pub mod automatic;
mod child;
pub mod event_loop;
mod executor;
pub mod handle;
mod hook;
mod incarnation;
pub mod output;
pub mod outside;
mod probe;
mod programs;
mod readiness;
pub mod reload;
mod roster;
pub mod sockets;
pub mod status;
mod timer;
pub mod tree_freezer;

pub use event_loop::{EventLoop, Parts};
pub use handle::{Handle, Refusal};
pub use incarnation::Who;
pub use reload::Reloader;
pub use status::Status;
