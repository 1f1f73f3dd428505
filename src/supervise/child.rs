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
use super::output::{self, Backlog, Sink, Stream, pump};
use super::outside::Start;
use super::readiness;
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
        let child = match self.spawner.spawn_soon(self.start.program.clone()).await {
            Ok(child) => child,
            Err(error) => {
                let what = format!("{}: {error}", self.start.name);
                tracing::error!("{what}");
                let _ = self.send(Message::Failure(what)).await;
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
        let name = || self.start.name.clone();
        if let Some(out) = child.stdout.and_then(|fd| output::reader(fd).ok()) {
            let backlog = Some(backlog.clone());
            tokio::spawn(pump(
                out,
                name(),
                Stream::Stdout,
                self.sink.clone(),
                backlog,
            ));
        }
        if let Some(err) = child.stderr.and_then(|fd| output::reader(fd).ok()) {
            let backlog = Some(backlog.clone());
            tokio::spawn(pump(
                err,
                name(),
                Stream::Stderr,
                self.sink.clone(),
                backlog,
            ));
        }
        let end = child.exit;
        let exit = tokio::select! {
            // The end comes first: a component that is gone cannot become ready.
            biased;
            exit = end => exit.unwrap_or(Exit::Signal(9)),
            never = self.await_ready(child.pid, backlog) => match never {},
        };
        guard.disarm();
        exit
    }

    /// Reports when the component is ready. Never returns: the child's end is awaited.
    async fn await_ready(&self, pid: i32, backlog: Backlog) -> std::convert::Infallible {
        if let Who::Component(id) = self.start.incarnation.who {
            let ready = match &self.start.ready {
                None => Ok(()),
                Some(program) => {
                    let (spawner, sink) = (self.spawner.clone(), self.sink.clone());
                    let name = self.start.name.clone();
                    readiness::wait(spawner, program.clone(), name, backlog, sink).await
                }
            };
            match ready {
                Ok(()) => {
                    let ready = Input::Component(id, component::Event::Ready);
                    self.event(ready).await;
                }
                Err(error) => {
                    // Without its check it cannot become ready: it has failed.
                    let what = format!("{}: ready_command: {error}", self.start.name);
                    tracing::error!("{what}");
                    let _ = self.send(Message::Failure(what)).await;
                    self.spawner.reaper.signal_group(pid, libc::SIGKILL);
                }
            }
        }
        std::future::pending().await
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
