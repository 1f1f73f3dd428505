//! What somebody asked for, and how they hear of its progress.

use tokio::sync::mpsc;

/// How many lines may wait for a client. An operation has far fewer, and never waits:
/// the client may itself be held for the checkpoint.
const LINES: usize = 256;

/// An operation that was asked for.
#[derive(Clone, Debug)]
pub struct Order {
    /// What is to be done.
    pub request: Request,
    /// Where its progress goes.
    pub progress: Progress,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Take a checkpoint.
    Checkpoint {
        /// What its maker says about it.
        comment: Option<String>,
        /// Whether it is done only when the checkpoint is durable.
        until_durable: bool,
        /// Whether nobody asked for it but the clock: then it is made only if something has
        /// changed, and removed when its time is over.
        automatic: bool,
    },
    /// Restore one.
    Restore {
        /// Its id.
        id: String,
    },
    /// Finish what a crash of the daemon cut off.
    Resume,
}

/// A line of progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Something happened.
    Info(String),
    /// Something is not quite right, but the operation goes on.
    Warning(String),
    /// It is done. The last line.
    Complete {
        /// A sentence.
        text: String,
        /// The checkpoint's id.
        id: String,
    },
    /// It failed. The last line.
    Error(String),
}

/// Where progress goes. Nobody has to listen.
#[derive(Clone, Debug)]
pub struct Progress(Option<mpsc::Sender<Line>>);

impl Progress {
    /// A pair of ends.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Line>) {
        let (sender, receiver) = mpsc::channel(LINES);
        (Self(Some(sender)), receiver)
    }

    /// Progress that nobody listens to.
    #[must_use]
    pub const fn unheard() -> Self {
        Self(None)
    }

    /// Sends a line, unless the listener is gone or too slow.
    pub fn send(&self, line: Line) {
        match &line {
            Line::Warning(text) => tracing::warn!("{text}"),
            Line::Error(text) => tracing::error!("{text}"),
            Line::Info(text) => tracing::debug!("{text}"),
            Line::Complete { text, .. } => tracing::info!("{text}"),
        }
        if let Some(sender) = &self.0 {
            let _ = sender.try_send(line);
        }
    }

    /// Sends a line of information.
    pub fn info(&self, text: impl Into<String>) {
        self.send(Line::Info(text.into()));
    }

    /// Sends a warning.
    pub fn warning(&self, text: impl Into<String>) {
        self.send(Line::Warning(text.into()));
    }
}
