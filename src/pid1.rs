//! What an init does: it prepares a bare machine, takes in orphans, forwards signals and leaves
//! nothing behind.

pub mod init;
pub mod signals;
pub mod sweep;
pub mod tree;

use std::io;

/// Makes orphans of our tree come to us. PID 1 gets them anyway; others must ask to be
/// a child subreaper. Where another init is PID 1, it loses nothing that is its own.
pub fn adopt_orphans(subreaper: bool) -> io::Result<()> {
    if is_pid_1() || !subreaper {
        return Ok(());
    }
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    Ok(())
}

/// Has the kernel send us `signal` when our parent ends: the thread that started us, that
/// is. It may have ended before; then we get it now.
pub fn end_with_parent(signal: i32) -> io::Result<()> {
    let parent = rustix::process::getppid();
    let known = rustix::process::Signal::from_named_raw(signal);
    let known = known.ok_or_else(|| io::Error::other("only a standard signal can be given"))?;
    rustix::process::set_parent_process_death_signal(Some(known))?;
    if rustix::process::getppid() != parent {
        crate::sys::kill(std::process::id().cast_signed(), signal)?;
    }
    Ok(())
}

/// Whether we are PID 1 of our PID namespace.
#[must_use]
pub fn is_pid_1() -> bool {
    rustix::process::getpid().is_init()
}

const OOM_SCORE_ADJ: &str = "/proc/self/oom_score_adj";

/// Has the kernel look for others than us when memory runs out, where we are PID 1 of a
/// container and may ask for that: our end would be everybody's. The PID 1 of a whole
/// machine is never chosen. Returns what was so before, which children go back to.
#[must_use]
pub fn protect_from_oom() -> Option<i32> {
    if !is_pid_1() || init::is_machine() {
        return None;
    }
    let before = std::fs::read_to_string(OOM_SCORE_ADJ).ok()?;
    let before = before.trim().parse().ok()?;
    std::fs::write(OOM_SCORE_ADJ, "-1000").ok()?;
    Some(before)
}
