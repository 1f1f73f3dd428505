//! How the tree is looked at.

use super::place::Place;
use super::scan::{Hints, LargeFiles, Limit};
use crate::checkpoint::driver::Cancel;
use crate::checkpoint::meter::Meter;

/// How the tree is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// What is known of files besides.
    pub hints: &'a Hints,
    /// The part of the tree; none for all of it.
    pub limit: Option<&'a Limit>,
    /// Ends it early.
    pub cancel: &'a Cancel,
    /// Counts what is done.
    pub meter: &'a Meter,
    /// What becomes of large files that have changed.
    pub large: LargeFiles<'a>,
    /// Whether files are read: else it is only found where something has changed.
    pub reads: bool,
    /// Where it is; none for the live tree.
    pub root: Option<&'a Place>,
}

/// For looks that nobody measures.
static UNREAD: Meter = Meter::new();

impl<'a> Look<'a> {
    /// At all of the live tree, large files read.
    #[must_use]
    pub fn new(hints: &'a Hints, cancel: &'a Cancel) -> Self {
        Self {
            hints,
            limit: None,
            cancel,
            meter: &UNREAD,
            large: LargeFiles::Read,
            reads: true,
            root: None,
        }
    }
}
