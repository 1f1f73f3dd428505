//! What a group may use of the machine.

use std::fs;
use std::io::{self, Write as _};
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
        let memory = self.memory.map(|bytes| bytes.to_string());
        set(dir, "memory.max", memory.as_deref())?;
        // Without this the group swaps instead. Not every kernel has it.
        let _ = set(dir, "memory.swap.max", memory.map(|_| "0"));
        let quota = self.cpus.map(|cpus| (cpus * PERIOD).round());
        let cpu = quota.map(|quota| format!("{quota} {PERIOD}"));
        set(dir, "cpu.max", cpu.as_deref())?;
        let pids = self.pids.map(|pids| pids.to_string());
        set(dir, "pids.max", pids.as_deref())
    }
}

/// Sets one limit. Where there is none, there may be no such file either. (To open it as one that
/// may be made would be forbidden then, instead of telling that it is not there.)
fn set(dir: &Path, file: &str, limit: Option<&str>) -> io::Result<()> {
    let text = limit.unwrap_or("max");
    let opened = fs::OpenOptions::new().write(true).open(dir.join(file));
    match opened.and_then(|mut file| file.write_all(text.as_bytes())) {
        Err(error) if limit.is_none() && error.kind() == io::ErrorKind::NotFound => Ok(()),
        written => written,
    }
}
