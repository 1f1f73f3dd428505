//! Processes that are not the daemon under test.

use std::process::Command;

pub fn signal_process(pid: i32, signal: i32) {
    let status = Command::new("kill")
        .args([format!("-{signal}"), pid.to_string()])
        .status();
    assert!(status.is_ok());
}

/// The children of a process: those of all of its threads.
pub fn children(pid: i32) -> Vec<i32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let lists = threads
        .flatten()
        .map(|thread| thread.path().join("children"));
    let lists: String = lists
        .filter_map(|list| std::fs::read_to_string(list).ok())
        .collect();
    let children = lists.split_ascii_whitespace();
    children.map(|child| child.parse().unwrap()).collect()
}

/// Whether a process exists and has not ended.
pub fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest.trim_start());
    !state.is_empty() && !state.starts_with(['Z', 'X'])
}
