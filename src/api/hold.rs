//! A request that comes while the system starts or restores is held, not failed.

use super::Shared;
use super::problem::Problem;
use crate::supervise::status::Phase;

impl Shared {
    /// Waits until the system is past what it is busy with; at most `limits.hold`.
    pub(super) async fn hold(&self) -> Result<Phase, Problem> {
        let mut status = self.handle.status();
        let settled = status.wait_for(|status| status.phase != Phase::Busy);
        match tokio::time::timeout(self.hold, settled).await {
            Ok(Ok(status)) => Ok(status.phase),
            Ok(Err(_)) => Err(Problem::unavailable("the system is going down")),
            Err(_) => Err(self.given_up()),
        }
    }

    fn given_up(&self) -> Problem {
        let state = self.handle.status().borrow().state.clone();
        Problem::unavailable(format!(
            "the system is still {state}; the request was held for {} and given up. Try again \
             later; GET /status tells how far it is",
            crate::config::value::format_duration(self.hold)
        ))
    }

    /// Waits until the checkpoints can be looked at; at most `limits.hold`.
    pub(super) async fn hold_until_open(&self) -> Result<(), Problem> {
        let mut status = self.handle.status();
        let open = status.wait_for(|status| status.is_open);
        match tokio::time::timeout(self.hold, open).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Problem::unavailable("the system is going down")),
            Err(_) => Err(self.given_up()),
        }
    }

    /// Waits until commands may be run.
    pub(super) async fn hold_for_commands(&self) -> Result<(), Problem> {
        let phase = self.hold().await?;
        if phase.admits_commands() {
            Ok(())
        } else {
            Err(Problem::unavailable(
                "the system is going down; no more commands are run",
            ))
        }
    }
}
