//! What somebody asked for, and how they hear of its progress.

use tokio::sync::mpsc;

use super::meter::Measured;

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
    /// How far a step is, for those who asked for it.
    Measured {
        /// What the step is called: `pre_copy`, `swap`, …
        phase: &'static str,
        /// How far it is.
        measured: Measured,
    },
    /// Something is not quite right, but the operation goes on.
    Warning(String),
    /// It is done. The last line.
    Complete {
        /// A sentence.
        text: String,
        /// The checkpoint's id.
        id: String,
        /// Whether something could not be read, and is not in it.
        incomplete: bool,
    },
    /// It failed. The last line.
    Error(String),
}

/// Where progress goes. Nobody has to listen.
#[derive(Clone, Debug)]
pub struct Progress {
    to: Option<mpsc::Sender<Line>>,
    measured: bool,
}

impl Progress {
    /// A pair of ends.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Line>) {
        let (sender, receiver) = mpsc::channel(LINES);
        let progress = Self {
            to: Some(sender),
            measured: false,
        };
        (progress, receiver)
    }

    /// The same with lines that tell how far each step is, if that is wanted.
    #[must_use]
    pub fn measured(self, measured: bool) -> Self {
        Self { measured, ..self }
    }

    /// Whether somebody wants to know how far each step is.
    #[must_use]
    pub const fn is_measured(&self) -> bool {
        self.measured
    }

    /// Tells how far a step is, if there is room: there are many such lines, and they must
    /// not take that of others.
    pub fn measure(&self, phase: &'static str, measured: Measured) {
        let to = self.to.as_ref().filter(|to| to.capacity() > LINES / 2);
        if let Some(to) = to.filter(|_| self.measured) {
            let _ = to.try_send(Line::Measured { phase, measured });
        }
    }

    /// Progress that nobody listens to.
    #[must_use]
    pub const fn unheard() -> Self {
        Self {
            to: None,
            measured: false,
        }
    }

    /// Sends a line, unless the listener is gone or too slow.
    pub fn send(&self, line: Line) {
        match &line {
            Line::Warning(text) => tracing::warn!("{text}"),
            Line::Error(text) => tracing::error!("{text}"),
            Line::Info(text) => tracing::debug!("{text}"),
            Line::Complete { text, .. } => tracing::info!("{text}"),
            Line::Measured { .. } => {}
        }
        if let Some(to) = &self.to {
            let _ = to.try_send(line);
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
