//! The task behind one child: it starts it, reads its output, waits for its end.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use machines::component;
use machines::exit::Exit;
use machines::process;
use machines::supervisor::Input;
use tokio::sync::mpsc;

use super::handle::{Envelope, Message};
use super::incarnation::Who;
use super::output::{self, Backlog, Sink};
use super::outside::Start;
use super::probe::Asker;
use super::readiness::Awaited;
use crate::cgroups::Cgroup;
use crate::spawn::Spawner;

/// What a child's task needs.
#[derive(Clone, Debug)]
pub struct Task {
    /// Starts it.
    pub spawner: Spawner,
    /// What to start.
    pub start: Start,
    /// Where its events go.
    pub events: mpsc::Sender<Message>,
    /// Where its output goes.
    pub sink: Sink,
}

impl Task {
    /// Runs to the child's end, which is always reported.
    pub async fn run(self) {
        let run = AssertUnwindSafe(self.live()).catch_unwind().await;
        // After a panic: it was logged by the hook, and the guard has killed the child.
        let exit = run.unwrap_or(Exit::Signal(9));
        let input = match self.start.incarnation.who {
            Who::Component(id) => Input::Component(id, component::Event::Exited(exit)),
            _ => Input::Process(process::Event::Exited(exit)),
        };
        self.event(input).await;
    }

    async fn live(&self) -> Exit {
        let mut program = self.start.program.clone();
        let awaited = match self.start.ready.prepare(&mut program) {
            Ok(awaited) => awaited,
            Err(error) => {
                let why = format!("cannot be given what it is to tell its readiness by: {error}");
                self.failure(&why).await;
                return Exit::Code(126);
            }
        };
        let mut child = match self.spawner.spawn_soon(program).await {
            Ok(child) => child,
            Err(error) => {
                self.failure(&error.to_string()).await;
                return Exit::Code(error.exit_code());
            }
        };
        // Should this task panic, the child must not live on unwatched.
        let guard = self.spawner.reaper.guard(child.pid);
        let spawned = Message::Spawned {
            incarnation: self.start.incarnation,
            pid: child.pid,
        };
        let _ = self.send(spawned).await;
        let backlog = Backlog::default();
        output::pump_child(&mut child, &self.start.name, &self.sink, Some(&backlog));
        let end = child.exit;
        let exit = tokio::select! {
            // The end comes first: a component that is gone cannot become ready.
            biased;
            exit = end => exit.unwrap_or(Exit::Signal(9)),
            never = self.look_after(child.pid, awaited, backlog) => match never {},
        };
        guard.disarm();
        self.clear().await;
        exit
    }

    /// What a component leaves behind in its cgroup goes with it: its end is over then.
    async fn clear(&self) {
        let cgroup = &self.start.program.cgroup;
        let is_own = matches!(cgroup, Cgroup::Component(_) | Cgroup::Storage(_));
        if let Some(cgroups) = self.spawner.cgroups.as_ref().filter(|_| is_own) {
            let reaper = &self.spawner.reaper;
            cgroups.clear(cgroup, self.start.patience, reaper).await;
        }
    }

    /// Reports when the component is ready, and then how it does. Never returns: the
    /// child's end is awaited.
    async fn look_after(
        &self,
        pid: i32,
        awaited: Awaited,
        backlog: Backlog,
    ) -> std::convert::Infallible {
        if let Who::Component(id) = self.start.incarnation.who {
            let asker = Asker {
                spawner: self.spawner.clone(),
                name: self.start.name.clone(),
                command: self.start.check.clone(),
                backlog,
                sink: self.sink.clone(),
            };
            if let Err(error) = self.start.ready.wait(awaited, &asker).await {
                self.give_up(pid, "ready", error).await;
                return std::future::pending().await;
            }
            self.component(id, component::Event::Ready).await;
            tokio::join!(
                self.watch_readiness(id, pid, &asker),
                self.watch_liveness(id, pid, &asker),
            );
        }
        std::future::pending().await
    }

    async fn watch_readiness(&self, id: usize, pid: i32, asker: &Asker) {
        let Some(probe) = &self.start.readiness else {
            return;
        };
        let mut bad = 0;
        loop {
            match asker.turn(probe, "readiness", &mut bad).await {
                Ok(Ok(())) => self.component(id, component::Event::Ready).await,
                Ok(Err(why)) => {
                    self.failure(&format!("its readiness check fails: {why}"))
                        .await;
                    self.component(id, component::Event::Unready).await;
                }
                Err(error) => return self.give_up(pid, "readiness", error).await,
            }
        }
    }

    async fn watch_liveness(&self, id: usize, pid: i32, asker: &Asker) {
        let Some(probe) = &self.start.liveness else {
            return;
        };
        let mut bad = 0;
        match asker.turn(probe, "liveness", &mut bad).await {
            // It was not bad yet: that is the first turn.
            Ok(Ok(())) => {}
            Ok(Err(why)) => {
                self.failure(&format!("its liveness check fails: {why}"))
                    .await;
                self.component(id, component::Event::Unhealthy).await;
            }
            Err(error) => self.give_up(pid, "liveness", error).await,
        }
    }

    /// Without its check nobody knows how the component does: it has failed.
    async fn give_up(&self, pid: i32, check: &str, why: impl std::fmt::Display) {
        self.failure(&format!("its {check} check cannot be made: {why}"))
            .await;
        self.spawner.reaper.signal_group(pid, libc::SIGKILL);
    }

    async fn component(&self, id: usize, event: component::Event) {
        self.event(Input::Component(id, event)).await;
    }

    /// Says what is wrong, in the log and in the status.
    async fn failure(&self, why: &str) {
        let what = format!("{}: {why}", self.start.name);
        tracing::error!("{what}");
        let _ = self.send(Message::Failure(what)).await;
    }

    async fn event(&self, input: Input) {
        let envelope = Envelope {
            input,
            incarnation: Some(self.start.incarnation),
            order: None,
            reply: None,
        };
        let _ = self.send(Message::Event(envelope)).await;
    }

    async fn send(&self, message: Message) -> Result<(), mpsc::error::SendError<Message>> {
        self.events.send(message).await
    }
}
