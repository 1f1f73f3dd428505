//! From a program to a child that runs it: the light way, `posix_spawn`, for those that need
//! nothing done between the fork and the exec but what it can do; `fork` for all others.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::process::{ChildStderr, ChildStdin, ChildStdout};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Gid, Uid};

use super::{Program, Spawner, Streams};
use crate::cgroups::Cgroup;
use crate::reaper::{Child, Started};
use crate::sys::child_setup::ChildSetup;
use crate::sys::fork::{Forked, fork_and_exec};
use crate::sys::posix_spawn::{Image, posix_spawn};

/// Starts `program`.
pub fn launch(spawner: &Spawner, program: &Program) -> io::Result<Child> {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(io::Error::from);
    let (name, more) = program
        .command
        .split_first()
        .ok_or(io::ErrorKind::InvalidInput)?;
    let mut arguments = vec![text(program.arg0.as_ref().unwrap_or(name).as_bytes())?];
    for argument in more {
        arguments.push(text(argument.as_bytes())?);
    }
    let dir = spawner.dir_of(program);
    let mut ends = Ends::new(&program.streams)?;
    let (stdin, stdout, stderr) = (ends.stdin.take(), ends.stdout.take(), ends.stderr.take());
    let image = Image {
        program: &text(name.as_bytes())?,
        arguments: &arguments,
        environment: &environment(program)?,
        dir: &text(dir.as_os_str().as_bytes())?,
        streams: ends.theirs(),
    };
    let setup = setup(spawner, program);
    let cgroups = spawner.cgroups.as_ref();
    let cgroup = cgroups.map(|cgroups| cgroups.open(&program.cgroup));
    let cgroup = cgroup.transpose()?;
    let is_light = cgroup.is_none() && is_light(program, &setup);
    let mut forked = None;
    let child = spawner.reaper.start(|| {
        let pid = match is_light.then(|| posix_spawn(&image, &spawner.mask)) {
            Some(Ok(pid)) => pid,
            // A script that does not say whose it is: the other way gives it to a shell.
            Some(Err(error)) if error.raw_os_error() != Some(libc::ENOEXEC) => return Err(error),
            _ => {
                let child = fork_and_exec(&image, &setup, cgroup.as_ref().map(OwnedFd::as_fd))?;
                forked.insert(child).pid
            }
        };
        Ok(Started {
            pid,
            carries_storage: matches!(program.cgroup, Cgroup::Storage(_)),
            stdin: stdin.map(ChildStdin::from),
            stdout: stdout.map(ChildStdout::from),
            stderr: stderr.map(ChildStderr::from),
        })
    })?;
    // Without the reaper: the child may take long in a cgroup that has used up its time.
    if let Some(error) = forked.and_then(Forked::failure) {
        let _ = child.exit.blocking_recv();
        return Err(error);
    }
    Ok(child)
}

/// What the child has to do to itself.
fn setup(spawner: &Spawner, program: &Program) -> ChildSetup {
    let user = program.user.as_ref();
    let attributes = &program.attributes;
    let groups = attributes.groups.as_ref();
    let groups = groups.or_else(|| user.map(|user| &user.groups));
    let oom_score_adj = attributes.oom_score_adj.or(spawner.oom_score_adj);
    ChildSetup {
        mask: spawner.mask,
        groups: groups.map(|groups| groups.iter().copied().map(Gid::from_raw).collect()),
        user: user.map(|user| (Uid::from_raw(user.uid), Gid::from_raw(user.gid))),
        foreground_of: program.foreground.then(terminal).flatten(),
        owns_terminal: matches!(program.streams, Streams::Terminal(_)),
        umask: attributes.umask,
        nice: attributes.nice,
        oom_score_adj: oom_score_adj.map(|adj| adj.to_string()),
        rlimits: attributes.rlimits.clone(),
        capabilities: attributes.capabilities,
        no_new_privs: attributes.no_new_privs,
        descriptors: program.descriptors.clone(),
    }
}

/// Whether `posix_spawn` can do all that is to be done.
fn is_light(program: &Program, setup: &ChildSetup) -> bool {
    let mut command = program.command.iter();
    let is_path = command.next().is_some_and(|name| name.contains('/'));
    program.user.is_none()
        && program.attributes.are_inherited()
        && program.descriptors.is_empty()
        && setup.foreground_of.is_none()
        && setup.oom_score_adj.is_none()
        && !setup.owns_terminal
        // A name is looked for in the `PATH` that the program gets.
        && (is_path || !program.environment.contains_key("PATH"))
}

/// The terminal on our standard input, if we are in its foreground.
fn terminal() -> Option<i32> {
    let stdin = std::io::stdin();
    let group = rustix::termios::tcgetpgrp(&stdin).ok()?;
    (group == rustix::process::getpgrp()).then(|| stdin.as_raw_fd())
}

/// Both ends of a child's input and output.
struct Ends<'a> {
    /// The child's, if they are its own alone.
    child: Option<[OwnedFd; 3]>,
    terminal: Option<&'a OwnedFd>,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl<'a> Ends<'a> {
    fn new(streams: &'a Streams) -> io::Result<Self> {
        let none = Self {
            child: None,
            terminal: None,
            stdin: None,
            stdout: None,
            stderr: None,
        };
        let is_piped = match streams {
            Streams::Inherited => return Ok(none),
            Streams::Terminal(terminal) => {
                return Ok(Self {
                    terminal: Some(terminal),
                    ..none
                });
            }
            Streams::Output => false,
            Streams::Piped => true,
        };
        let (input, stdin) = if is_piped {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
            (reader, Some(writer))
        } else {
            (OwnedFd::from(File::open("/dev/null")?), None)
        };
        let (stdout, output) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, errors) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok(Self {
            child: Some([input, output, errors]),
            stdin,
            stdout: Some(stdout),
            stderr: Some(stderr),
            ..none
        })
    }

    /// The child's; none = those that we have.
    fn theirs(&self) -> Option<[BorrowedFd<'_>; 3]> {
        let own = self.child.as_ref();
        let own = own.map(|ends| ends.each_ref().map(OwnedFd::as_fd));
        own.or_else(|| self.terminal.map(|terminal| [terminal.as_fd(); 3]))
    }
}

fn environment(program: &Program) -> io::Result<Vec<CString>> {
    let entry = |(name, value): (OsString, OsString)| {
        let mut entry = name.into_vec();
        entry.push(b'=');
        entry.extend(value.as_bytes());
        CString::new(entry).map_err(io::Error::from)
    };
    program.whole_environment().into_iter().map(entry).collect()
}
