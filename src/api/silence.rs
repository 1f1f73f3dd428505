//! How long nothing was said to a client: then it is told that we are still there.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Notices silence. It keeps one timer: a new one for each thing that is said would wake
/// the runtime each time.
#[derive(Debug)]
pub struct Silence {
    limit: Duration,
    broken: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Silence {
    /// Silence is what lasts for `limit`.
    #[must_use]
    pub fn of(limit: Duration) -> Self {
        let broken = Instant::now();
        let timer = Box::pin(tokio::time::sleep_until(broken + limit));
        Self {
            limit,
            broken,
            timer,
        }
    }

    /// Something is said.
    pub fn broken(&mut self) {
        self.broken = Instant::now();
    }

    /// Waits until there was silence; what is said about that breaks it.
    pub async fn lasts(&mut self) {
        loop {
            self.timer.as_mut().await;
            let now = Instant::now();
            let due = self.broken + self.limit;
            if due <= now {
                self.broken = now;
                self.timer.as_mut().reset(now + self.limit);
                return;
            }
            self.timer.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_silence_counts() {
        let limit = Duration::from_millis(50);
        let mut silence = Silence::of(limit);
        let start = Instant::now();
        tokio::time::sleep(limit / 2).await;
        silence.broken();
        silence.lasts().await;
        assert!(start.elapsed() >= limit * 3 / 2);
        silence.lasts().await;
        assert!(start.elapsed() >= limit * 5 / 2);
    }
}
