//! The light way to start a program: for those that need nothing done between the fork
//! and the exec but what `posix_spawn` can do.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::process::{ChildStderr, ChildStdin, ChildStdout};

use rustix::pipe::{PipeFlags, pipe_with};

use super::{Program, Spawner, Streams};
use crate::reaper::{Child, Started};
use crate::sys::posix_spawn::{Image, posix_spawn};

/// Whether `program` can be started this way.
pub fn is_light(program: &Program) -> bool {
    let is_path = program
        .command
        .first()
        .is_some_and(|name| name.contains('/'));
    program.user.is_none()
        && program.attributes.are_inherited()
        && program.descriptors.is_empty()
        && !program.foreground
        && matches!(program.streams, Streams::Output | Streams::Piped)
        // A name is looked for in the `PATH` that the program gets.
        && (is_path || !program.environment.contains_key("PATH"))
}

/// Starts it.
pub fn spawn(spawner: &Spawner, program: &Program) -> io::Result<Child> {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(io::Error::from);
    let name = program
        .command
        .first()
        .map(String::as_str)
        .unwrap_or_default();
    let mut arguments = Vec::with_capacity(program.command.len());
    arguments.push(text(program.arg0.as_deref().unwrap_or(name).as_bytes())?);
    for argument in program.command.iter().skip(1) {
        arguments.push(text(argument.as_bytes())?);
    }
    let dir = spawner.dir_of(program);
    let (stdin, our_stdin) = if matches!(program.streams, Streams::Piped) {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        (reader, Some(writer))
    } else {
        (OwnedFd::from(File::open("/dev/null")?), None)
    };
    let (our_stdout, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (our_stderr, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    let image = Image {
        program: &text(name.as_bytes())?,
        arguments: &arguments,
        environment: &environment(program)?,
        dir: &text(dir.as_os_str().as_bytes())?,
        mask: &spawner.mask,
        streams: [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
    };
    spawner.reaper.start(|| {
        Ok(Started {
            pid: posix_spawn(&image)?,
            stdin: our_stdin.map(ChildStdin::from),
            stdout: Some(ChildStdout::from(our_stdout)),
            stderr: Some(ChildStderr::from(our_stderr)),
        })
    })
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
