//! What a group uses of the machine.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// What everything in a group uses, as far as the kernel tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time since the group was made.
    pub cpu: Option<Duration>,
    /// Bytes of memory; only where the group has that controller.
    pub memory: Option<u64>,
    /// How many processes there are.
    pub processes: u32,
}

impl Usage {
    /// That of the group at `dir`; nothing if there is none.
    pub(super) fn of(dir: &Path) -> Self {
        let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
        let cpu = read("cpu.stat").and_then(|stat| {
            let micros = stat
                .lines()
                .find_map(|line| line.strip_prefix("usage_usec "))?;
            micros.parse().ok().map(Duration::from_micros)
        });
        Self {
            cpu,
            memory: read("memory.current").and_then(|bytes| bytes.trim().parse().ok()),
            processes: u32::try_from(super::members(dir).len()).unwrap_or(u32::MAX),
        }
    }
}
