//! The only unsafe code: system calls that no safe library offers in the form we need.
//!
//! Why each is here: signal masks and `signalfd` must cover real-time signals, which
//! the safe wrappers leave out; a child must get back the signal mask that we found at
//! our start, which can only be done between `fork` and `exec`, or by `posix_spawn`; file
//! handles, the extents of files and clones of some of them, network interfaces, the snapshots
//! of btrfs, the freezing of filesystems and a start within a cgroup have no wrapper at all.
#![allow(unsafe_code, reason = "the one audited module; see its doc")]

pub mod btrfs;
pub mod child_setup;
pub mod extents;
pub mod file_handle;
pub mod fork;
pub mod freeze;
pub mod posix_spawn;

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A set of blocked signals.
#[derive(Clone, Copy)]
pub struct SignalMask(libc::sigset_t);

impl std::fmt::Debug for SignalMask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignalMask")
    }
}

/// A signal as `signalfd` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its number.
    pub signal: i32,
    /// Whether another process sent it, rather than the kernel or ourselves.
    pub from_process: bool,
    /// What came with it, if it was queued with a value (sigqueue(3)).
    pub value: Option<usize>,
}

/// Blocks all signals in this thread and, by inheritance, in all that it starts.
/// Returns what was blocked before. As PID 1 a blocked signal is queued even though
/// its action is the default one, so nothing is lost before [`signalfd`] is read.
pub fn block_all_signals() -> io::Result<SignalMask> {
    let mut all = MaybeUninit::uninit();
    let mut before = MaybeUninit::uninit();
    // SAFETY: both point to storage for a sigset_t; sigfillset initialises `all`
    // before it is read, and pthread_sigmask initialises `before` when it returns 0.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        let error = libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        Ok(SignalMask(before.assume_init()))
    }
}

/// A descriptor from which blocked signals can be read, non-blocking.
pub fn signalfd() -> io::Result<OwnedFd> {
    let mut all = MaybeUninit::uninit();
    // SAFETY: sigfillset initialises the set; signalfd only reads it. The descriptor
    // that it returns is new and ours alone.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        let fd = libc::signalfd(-1, all.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Makes it possible to wait for what `fd` is to be watched for.
pub fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd stays the same open descriptor until it is dropped, and the
    // AsyncFd owns it and deregisters it before that.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}

/// Makes it possible to wait for a descriptor that others hold too.
pub fn watch_shared(fd: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    let interest = Interest::READABLE | Interest::WRITABLE;
    // SAFETY: as for `watch`: the Arc keeps the descriptor open and the same.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}

/// Reads one signal; `WouldBlock` if there is none.
pub fn read_signal(fd: BorrowedFd<'_>) -> io::Result<Received> {
    let mut info = MaybeUninit::<libc::signalfd_siginfo>::zeroed();
    let size = size_of::<libc::signalfd_siginfo>();
    // SAFETY: the buffer is as large as the length given; any bytes are a valid
    // signalfd_siginfo, which is made of integers.
    let (read, info) = unsafe {
        let read = libc::read(fd.as_raw_fd(), info.as_mut_ptr().cast(), size);
        (read, info.assume_init())
    };
    if read < 0 {
        return Err(io::Error::last_os_error());
    }
    if read.unsigned_abs() != size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Received {
        signal: i32::try_from(info.ssi_signo).unwrap_or(0),
        // Codes above 0 are the kernel's (siginfo: si_code). The SIGPIPE of our own write
        // has code 0 and names ourselves as its sender.
        from_process: info.ssi_code <= 0 && info.ssi_pid != std::process::id(),
        value: (info.ssi_code == libc::SI_QUEUE)
            .then(|| usize::try_from(info.ssi_ptr).unwrap_or_default()),
    })
}

/// Sends `signal` to a process, or with a negative `pid` to a process group.
/// `-1` is everything that we may signal but us and PID 1.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: kill takes two integers and touches no memory of ours.
    if unsafe { libc::kill(pid, signal) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Queues `signal` with a value for one process.
pub fn queue(pid: i32, signal: i32, value: usize) -> io::Result<()> {
    let value = libc::sigval {
        sival_ptr: std::ptr::without_provenance_mut(value),
    };
    // SAFETY: sigqueue copies what it is given; the value is the receiver's to interpret,
    // and is no pointer of ours.
    if unsafe { libc::sigqueue(pid, signal, value) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Lets go the pages of our own code, which stay in the page cache: what is needed again is
/// mapped again. The kernel maps 64 KiB around each place that is touched, so after the start
/// most of what is mapped is code that ran once, or never.
pub fn release_code() -> io::Result<()> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let program = std::fs::read_link("/proc/self/exe")?;
    let program = program.to_string_lossy();
    for line in maps.lines().filter(|line| line.ends_with(&*program)) {
        let mut fields = line.split(' ');
        let (Some(range), Some("r-xp")) = (fields.next(), fields.next()) else {
            continue;
        };
        let bounds = range.split_once('-').map(|(from, to)| {
            let address = |text| usize::from_str_radix(text, 16).map_err(io::Error::other);
            Ok::<_, io::Error>((address(from)?, address(to)?))
        });
        let Some((from, to)) = bounds.transpose()? else {
            continue;
        };
        // SAFETY: the range is a mapping of the file of our own program that nobody can write
        // to; its pages are as the file is, now and when they are mapped again.
        let released = unsafe {
            let address = std::ptr::with_exposed_provenance_mut(from);
            libc::madvise(address, to - from, libc::MADV_DONTNEED)
        };
        if released != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Brings the loopback interface up, as netdevice(7) says.
pub fn loopback_up() -> io::Result<()> {
    // SIOCGIFFLAGS and SIOCSIFFLAGS, in the type that `ioctl` of each C library takes.
    const GET_FLAGS: libc::Ioctl = 0x8913;
    const SET_FLAGS: libc::Ioctl = 0x8914;
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    )?;
    // SAFETY: all of it is integers, for which 0 is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    // SAFETY: the request is a whole ifreq, whose name ends with a zero, and outlives both
    // calls; the first writes the member that is read after it.
    unsafe {
        if libc::ioctl(socket.as_raw_fd(), GET_FLAGS, &raw mut request) < 0 {
            return Err(io::Error::last_os_error());
        }
        let up = libc::c_short::try_from(libc::IFF_UP).unwrap_or(1);
        request.ifr_ifru.ifru_flags |= up;
        if libc::ioctl(socket.as_raw_fd(), SET_FLAGS, &raw const request) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Moves the values of these variables out of the block that `/proc/PID/environ` shows to our
/// children. We ourselves still read them.
///
/// Call it while there is one thread: nobody else may read the environment meanwhile.
pub fn hide_variables(names: &[&str]) {
    unsafe extern "C" {
        static environ: *const *mut libc::c_char;
    }
    let values: Vec<_> = names
        .iter()
        .filter_map(|name| Some((name, std::env::var_os(name)?)))
        .collect();
    // SAFETY: `environ` is the C library's list of NUL-terminated texts, ended by a null
    // pointer, in memory of ours that may be written. There is one thread, so nothing
    // else reads or changes it, and each text keeps its place and its final NUL.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let text = *entry;
            let length = libc::strlen(text);
            let bytes = std::slice::from_raw_parts_mut(text.cast::<u8>(), length);
            let equals = bytes.iter().position(|byte| *byte == b'=');
            if let Some(at) = equals
                && names
                    .iter()
                    .any(|name| bytes.get(..at) == Some(name.as_bytes()))
            {
                bytes.iter_mut().skip(at + 1).for_each(|byte| *byte = 0);
            }
            entry = entry.add(1);
        }
        // A new text is put into other memory than that of the block.
        for (name, value) in values {
            std::env::set_var(name, value);
        }
    }
}
