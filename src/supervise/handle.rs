//! The only way to the machines: messages into one bounded channel.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use machines::supervisor::Input;
use machines::system;
use tokio::sync::{mpsc, oneshot, watch};

use super::incarnation::{Incarnation, Who};
use super::status::Status;
use crate::checkpoint::{Interrupted, Order};
use crate::config::Config;

/// How many messages may wait. Senders wait beyond that; the loop never does.
const INBOX: usize = 256;

/// A signal to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Its number.
    pub number: i32,
    /// What goes with it; such a signal can be sent to one process only.
    pub value: Option<usize>,
}

impl From<i32> for Signal {
    fn from(number: i32) -> Self {
        Self {
            number,
            value: None,
        }
    }
}

/// Something for the event loop.
#[derive(Debug)]
pub enum Message {
    /// An event for a machine.
    Event(Envelope),
    /// A child was started.
    Spawned {
        /// Which start it is of.
        incarnation: Incarnation,
        /// The child's process id.
        pid: i32,
    },
    /// A signal for the process group of the main process or of a component.
    Signal(Who, Signal),
    /// What had to be done before this start of a child is told to go is done: it is told
    /// by this signal, if any.
    Tell {
        /// Which start it is.
        incarnation: Incarnation,
        /// The signal; none = it was told already.
        signal: Option<i32>,
    },
    /// Stop the main process's group, then ourselves, until SIGCONT.
    Suspend,
    /// A sentence about a failure, for `/status`.
    Failure(String),
    /// Another configuration.
    Adopt(Adoption),
    /// The checkpoints were opened: what a crash has cut off, or why they cannot be.
    Opened(Result<Option<Interrupted>, String>),
}

/// Another configuration, to be taken over at once or not at all.
#[derive(Debug)]
pub struct Adoption {
    /// The configuration.
    pub config: Arc<Config>,
    /// The sockets that are open for its components, in order.
    pub sockets: Vec<Vec<Arc<OwnedFd>>>,
    /// Who wants to know which components begin anew, and have to be started; none if it
    /// was not possible.
    pub reply: oneshot::Sender<Option<Vec<String>>>,
}

/// An event on its way to the machines.
#[derive(Debug)]
pub struct Envelope {
    /// The event.
    pub input: Input,
    /// What it is from; dropped if stale.
    pub incarnation: Option<Incarnation>,
    /// What is to be done, for a request that begins an operation.
    pub order: Option<Order>,
    /// Who wants to know whether it was accepted.
    pub reply: Option<oneshot::Sender<Result<(), Refusal>>>,
}

/// A request that the state does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not possible while the system is {state}; possible now: {}", list(.accepted))]
pub struct Refusal {
    /// Where the system is.
    pub state: String,
    /// What would be accepted.
    pub accepted: Vec<&'static str>,
}

fn list(events: &[&str]) -> String {
    if events.is_empty() {
        "nothing".to_owned()
    } else {
        events.join(", ")
    }
}

/// A way to send events and see the state. Clones are the same handle.
#[derive(Clone, Debug)]
pub struct Handle {
    inbox: mpsc::Sender<Message>,
    status: watch::Receiver<Status>,
}

/// The other end of a [`Handle`].
#[derive(Debug)]
pub struct Inbox {
    pub(super) messages: mpsc::Receiver<Message>,
    pub(super) sender: mpsc::Sender<Message>,
    pub(super) status: watch::Sender<Status>,
}

/// A handle and what belongs into the loop.
#[must_use]
pub fn channel() -> (Handle, Inbox) {
    let (sender, messages) = mpsc::channel(INBOX);
    let (status, seen) = watch::channel(Status::default());
    let handle = Handle {
        inbox: sender.clone(),
        status: seen,
    };
    let inbox = Inbox {
        messages,
        sender,
        status,
    };
    (handle, inbox)
}

impl Handle {
    /// Asks the system for something.
    pub async fn request(&self, event: system::Event, order: Option<Order>) -> Result<(), Refusal> {
        let (reply, answer) = oneshot::channel();
        let envelope = Envelope {
            input: Input::System(event),
            incarnation: None,
            order,
            reply: Some(reply),
        };
        let gone = || Refusal {
            state: "Stopped".to_owned(),
            accepted: vec![],
        };
        self.inbox
            .send(Message::Event(envelope))
            .await
            .map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Sends a signal to the process group of the main process or of a component.
    pub async fn signal(&self, who: Who, signal: impl Into<Signal>) {
        let message = Message::Signal(who, signal.into());
        let _ = self.inbox.send(message).await;
    }

    /// Goes on with another configuration. Whatever it has no more, or otherwise, must be down,
    /// and nothing else under way; it is not taken over if that is not so. Else the names of
    /// the components that have to be started are returned. Fails if the machines are gone.
    pub async fn adopt(
        &self,
        config: Arc<Config>,
        sockets: Vec<Vec<Arc<OwnedFd>>>,
    ) -> Result<Option<Vec<String>>, oneshot::error::RecvError> {
        let (reply, answer) = oneshot::channel();
        let adoption = Adoption {
            config,
            sockets,
            reply,
        };
        // What cannot be sent is dropped, and its answer never comes.
        let _ = self.inbox.send(Message::Adopt(adoption)).await;
        answer.await
    }

    /// Shows a failure in `/status`.
    pub async fn failed(&self, what: String) {
        let _ = self.inbox.send(Message::Failure(what)).await;
    }

    /// Stops the main process's group, then ourselves, until SIGCONT.
    pub async fn suspend(&self) {
        let _ = self.inbox.send(Message::Suspend).await;
    }

    /// The state, and a way to wait for its changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }
}
