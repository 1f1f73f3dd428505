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
        if let Some(bytes) = self.memory {
            fs::write(dir.join("memory.max"), bytes.to_string())?;
            // Without this the group swaps instead. Not every kernel has it.
            let _ = fs::write(dir.join("memory.swap.max"), "0");
        }
        if let Some(cpus) = self.cpus {
            let quota = (cpus * PERIOD).round();
            fs::write(dir.join("cpu.max"), format!("{quota} {PERIOD}"))?;
        }
        if let Some(pids) = self.pids {
            fs::write(dir.join("pids.max"), pids.to_string())?;
        }
        Ok(())
    }
}
