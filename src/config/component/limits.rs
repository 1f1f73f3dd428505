//! What processes may use of the machine.

use crate::cgroups::ResourceLimits;
use crate::config::origin::{Ledger, from_file};
use crate::config::raw;
use crate::config::value::parse_size;

/// More the kernel has on no machine (`PID_MAX_LIMIT`), and takes for no limit.
const MOST_PIDS: u64 = 4 << 20;

/// The least memory that anything runs in.
const SMALLEST: u64 = 1 << 20;

/// Reads it.
pub fn limits(key: &str, raw: Option<&raw::ResourceLimits>, ledger: &mut Ledger) -> ResourceLimits {
    let Some(raw) = raw else {
        return ResourceLimits::default();
    };
    let (memory, cpus, pids) = (
        format!("{key}.memory"),
        format!("{key}.cpus"),
        format!("{key}.pids"),
    );
    let text = ledger.pick_optional(&memory, [from_file(raw.memory.as_ref())]);
    let bytes = text.as_deref().map(|text| (text, parse_size(text)));
    if let Some((text, bytes)) = bytes
        && bytes.is_none_or(|bytes| bytes < SMALLEST)
    {
        let why = format!("\"{text}\" is no size of at least 1M, such as 500M or 2G");
        ledger.wrong(&memory, why);
    }
    let limits = ResourceLimits {
        memory: bytes.and_then(|(_, bytes)| bytes),
        cpus: ledger.pick_optional(&cpus, [from_file(raw.cpus.as_ref())]),
        pids: ledger.pick_optional(&pids, [from_file(raw.pids.as_ref())]),
    };
    // The kernel takes no less than 1 ms in 100 ms.
    if limits
        .cpus
        .is_some_and(|cpus| !(0.01..=4096.0).contains(&cpus))
    {
        ledger.wrong(&cpus, "must be from 0.01 to 4096 processors");
    }
    if limits
        .pids
        .is_some_and(|most| !(1..=MOST_PIDS).contains(&most))
    {
        ledger.wrong(&pids, format!("must be from 1 to {MOST_PIDS}"));
    }
    limits
}
