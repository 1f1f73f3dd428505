//! What takes its time and is no child: the work of operations, and the sweep of the tree.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use machines::supervisor::Input;
use machines::{operation, system};

use super::{Executor, report};
use crate::supervise::handle::Message;
use crate::supervise::incarnation::{Kind, Who};

impl Executor {
    pub(super) fn for_operation(&mut self, effect: operation::Effect) {
        use operation::Effect as E;
        match effect {
            E::SetTimer(timer) => {
                let timed_out = Input::Operation(operation::Event::TimedOut);
                self.set_timer(Who::Operation, timer, timed_out);
            }
            E::ClearTimer => self.clear_timer(Who::Operation),
            E::Cancel => {
                // What it still reports is stale; what it still does, the next work waits for.
                self.incarnations.next(Who::Operation, Kind::Job);
                if let Some(job) = &self.job {
                    job.fail("given up: the time for it ran out, or the system stops");
                    job.cancel();
                }
            }
            E::Hurry => {
                if let Some(job) = &self.job {
                    job.cancel();
                }
            }
            effect => self.work(effect),
        }
    }

    pub(super) fn open_storage(&self) {
        let (open, events) = (self.outside.open(), self.events.clone());
        tokio::spawn(async move {
            let opened = AssertUnwindSafe(open).catch_unwind().await;
            // A panic was logged by its hook.
            let opened = opened.unwrap_or_else(|_| Err("that failed with a panic".to_owned()));
            let _ = events.send(Message::Opened(opened)).await;
        });
    }

    pub(super) fn sweep_tree(&mut self) {
        self.kill_tree.send_replace(false);
        let incarnation = self.incarnations.next(Who::System, Kind::Job);
        let sweep = self.outside.sweep(self.kill_tree.subscribe());
        let events = self.events.clone();
        tokio::spawn(async move {
            // A panic must not leave the system waiting; the kernel ends the rest with us.
            let _ = AssertUnwindSafe(sweep).catch_unwind().await;
            let empty = Input::System(system::Event::TreeEmpty);
            report(&events, empty, incarnation).await;
        });
    }

    fn work(&mut self, effect: operation::Effect) {
        let incarnation = self.incarnations.next(Who::Operation, Kind::Job);
        let Some(job) = self.job.clone() else {
            // Requests are refused before they come here when checkpoints are off.
            let events = self.events.clone();
            let failed = Input::Operation(operation::Event::Failed);
            tokio::spawn(async move { report(&events, failed, incarnation).await });
            return;
        };
        // A thaw cannot wait; everything else waits for work that was given up.
        let before = match effect {
            operation::Effect::Thaw => None,
            _ => self.work.take(),
        };
        let events = self.events.clone();
        let work = self.outside.work(effect, job);
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                let _ = before.await;
            }
            let event = work.await;
            report(&events, Input::Operation(event), incarnation).await;
        });
        if effect != operation::Effect::Thaw {
            self.work = Some(task);
        }
    }
}
