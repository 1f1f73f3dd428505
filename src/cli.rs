//! The command line: parse, dispatch, exit code.

mod arguments;
mod checkpoints;
mod client;
mod config;
mod control;
mod diagram;
mod juicefs;
mod logging;
mod logs;
mod replay;
mod run;

use std::process::ExitCode;

use clap::Parser as _;

use crate::pid1::init::without_words_of_the_kernel;
use arguments::{Arguments, Verb};

/// sysexits: the command line is wrong.
const USAGE: u8 = 64;

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    if let Some(code) = crate::supervise::sockets::launch(std::env::args_os()) {
        return ExitCode::from(code);
    }
    let words = without_words_of_the_kernel(std::env::args_os().collect());
    let arguments = match Arguments::try_parse_from(arguments::normalized(words)) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are "errors" that are none.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    let code = match &arguments.verb {
        Some(Verb::Config { verb }) => config::run(verb, &arguments.flags()),
        Some(Verb::Checkpoints(options)) => checkpoints::run(options),
        Some(Verb::Process(options)) => control::process(options),
        Some(Verb::Components(options)) => control::components(options),
        Some(Verb::Logs(options)) => logs::run(options),
        Some(Verb::Diagram(options)) => diagram::run(options),
        Some(Verb::Juicefs {
            step,
            volume,
            paths,
        }) => juicefs::run(*step, volume, paths),
        Some(Verb::Replay(options)) => replay::run(options),
        None => run::run(&arguments.flags()),
    };
    ExitCode::from(code)
}
