//! Starting a program without copying our page tables: `posix_spawn(3)` shares our memory
//! with the child until the program runs, which takes a fraction of what `fork` does. The
//! standard library uses it too, but cannot give the child a signal mask that way, and
//! ours blocks everything.
#![allow(unsafe_code, reason = "part of the one audited module")]

use std::ffi::{CStr, CString, c_char, c_int, c_short};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

use super::SignalMask;

/// What to start, in a process group of its own.
#[derive(Debug)]
pub struct Image<'a> {
    /// The program: a path, or a name that is looked for in `PATH`: in our own by
    /// [`posix_spawn`], in its own by [`super::fork::fork_and_exec`].
    pub program: &'a CStr,
    /// Its arguments, its own name first.
    pub arguments: &'a [CString],
    /// Its environment: `NAME=VALUE`.
    pub environment: &'a [CString],
    /// Where it runs.
    pub dir: &'a CStr,
    /// Its standard input, output and error; none = ours.
    pub streams: Option<[BorrowedFd<'a>; 3]>,
}

/// Starts `image` with the signals of `mask` blocked; returns its process id. Blocks until the
/// program runs or could not be run; then nothing of it is left.
pub fn posix_spawn(image: &Image<'_>, mask: &SignalMask) -> io::Result<i32> {
    let arguments = pointers(image.arguments);
    let environment = pointers(image.environment);
    let actions = actions(image)?;
    let attributes = attributes(mask)?;
    let mut pid = 0;
    // SAFETY: all pointers are to initialised values that outlive the call; both lists end
    // with a null pointer and hold NUL-terminated texts, which the call does not change.
    check(unsafe {
        libc::posix_spawnp(
            &raw mut pid,
            image.program.as_ptr(),
            &raw const actions.0,
            &raw const attributes.0,
            arguments.as_ptr(),
            environment.as_ptr(),
        )
    })?;
    Ok(pid)
}

pub(super) fn pointers(texts: &[CString]) -> Vec<*mut c_char> {
    let texts = texts.iter().map(|text| text.as_ptr().cast_mut());
    texts.chain([ptr::null_mut()]).collect()
}

/// These functions return the error instead of setting `errno`.
fn check(error: c_int) -> io::Result<()> {
    match error {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

struct Actions(libc::posix_spawn_file_actions_t);

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: it is initialised, and not used again.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

fn actions(image: &Image<'_>) -> io::Result<Actions> {
    let mut actions = MaybeUninit::uninit();
    // SAFETY: the call initialises what it points to when it returns 0.
    let mut actions = unsafe {
        check(libc::posix_spawn_file_actions_init(actions.as_mut_ptr()))?;
        Actions(actions.assume_init())
    };
    for (target, stream) in (0..).zip(image.streams.iter().flatten()) {
        // SAFETY: the list is initialised; the rest are integers.
        check(unsafe {
            libc::posix_spawn_file_actions_adddup2(&raw mut actions.0, stream.as_raw_fd(), target)
        })?;
    }
    // SAFETY: the list is initialised, and the text is copied into it.
    check(unsafe {
        libc::posix_spawn_file_actions_addchdir_np(&raw mut actions.0, image.dir.as_ptr())
    })?;
    Ok(actions)
}

struct Attributes(libc::posix_spawnattr_t);

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: it is initialised, and not used again.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}

fn attributes(mask: &SignalMask) -> io::Result<Attributes> {
    let mut attributes = MaybeUninit::uninit();
    let mut pipe = MaybeUninit::uninit();
    let flags =
        libc::POSIX_SPAWN_SETPGROUP | libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
    // SAFETY: the first call initialises the attributes when it returns 0, sigemptyset the
    // set; the others read the set, the mask and integers, and copy them.
    unsafe {
        check(libc::posix_spawnattr_init(attributes.as_mut_ptr()))?;
        let mut attributes = Attributes(attributes.assume_init());
        let all = &raw mut attributes.0;
        check(libc::posix_spawnattr_setflags(
            all,
            c_short::try_from(flags).unwrap_or_default(),
        ))?;
        check(libc::posix_spawnattr_setpgroup(all, 0))?;
        check(libc::posix_spawnattr_setsigmask(all, &raw const mask.0))?;
        // Our runtime ignores it, and what is ignored stays so in a program.
        libc::sigemptyset(pipe.as_mut_ptr());
        libc::sigaddset(pipe.as_mut_ptr(), libc::SIGPIPE);
        check(libc::posix_spawnattr_setsigdefault(all, pipe.as_ptr()))?;
        Ok(attributes)
    }
}
