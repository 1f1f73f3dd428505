//! A client's place in a session.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Output, Session};

/// A client's place in a session. Dropping it detaches the client.
#[derive(Debug)]
pub struct Attachment {
    session: Arc<Session>,
    key: u64,
    replay: VecDeque<Output>,
    receiver: mpsc::Receiver<Output>,
}

impl Attachment {
    pub(super) const fn new(
        session: Arc<Session>,
        key: u64,
        replay: VecDeque<Output>,
        receiver: mpsc::Receiver<Output>,
    ) -> Self {
        Self {
            session,
            key,
            replay,
            receiver,
        }
    }

    /// What comes next; none if this client was detached because it did not read.
    pub async fn next(&mut self) -> Option<Output> {
        match self.replay.pop_front() {
            Some(output) => Some(output),
            None => self.receiver.recv().await,
        }
    }

    /// Whether nothing waits to be read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.replay.is_empty() && self.receiver.is_empty()
    }

    /// The session.
    #[must_use]
    pub const fn session(&self) -> &Arc<Session> {
        &self.session
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.session.detach(self.key);
    }
}
