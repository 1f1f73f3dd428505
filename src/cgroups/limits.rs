//! What a group may use of the machine.

use std::fs;
use std::io;
use std::path::Path;

/// The period of `cpu.max` in microseconds: the kernel's own choice.
const PERIOD: f64 = 100_000.0;

/// What a group may use; none = as much as there is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResourceLimits {
    /// Memory in bytes; beyond it the kernel kills.
    pub memory: Option<u64>,
    /// Processor time, in processors.
    pub cpus: Option<f64>,
    /// How many processes and threads.
    pub pids: Option<u64>,
}

impl ResourceLimits {
    /// The controllers that are needed.
    pub fn controllers(&self) -> impl Iterator<Item = &'static str> {
        let needed = [
            (self.memory.is_some(), "memory"),
            (self.cpus.is_some(), "cpu"),
            (self.pids.is_some(), "pids"),
        ];
        needed
            .into_iter()
            .filter_map(|(is_needed, name)| is_needed.then_some(name))
    }

    /// Writes them to the files of the group at `dir`.
    pub(super) fn apply(&self, dir: &Path) -> io::Result<()> {
        set(
            dir,
            "memory.max",
            self.memory.map(|bytes| bytes.to_string()),
        )?;
        // Without this the group swaps instead. Not every kernel has it.
        let swap = self.memory.map(|_| "0".to_owned());
        let _ = set(dir, "memory.swap.max", swap);
        let quota = self.cpus.map(|cpus| (cpus * PERIOD).round());
        set(
            dir,
            "cpu.max",
            quota.map(|quota| format!("{quota} {PERIOD}")),
        )?;
        set(dir, "pids.max", self.pids.map(|pids| pids.to_string()))
    }
}

/// Sets one limit. Where there is none, there may be no such file either.
fn set(dir: &Path, file: &str, limit: Option<String>) -> io::Result<()> {
    match (
        fs::write(dir.join(file), limit.as_deref().unwrap_or("max")),
        limit,
    ) {
        (Err(error), None) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        (written, _) => written,
    }
}
