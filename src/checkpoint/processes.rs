//! Where the kernel says what processes do.

use std::fs;
use std::path::PathBuf;

/// The directories in `/proc` of `processes`; of all but this one without that, whose open files
/// are the store's and not the environment's.
pub fn directories(processes: Option<&[i32]>) -> Vec<PathBuf> {
    if let Some(pids) = processes {
        let pids = pids.iter();
        return pids.map(|pid| format!("/proc/{pid}").into()).collect();
    }
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ours = std::process::id();
    let others = all.filter(|entry| {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        pid.is_some_and(|pid: u32| pid != ours)
    });
    others.map(|entry| entry.path()).collect()
}
