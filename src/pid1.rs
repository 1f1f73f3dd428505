//! What an init does: it takes in orphans, forwards signals and leaves nothing behind.

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

/// Whether we are PID 1 of our PID namespace.
#[must_use]
pub fn is_pid_1() -> bool {
    rustix::process::getpid().is_init()
}
