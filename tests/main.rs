//! Whole-program tests: the real binary with real processes. One file for each promise
//! of the README.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::zombie_processes,
    clippy::too_many_lines,
    clippy::cast_possible_wrap,
    reason = "tests"
)]

mod api;
mod archives;
mod attributes;
mod automatic;
mod boot;
mod bucket;
mod bucket_crashes;
mod bucket_owners;
mod bucket_weather;
mod bugs_of_others;
mod cgroups;
mod checkpoint_verbs;
mod checkpoints;
mod clones;
mod commands;
mod component_corners;
mod component_kinds;
mod component_parts;
mod config;
mod console;
mod control;
mod corners;
mod crashes;
mod databases;
mod diagrams;
mod encryption;
mod events;
mod exec;
mod exit_codes;
mod files;
mod full_disk;
mod histories;
mod hurry;
mod instants;
mod juicefs;
mod juicefs_bucket;
mod juicefs_clones;
mod juicefs_clones_fail;
mod juicefs_clones_kept;
mod juicefs_crashes;
mod juicefs_image;
mod juicefs_kills;
mod juicefs_many;
mod left_behind;
mod load;
mod logs;
mod machine;
mod metrics;
mod million;
mod mounted;
mod overlay;
mod places;
mod ports;
mod readiness;
mod recovery;
mod regressions;
mod reload;
mod reload_corners;
mod replay;
mod run_control;
mod sdks;
mod second_service;
mod sessions;
mod signals;
mod sockets;
mod sources;
mod stopping;
mod storage_components;
mod support;
mod terminal;
mod tree;
mod undone;
mod url_proxy;
