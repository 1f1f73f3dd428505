//! What a child does to itself between `fork` and `exec`.
//!
//! Only system calls are made there, and nothing is allocated: another thread of ours may
//! have held a lock at the moment of the `fork`.
#![allow(unsafe_code, reason = "part of the one audited module")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Gid, Resource, Rlimit, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_thread_gid, set_thread_groups, set_thread_uid,
};

use super::SignalMask;

/// What a child does to itself.
#[derive(Clone, Debug)]
pub struct ChildSetup {
    /// The signals that are to be blocked in it.
    pub mask: SignalMask,
    /// The user and group that it becomes.
    pub user: Option<(Uid, Gid)>,
    /// The supplementary groups that it gets.
    pub groups: Option<Vec<Gid>>,
    /// The terminal whose foreground process group it becomes.
    pub foreground_of: Option<RawFd>,
    /// Whether its standard input is a terminal that it is to have for itself, in a
    /// session of its own.
    pub owns_terminal: bool,
    /// The permissions that its files do not get.
    pub umask: Option<u32>,
    /// How nice it is.
    pub nice: Option<i32>,
    /// What it writes to `/proc/self/oom_score_adj`.
    pub oom_score_adj: Option<String>,
    /// Its limits.
    pub rlimits: Vec<(Resource, Rlimit)>,
    /// The capabilities that it keeps; none = all.
    pub capabilities: Option<CapabilitySet>,
    /// Whether it can get no more rights.
    pub no_new_privs: bool,
    /// The files that it is given, by the numbers that it knows them by. Our own files
    /// must have other numbers (see [`reserve_descriptors`]).
    pub descriptors: Vec<(RawFd, Arc<OwnedFd>)>,
}

/// Does `setup` to ourselves: only system calls, nothing is allocated.
pub(super) fn set_up(setup: &ChildSetup) -> io::Result<()> {
    if setup.owns_terminal {
        own_terminal()?;
    }
    if let Some(terminal) = setup.foreground_of {
        take_foreground(terminal)?;
    }
    for (number, file) in &setup.descriptors {
        give(file.as_raw_fd(), *number)?;
    }
    if let Some(adj) = &setup.oom_score_adj {
        let path = c"/proc/self/oom_score_adj";
        let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(file.as_fd(), adj.as_bytes())?;
    }
    if let Some(nice) = setup.nice {
        rustix::process::setpriority_process(None, nice)?;
    }
    for (resource, limit) in &setup.rlimits {
        rustix::process::setrlimit(*resource, *limit)?;
    }
    if let Some(kept) = setup.capabilities {
        bound_capabilities(kept)?;
    }
    // Not by the C library, which would have all our threads do the same, and wait for them:
    // in this process they are not. Only root may set groups; anybody may keep what they have.
    if let Some(groups) = &setup.groups
        && rustix::process::geteuid().is_root()
    {
        set_thread_groups(groups)?;
    }
    if let Some((uid, gid)) = setup.user {
        set_thread_gid(gid)?;
        set_thread_uid(uid)?;
    }
    if let Some(kept) = setup.capabilities {
        keep_capabilities(kept)?;
    }
    if setup.no_new_privs {
        rustix::thread::set_no_new_privs(true)?;
    }
    if let Some(mask) = setup.umask {
        rustix::process::umask(Mode::from_raw_mode(mask));
    }
    set_mask(&setup.mask)
}

fn set_mask(mask: &SignalMask) -> io::Result<()> {
    // SAFETY: the mask is an initialised sigset_t; the old one is not asked for.
    match unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const mask.0, std::ptr::null_mut())
    } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Makes our process group the terminal's foreground one.
fn take_foreground(terminal: RawFd) -> io::Result<()> {
    let mut ttou = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set before it is read; the rest are calls
    // on integers. SIGTTOU is blocked because a background process that calls
    // tcsetpgrp would be stopped by it.
    let result = unsafe {
        libc::sigemptyset(ttou.as_mut_ptr());
        libc::sigaddset(ttou.as_mut_ptr(), libc::SIGTTOU);
        libc::pthread_sigmask(libc::SIG_BLOCK, ttou.as_ptr(), std::ptr::null_mut());
        libc::tcsetpgrp(terminal, libc::getpgrp())
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Begins a session whose controlling terminal is the one on standard input.
fn own_terminal() -> io::Result<()> {
    // SAFETY: calls on integers.
    unsafe {
        if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Gives the file that we know as `from` the number `to`, which stays open in the program.
fn give(from: RawFd, to: RawFd) -> io::Result<()> {
    // SAFETY: a call on integers; what `to` was before is closed in this process only.
    match unsafe { libc::dup2(from, to) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Nothing that runs from here on, with whatever rights, has more than `kept`.
fn bound_capabilities(kept: CapabilitySet) -> io::Result<()> {
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        // The kernel knows fewer than there are bits.
        let known = rustix::thread::capability_is_in_bounding_set(capability);
        if known.unwrap_or(false) && !kept.contains(capability) {
            rustix::thread::remove_capability_from_bounding_set(capability)?;
        }
    }
    // What is kept survives the change of user; without one this means nothing.
    rustix::thread::set_keep_capabilities(true)?;
    Ok(())
}

/// We have `kept` and nothing else, and so has the program, whoever it runs as.
fn keep_capabilities(kept: CapabilitySet) -> io::Result<()> {
    let ours = rustix::thread::capabilities(None)?;
    let kept = kept & ours.permitted;
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: kept,
    };
    rustix::thread::set_capabilities(None, sets)?;
    rustix::thread::clear_ambient_capability_set()?;
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if kept.contains(capability) {
            rustix::thread::configure_capability_in_ambient_set(capability, true)?;
        }
    }
    Ok(())
}

/// Keeps the numbers below 16 from our own files: children are given files by these.
/// Call it before any are opened that stay.
pub fn reserve_descriptors() -> io::Result<()> {
    let null = rustix::fs::open(
        c"/dev/null",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    loop {
        let copy = rustix::io::fcntl_dupfd_cloexec(&null, 3)?;
        if copy.as_raw_fd() > 15 {
            return Ok(());
        }
        // It stays open for as long as we live.
        std::mem::forget(copy);
    }
}
