//! What is done by other programs, or in processes of our own that can be killed when a mount
//! does not answer.

use std::path::Path;

use machines::exit::Exit;

use super::super::super::driver::{Cancel, Error};
use super::super::COMPONENT;
use super::Clones;
use crate::cgroups::Cgroup;
use crate::reaper::Child;
use crate::spawn::{Program, SpawnError, Streams};

/// A step with images that needs a process.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Mount a clone, to be read.
    Show,
    /// Make a new filesystem in an image and mount it.
    Blank,
    /// Put an image into the place of that which is mounted, and mount it; without one, mount what
    /// is there.
    Swap,
    /// Look whether a filesystem is whole.
    Check,
}

impl Step {
    /// How it is called on the command line.
    const fn name(self) -> &'static str {
        match self {
            Self::Show => "show",
            Self::Blank => "blank",
            Self::Swap => "swap",
            Self::Check => "check",
        }
    }
}

impl Clones {
    /// Does a step with these files.
    pub(super) fn step(&self, step: Step, paths: &[&Path]) -> Result<(), Error> {
        let mut command = self.volume.command(step.name());
        command.extend(paths.iter().map(|path| path.display().to_string()));
        let starting = self.spawner.spawn_soon(program(command));
        let started = self.runtime.block_on(starting);
        self.finish(step.name(), started, &Cancel::default())
    }

    /// Clones a file or directory of the volume.
    pub(super) fn clone_file(&self, from: &Path, to: &Path, cancel: &Cancel) -> Result<(), Error> {
        let starting = self.spawner.spawn_soon(self.clone_program(from, to));
        let started = self.runtime.block_on(starting);
        self.finish("juicefs clone", started, cancel)
    }

    /// The same while everything is held, and nothing else is started.
    pub(super) fn clone_while_held(
        &self,
        from: &Path,
        to: &Path,
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let started = self.spawner.spawn(&self.clone_program(from, to));
        self.finish("juicefs clone", started, cancel)
    }

    fn clone_program(&self, from: &Path, to: &Path) -> Program {
        let (from, to) = (from.display().to_string(), to.display().to_string());
        let words = [&self.volume.program, "clone", "-p", &from, &to];
        program(words.map(str::to_owned).to_vec())
    }

    /// Waits for its end.
    fn finish(
        &self,
        what: &str,
        started: Result<Child, SpawnError>,
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let child = started.map_err(|error| Error::Unusable(error.to_string()))?;
        let guard = self.spawner.reaper.guard(child.pid);
        self.runtime.block_on(async {
            tokio::select! {
                (exit, said) = child.finish() => {
                    guard.disarm();
                    if exit.is_some_and(Exit::success) {
                        return Ok(());
                    }
                    let how = exit.map_or_else(|| "lost".to_owned(), |exit| exit.to_string());
                    Err(Error::Unusable(format!("{what} failed ({how}): {}", said.trim())))
                }
                // The guard kills it.
                () = cancel.cancelled() => cancel.check(),
            }
        })
    }
}

/// Where nothing is held that a checkpoint holds.
fn program(command: Vec<String>) -> Program {
    Program {
        cgroup: Cgroup::Storage(COMPONENT.to_owned()),
        ..Program::new(command, Streams::Output)
    }
}
