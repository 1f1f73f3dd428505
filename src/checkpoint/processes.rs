//! Where the kernel says what processes do.

use std::fs;
use std::path::PathBuf;

/// The directories in `/proc` of `processes`; of all that there are without that.
pub fn directories(processes: Option<&[i32]>) -> Vec<PathBuf> {
    if let Some(pids) = processes {
        let pids = pids.iter();
        return pids.map(|pid| format!("/proc/{pid}").into()).collect();
    }
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.map(|entry| entry.path()).collect()
}
