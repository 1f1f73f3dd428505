//! The processes of the component `juicefs`.

use super::USAGE;
use super::arguments::JuicefsStep;
use crate::checkpoint::juicefs::{self, Error, Volume};

/// sysexits: a resource is not available.
const UNAVAILABLE: u8 = 69;

/// Does one step with a volume; returns the exit code, unless it becomes another program.
pub fn run(step: JuicefsStep, volume: &str) -> u8 {
    let volume: Volume = match serde_json::from_str(volume) {
        Ok(volume) => volume,
        Err(error) => {
            eprintln!("sprite-env: the volume cannot be understood: {error}");
            return USAGE;
        }
    };
    let done = match step {
        JuicefsStep::Mount => juicefs::mount(&volume).map(|never| match never {}),
        JuicefsStep::Ready => juicefs::is_usable(&volume),
    };
    match done {
        Ok(()) => 0,
        // It is on its way, and asked again.
        Err(Error::NotMounted(_)) => UNAVAILABLE,
        Err(error) => {
            eprintln!("sprite-env: {error}");
            UNAVAILABLE
        }
    }
}
