//! What changes while a store is in use.

use std::collections::HashSet;
use std::sync::Arc;

use super::Id;
use super::catalog::Catalog;
use super::checkpointing::Making;
use super::live::{Keeper, Live};
use super::tracker::Tracker;
use crate::checkpoint::driver::{Cancel, Error};
use crate::checkpoint::intent::Intent;

/// What changes.
#[derive(Debug, Default)]
pub struct State {
    pub catalog: Catalog,
    pub live: Arc<Live>,
    /// The directories of `live` whose nodes are to be stored anew.
    pub changed: Vec<u32>,
    /// The root that `live` was captured as.
    pub captured: Option<Id>,
    /// The root of what was kept for the next start.
    pub kept: Option<Id>,
    pub keeper: Keeper,
    pub work: Option<Work>,
    /// Told of what changes until the next checkpoint.
    pub tracker: Option<Tracker>,
    /// How many checkpoints in a row have walked only a part of the tree.
    pub partial: u32,
    /// The roots of which all objects are known to be there.
    pub whole: HashSet<Id>,
    pub collection: Collection,
}

/// How collections that nobody has asked for give way to operations.
#[derive(Debug, Default)]
pub struct Collection {
    /// How many wait until there is no collection.
    pub waiting: u32,
    /// Tells the last one to end early.
    pub give_way: Arc<Cancel>,
    /// How many in a row have ended early: what is to be removed is still there.
    pub given_way: u32,
}

/// What is under way, and what one call of an operation leaves for the next.
#[derive(Debug)]
pub enum Work {
    Checkpoint(Box<Making>),
    Restore(Intent),
    Import,
}

impl State {
    /// Fails if something is under way.
    pub fn check_idle(&self) -> Result<(), Error> {
        match self.work {
            None => Ok(()),
            Some(Work::Import) => Err(Error::Busy("an import")),
            Some(_) => Err(Error::Busy("a checkpoint or restore")),
        }
    }
}
