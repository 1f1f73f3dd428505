//! Which start of a child, setting of a timer or run of a job an event is from.
//!
//! Whatever ends asynchronously may report after it has been replaced: a timer that ran
//! out just before it was cleared, a job that was cancelled. Every start gets a number,
//! and an event that carries an older one is dropped.

use std::collections::HashMap;

/// A machine, as the executor knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// The system.
    System,
    /// The operation.
    Operation,
    /// The main process.
    Process,
    /// The component of that number.
    Component(usize),
}

/// What was started for a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Its process.
    Child,
    /// Its timer.
    Timer,
    /// Its work.
    Job,
}

/// One start of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incarnation {
    /// For which machine.
    pub who: Who,
    kind: Kind,
    number: u64,
}

/// The numbers that are current.
#[derive(Debug, Default)]
pub struct Incarnations(HashMap<(Who, Kind), u64>);

impl Incarnations {
    /// A new start: all earlier ones are stale from now on.
    pub fn next(&mut self, who: Who, kind: Kind) -> Incarnation {
        let number = self.0.entry((who, kind)).or_default();
        *number += 1;
        Incarnation {
            who,
            kind,
            number: *number,
        }
    }

    /// Whether nothing has replaced `incarnation`.
    #[must_use]
    pub fn is_current(&self, incarnation: Incarnation) -> bool {
        self.0.get(&(incarnation.who, incarnation.kind)) == Some(&incarnation.number)
    }
}
