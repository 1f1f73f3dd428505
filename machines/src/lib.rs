//! The state machines of sprite-env: everything that decides, and nothing that acts.
//!
//! # Theory of operation
//!
//! **One event in; the machines take it to completion; all commands out. Nothing
//! else ever touches a machine.**
//!
//! Four charts (`system`, `component`, `process`, `operation`) are written with
//! `statig`. [`machine::Machine`] runs one of them, [`supervisor::Supervisor`] runs
//! them together: it takes an [`supervisor::Input`], delivers what the machines ask
//! of one another ([`delivery`]) until nothing is left, and returns a
//! [`supervisor::Reaction`]: the steps that were taken and the commands that the
//! world must carry out. What comes of a command arrives later, as another input.
//!
//! There is no I/O, no clock and no runtime in this crate. Time is an event
//! (`TimedOut`), and so is the death of a process. So the very code that supervises
//! can be explored ([`explore`]), drawn ([`render`]) and model-checked (`tests/model`).

#![forbid(unsafe_code)]

pub mod chart;
#[allow(
    missing_docs,
    reason = "statig 0.4.1 gives its generated `Superstate` no docs"
)]
pub mod component;
pub mod delivery;
pub mod exit;
pub mod explore;
pub mod journal;
pub mod machine;
#[cfg(feature = "model")]
pub mod model;
#[allow(
    missing_docs,
    reason = "statig 0.4.1 gives its generated `Superstate` no docs"
)]
pub mod operation;
#[allow(
    missing_docs,
    reason = "statig 0.4.1 gives its generated `Superstate` no docs"
)]
pub mod process;
pub mod render;
pub mod safety;
pub mod supervisor;
#[allow(
    missing_docs,
    reason = "statig 0.4.1 gives its generated `Superstate` no docs"
)]
pub mod system;
pub mod timer;
