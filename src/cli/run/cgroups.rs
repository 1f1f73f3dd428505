//! The cgroups that everything runs in.

use super::{Failure, UNAVAILABLE};
use crate::cgroups::{Cgroups, set_up};
use crate::config::{self, Config};

/// The groups, as far as they are wanted and can be had.
pub fn as_wanted(config: &Config) -> Result<Option<Cgroups>, Failure> {
    let limits = config.resource_limits();
    let is_required = config.cgroups == config::Cgroups::Required || !limits.is_empty();
    // To make them takes as long as to start a process; one alone is killed without them.
    let is_of_use = !config.components.is_empty() || config.storage.is_some();
    match config.cgroups {
        config::Cgroups::Off => return Ok(None),
        config::Cgroups::Auto if !is_of_use && !is_required => return Ok(None),
        _ => {}
    }
    match set_up(limits) {
        Ok(cgroups) => {
            tracing::debug!(dir = %cgroups.dir().display(), "cgroups are used");
            Ok(Some(cgroups))
        }
        Err(error) if is_required => Err(Failure::new(UNAVAILABLE, error)),
        Err(error) => {
            tracing::debug!("cgroups are not used: {error}");
            Ok(None)
        }
    }
}
