//! The processes of the components that carry a JuiceFS volume.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::arguments::JuicefsStep;
use super::{USAGE, logging};
use crate::checkpoint::juicefs::{self, Error, Volume};

/// sysexits: a resource is not available.
const UNAVAILABLE: u8 = 69;

/// So long is waited for a mount before the answer is that there is none.
const PATIENCE: Duration = Duration::from_secs(1);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Asks for a mount until it is there, for a while: at a start it is known at once, and no program is
/// begun for each look. Whether one that was there is gone takes as much longer to say.
fn awaited(ask: impl Fn() -> Result<(), Error>) -> Result<(), Error> {
    let begun = Instant::now();
    loop {
        match ask() {
            Err(Error::NotMounted(_)) if begun.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
            answer => return answer,
        }
    }
}

/// Does one step with a volume; returns the exit code, unless it becomes another program.
pub fn run(step: JuicefsStep, volume: &str, paths: &[PathBuf]) -> u8 {
    logging::start_in_component();
    let volume: Volume = match serde_json::from_str(volume) {
        Ok(volume) => volume,
        Err(error) => {
            eprintln!("sprite-env: the volume cannot be understood: {error}");
            return USAGE;
        }
    };
    let path = |place: usize| paths.get(place).map_or(Path::new(""), PathBuf::as_path);
    let done = match step {
        JuicefsStep::Metadata => juicefs::prepare(&volume),
        JuicefsStep::Replicate => juicefs::replicate(&volume).map(|never| match never {}),
        JuicefsStep::Replicating => juicefs::is_replicating(&volume),
        JuicefsStep::Settled => juicefs::has_settled(&volume),
        JuicefsStep::Mount => juicefs::mount(&volume).map(|never| match never {}),
        JuicefsStep::Image => juicefs::serve_image(&volume),
        JuicefsStep::ImageReady => awaited(|| juicefs::is_mounted_and_writable(&volume)),
        JuicefsStep::Ready => awaited(|| juicefs::is_usable(&volume)),
        JuicefsStep::Swap => juicefs::swap(&volume, paths.first().map(PathBuf::as_path)),
        JuicefsStep::Show => juicefs::show(path(0), path(1)),
        JuicefsStep::Blank => juicefs::blank(&volume, path(0), path(1)),
        JuicefsStep::Check => juicefs::check_image(path(0)),
    };
    match done {
        Ok(()) => 0,
        // It is on its way, and asked again.
        Err(Error::NotMounted(_) | Error::Silent(_)) => UNAVAILABLE,
        Err(error) => {
            eprintln!("sprite-env: {error}");
            UNAVAILABLE
        }
    }
}
