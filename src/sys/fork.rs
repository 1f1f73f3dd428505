//! Starting a program that must do something to itself first, or that is to begin its life
//! in a cgroup: `clone3(2)` puts it there at once, where moving it later would hold up
//! every fork on the machine and miss what it has started meanwhile.
#![allow(unsafe_code, reason = "part of the one audited module")]

use std::ffi::c_long;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::pipe::{PipeFlags, pipe_with};

use super::child_setup::{ChildSetup, set_up};
use super::posix_spawn::{Image, pointers};

/// From the kernel's `linux/sched.h`; the constant of libc is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What a kernel or a filter says that does not know how to clone into a cgroup.
const UNKNOWN: [Option<i32>; 5] = [
    Some(libc::ENOSYS),
    Some(libc::EPERM),
    Some(libc::E2BIG),
    Some(libc::EINVAL),
    Some(libc::EOPNOTSUPP),
];

/// A child that is about to become another program.
#[derive(Debug)]
pub struct Forked {
    /// Its process id.
    pub pid: i32,
    errors: OwnedFd,
}

impl Forked {
    /// Waits until the program runs, or returns why it could not be run: the child says so
    /// before it ends.
    #[must_use]
    pub fn failure(self) -> Option<io::Error> {
        let mut number = [0; 4];
        let read = File::from(self.errors).read_exact(&mut number);
        read.is_ok()
            .then(|| io::Error::from_raw_os_error(i32::from_ne_bytes(number)))
    }
}

/// Starts `image`, which does `setup` before it becomes the program, in `cgroup` if there is
/// one. Does not wait for that.
pub fn fork_and_exec(
    image: &Image<'_>,
    setup: &ChildSetup,
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<Forked> {
    let arguments = pointers(image.arguments);
    let environment = pointers(image.environment);
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let (pid, is_inside) = fork(cgroup)?;
    if pid == 0 {
        let outside = cgroup.filter(|_| !is_inside);
        // SAFETY: we are the child: both lists end with a null pointer and hold
        // NUL-terminated texts, and nothing of this copy of our memory is used again.
        let error = unsafe { become_program(image, setup, outside, &arguments, &environment) };
        let number = error.raw_os_error().unwrap_or(libc::EINVAL);
        let _ = rustix::io::write(writer.as_fd(), &number.to_ne_bytes());
        // SAFETY: ends the child at once, without running what is to run at our own end.
        unsafe { libc::_exit(127) };
    }
    Ok(Forked {
        pid,
        errors: reader,
    })
}

/// A copy of this thread as a process: its process id, or 0 in the child; and whether it is in
/// `cgroup`. Where the kernel or a filter has no `clone3`, it is not.
fn fork(cgroup: Option<BorrowedFd<'_>>) -> io::Result<(i32, bool)> {
    if let Some(cgroup) = cgroup {
        match clone_into(cgroup) {
            Ok(pid) => return Ok((pid, true)),
            Err(error) if UNKNOWN.contains(&error.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
    }
    // SAFETY: the child only makes system calls and does not return from its caller.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok((pid, cgroup.is_none())),
    }
}

fn clone_into(cgroup: BorrowedFd<'_>) -> io::Result<i32> {
    // SAFETY: all of it is integers, for which 0 is a value.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = CLONE_INTO_CGROUP;
    arguments.exit_signal = libc::SIGCHLD.cast_unsigned().into();
    arguments.cgroup = cgroup.as_raw_fd().cast_unsigned().into();
    // SAFETY: the structure is as large as we say. Without CLONE_VM the child has a copy of
    // our memory and goes on from here, as after a fork; it only makes system calls.
    let pid: c_long = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut arguments,
            size_of::<libc::clone_args>(),
        )
    };
    match i32::try_from(pid) {
        Ok(pid) if pid >= 0 => Ok(pid),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Only system calls are made here, and nothing is allocated: another thread of ours may have
/// held a lock at the moment of the `fork`. Returns why the program could not be run.
unsafe fn become_program(
    image: &Image<'_>,
    setup: &ChildSetup,
    cgroup: Option<BorrowedFd<'_>>,
    arguments: &[*mut libc::c_char],
    environment: &[*mut libc::c_char],
) -> io::Error {
    unsafe extern "C" {
        static mut environ: *const *mut libc::c_char;
    }
    let prepare = || -> io::Result<()> {
        if let Some(cgroup) = cgroup {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let procs = openat(cgroup, c"cgroup.procs", flags, Mode::empty())?;
            rustix::io::write(&procs, b"0")?;
        }
        for (number, stream) in (0..).zip(image.streams.iter().flatten()) {
            // SAFETY: a call on integers; what the number was before is closed here alone.
            if unsafe { libc::dup2(stream.as_raw_fd(), number) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        if !setup.owns_terminal {
            rustix::process::setpgid(None, None)?;
        }
        rustix::process::chdir(image.dir)?;
        set_up(setup)
    };
    if let Err(error) = prepare() {
        return error;
    }
    // SAFETY: our runtime ignores SIGPIPE, and what is ignored stays so in a program. This
    // copy of our memory is ours alone, so the environment can be replaced: the program is
    // looked for in the `PATH` that it gets. The caller vouches for the lists.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        environ = environment.as_ptr();
        libc::execvp(image.program.as_ptr(), arguments.as_ptr().cast());
    }
    io::Error::last_os_error()
}
