//! The environment's network: where its ports are reached, and which of them are open.

pub mod namespace;
pub mod ports;

pub use namespace::Namespace;
pub use ports::{Port, Ports};
