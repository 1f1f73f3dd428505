//! A request that comes while the system starts or restores is held, not failed.

use super::Shared;
use super::problem::Problem;
use crate::supervise::Status;
use crate::supervise::status::Phase;

impl Shared {
    /// Waits until the system is past what it is busy with; at most `limits.hold`.
    pub(super) async fn hold(&self) -> Result<Phase, Problem> {
        self.hold_until(|status| status.phase != Phase::Busy).await
    }

    /// Waits until the checkpoints can be looked at; at most `limits.hold`.
    pub(super) async fn hold_until_open(&self) -> Result<(), Problem> {
        self.hold_until(|status| status.is_open).await.map(drop)
    }

    async fn hold_until(&self, is_past: impl FnMut(&Status) -> bool) -> Result<Phase, Problem> {
        let mut status = self.handle.status();
        match tokio::time::timeout(self.hold, status.wait_for(is_past)).await {
            Ok(Ok(status)) => Ok(status.phase),
            Ok(Err(_)) => Err(Problem::unavailable("the system is going down")),
            Err(_) => {
                let state = self.handle.status().borrow().state.clone();
                Err(Problem::unavailable(format!(
                    "the system is still {state}; the request was held for {} and given up. Try \
                     again later; GET /status tells how far it is",
                    crate::config::value::format_duration(self.hold)
                )))
            }
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
