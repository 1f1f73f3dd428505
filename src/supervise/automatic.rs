//! Takes an automatic checkpoint from time to time.

use std::time::Duration;

use machines::system;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::handle::Handle;
use crate::checkpoint::{Order, Progress, Request};

/// Asks for an automatic checkpoint every `pause`, or as soon after that as one is possible.
/// Ends with the system.
pub async fn checkpoints(pause: Duration, handle: Handle) {
    let mut ticks = interval_at(Instant::now() + pause, pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut status = handle.status();
    loop {
        ticks.tick().await;
        loop {
            // Something else may be under way, or the system not up.
            let possible = status.wait_for(|status| status.accepted.contains(&"checkpoint"));
            if possible.await.is_err() {
                return;
            }
            let (progress, mut lines) = Progress::channel();
            let request = Request::Checkpoint {
                comment: None,
                until_durable: false,
                automatic: true,
            };
            let order = Order { request, progress };
            let asked = handle.request(system::Event::Checkpoint, Some(order));
            if asked.await.is_ok() {
                // What becomes of it is logged; the next pause begins when it has ended.
                while lines.recv().await.is_some() {}
                ticks.reset();
                break;
            }
            // It has changed since, and the news is on its way.
            if status.changed().await.is_err() {
                return;
            }
        }
    }
}
