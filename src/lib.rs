//! sprite-env: a PID-1 supervisor for one persistent environment.
//!
//! Everything that decides is in the crate `machines`; everything that has an effect
//! is here. `cli` reads what is wanted, `supervise` runs the one event loop, `pid1`
//! owns signals and the process tree, `cgroups` the groups that it is in, `api` serves
//! people, `exec` runs their commands, `checkpoint` keeps the environment's directory,
//! `network` reaches its ports.

pub mod api;
pub mod cgroups;
pub mod checkpoint;
pub mod cli;
pub mod clock;
pub mod config;
pub mod diagrams;
pub mod error;
pub mod exec;
pub mod files;
pub mod http;
pub mod network;
pub mod pid1;
pub mod reaper;
pub mod spawn;
pub mod supervise;
pub mod sys;
pub mod telemetry;
