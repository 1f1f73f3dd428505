//! What is done by other programs, or in processes of our own that can be killed when a mount
//! does not answer.

use std::path::Path;

use machines::exit::Exit;

use super::super::super::driver::Error;
use super::super::COMPONENT;
use super::Clones;
use crate::cgroups::Cgroup;
use crate::spawn::{Program, Streams};

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
    /// How it is called for people.
    const fn said(self) -> &'static str {
        match self {
            Self::Show => "mount, to be read,",
            Self::Blank => "make and mount a new filesystem in",
            Self::Swap => "put into the place of the image, and mount,",
            Self::Check => "find whole",
        }
    }

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
        let paths: Vec<_> = paths.iter().map(|it| it.display().to_string()).collect();
        command.extend(paths.iter().cloned());
        self.run(&format!("{} {}", step.said(), paths.join(" ")), command)
    }

    /// Clones a directory of the volume.
    pub(super) fn clone_directory(&self, from: &Path, to: &Path) -> Result<(), Error> {
        let (from, to) = (from.display().to_string(), to.display().to_string());
        let words = [&self.volume.program, "clone", "-p", &from, &to];
        let what = format!("clone {from} by juicefs to {to}");
        self.run(&what, words.map(str::to_owned).to_vec())
    }

    /// Runs a program to its end, where nothing is held that a checkpoint holds. `what` it does is
    /// for people.
    fn run(&self, what: &str, command: Vec<String>) -> Result<(), Error> {
        let program = Program {
            cgroup: Cgroup::Storage(COMPONENT.to_owned()),
            ..Program::new(command, Streams::Output)
        };
        self.runtime.block_on(async {
            let child = self.spawner.spawn_soon(program).await;
            let child = child.map_err(|error| Error::Unusable(error.to_string()))?;
            let (exit, said) = child.finish().await;
            if exit.is_some_and(Exit::success) {
                return Ok(());
            }
            let how = exit.map_or_else(|| "lost".to_owned(), |exit| exit.to_string());
            let said = said.trim();
            Err(Error::Unusable(format!("cannot {what} ({how}): {said}")))
        })
    }
}
