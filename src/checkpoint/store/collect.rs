//! The collection: removes the packs that no checkpoint needs, and writes those anew of
//! which little is needed.
//!
//! A pack is removed only after what is needed of it is on stable storage in another one,
//! so that a crash leaves at worst objects that are there twice.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard};

use super::super::driver::{self, Cancel, Error};
use super::Store;
use super::id::Id;
use super::log::Change;
use super::objects::{Decoder, Encoder, Objects};
use super::pool::Pool;
use super::reach::{Reached, reach};
use super::{lock, retention};

/// A pack of which less than so many hundredths are needed is written anew.
const SPARSE: u64 = 40;
/// So many collections in a row give way to operations; the next is waited for.
const GIVEN_WAY: u32 = 16;

/// What a collection has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// The numbers of the packs that are needed no longer.
    pub packs: Vec<u32>,
    /// How many bytes they have, without what was written anew.
    pub bytes: u64,
}

/// Finds the packs that nothing needs that is reached from `roots`, after what is needed
/// of sparse ones is on stable storage in another. Returns also what is reached. Once it is told
/// to end, it fails, or leaves the rest of the sparse packs for another time.
pub fn collect(
    objects: &Objects,
    pool: &Pool,
    roots: &[Id],
    cancel: &Cancel,
) -> Result<(Collected, Reached), Error> {
    let reached = reach(objects, pool, roots, cancel)?;
    let mut needed: HashMap<u32, (u64, Vec<Id>)> = HashMap::new();
    for id in reached.ids() {
        if let Some((pack, stored)) = objects.place(id) {
            let (bytes, ids) = needed.entry(pack).or_default();
            *bytes += u64::from(stored);
            ids.push(*id);
        }
    }
    let mut collected = Collected::default();
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
    for pack in objects.packs() {
        let (bytes, ids) = needed.remove(&pack.number).unwrap_or_default();
        let is_full = bytes * 100 >= pack.length * SPARSE;
        if !ids.is_empty() && (is_full || cancel.is_cancelled()) {
            continue;
        }
        for id in ids {
            objects.move_to_new_pack(&mut encoder, &mut decoder, id)?;
        }
        collected.packs.push(pack.number);
        collected.bytes += pack.length.saturating_sub(bytes);
    }
    objects.finish()?;
    Ok((collected, reached))
}

impl Store {
    /// Removes a checkpoint and what only it needed: the latter later, if somebody begins with
    /// something meanwhile. Whoever calls it keeps other collections off.
    pub(super) fn remove(&self, id: &str) -> Result<(), Error> {
        self.record(Change::Delete { id: id.to_owned() })?;
        self.collect_unless_hurried()
    }

    /// Keeps collections off as long as what it returns is there. One that is under way gives way,
    /// unless somebody has asked for it.
    pub(super) fn hold_collections(&self) -> MutexGuard<'_, ()> {
        {
            let mut state = self.state();
            state.collection.waiting += 1;
            state.collection.give_way.cancel();
        }
        let held = lock(&self.collecting);
        self.state().collection.waiting -= 1;
        held
    }

    /// Removes what no checkpoint needs, and forgets packs that are lost and not needed. Fails, with
    /// nothing removed, as long as something that is lost may be needed.
    fn collect(&self, cancel: &Cancel) -> Result<driver::Collected, Error> {
        let opened = self.opened()?;
        let lost = opened.damaged();
        if !opened.lost_records.is_empty() {
            return Err(self.nothing_is_freed(&lost));
        }
        let roots = self.state().catalog.roots();
        let pool = Pool::new()?;
        let (collected, reached) = match collect(&opened.objects, &pool, &roots, cancel) {
            // Something that is needed is not there.
            Err(Error::Damaged { .. }) if !lost.is_empty() => {
                return Err(self.nothing_is_freed(&lost));
            }
            found => found?,
        };
        tracing::debug!(?collected, "collected");
        self.remove_packs(&collected.packs)?;
        lock(&opened.lost_packs).clear();
        let mut state = self.state();
        state.collection.given_way = 0;
        state.whole.extend(roots.iter().copied());
        state.whole.retain(|root| roots.contains(root));
        // What is known of the live tree may name what is no more.
        if state
            .captured
            .is_some_and(|captured| !roots.contains(&captured))
        {
            let mut live = (*state.live).clone();
            let changed = live.forget(&|id| reached.contains(id));
            state.live = Arc::new(live);
            state.changed.extend(changed);
            state.captured = None;
        }
        Ok(driver::Collected {
            packs: collected.packs.len(),
            bytes: collected.bytes,
        })
    }

    /// Frees what can be freed, or says why nothing can.
    pub(super) fn collect_garbage_now(&self) -> Result<driver::Collected, Error> {
        let _collecting = self.hold_collections();
        self.state().check_idle()?;
        self.collect(&Cancel::default())
    }

    fn nothing_is_freed(&self, lost: &[String]) -> Error {
        Error::Damaged {
            path: self.dir.clone(),
            why: format!(
                "no space is freed as long as a part of the checkpoint store is damaged: it may be \
                 needed: {}",
                lost.join("; ")
            ),
        }
    }

    /// Records that packs are needed no longer, also those that are lost, and that others are, and
    /// removes them.
    fn remove_packs(&self, numbers: &[u32]) -> Result<(), Error> {
        let objects = &self.opened()?.objects;
        let mut removed = objects.names_of(numbers);
        // Those that are lost, and needed no longer either.
        let there = objects.pack_names();
        removed.extend(self.state().catalog.packs.difference(&there).cloned());
        let mut added = self.unnamed_packs()?;
        added.retain(|name| !removed.contains(name));
        if !removed.is_empty() || !added.is_empty() {
            let removed = removed.clone();
            self.record(Change::Collect { added, removed })?;
        }
        objects.forget(numbers);
        // The bucket may not have them yet, and the log's earlier records name them: they go
        // when it has all of it.
        if self.remote.is_none() {
            objects.remove_files(&removed)?;
        }
        Ok(())
    }

    /// The packs that are there and that no record names: what is in them may be used from
    /// now on.
    pub(super) fn unnamed_packs(&self) -> Result<Vec<String>, Error> {
        let there = self.opened()?.objects.pack_names();
        let state = self.state();
        Ok(there.difference(&state.catalog.packs).cloned().collect())
    }

    /// Removes automatic checkpoints whose time is over, and what only they needed: the latter
    /// later, if somebody begins with something meanwhile.
    pub(super) fn prune(&self) -> Result<(), Error> {
        let _collecting = lock(&self.collecting);
        let (autos, is_behind) = {
            let state = self.state();
            if state.work.is_some() || state.collection.waiting > 0 {
                return Ok(());
            }
            let autos = state.catalog.list(true).filter(|manifest| manifest.is_auto);
            (autos.collect::<Vec<_>>(), state.collection.given_way > 0)
        };
        let autos = retention::expired(self.retention, &autos);
        for id in &autos {
            self.record(Change::Delete { id: id.clone() })?;
        }
        if autos.is_empty() && !is_behind {
            return Ok(());
        }
        self.collect_unless_hurried()
    }

    /// Removes what no checkpoint needs, now or, if somebody waits to begin with something, after
    /// that.
    fn collect_unless_hurried(&self) -> Result<(), Error> {
        let cancel = Arc::new(Cancel::default());
        {
            let mut state = self.state();
            if state.collection.given_way < GIVEN_WAY {
                state.collection.give_way = Arc::clone(&cancel);
                if state.collection.waiting > 0 {
                    cancel.cancel();
                }
            }
        }
        match self.collect(&cancel) {
            Err(Error::Cancelled(_)) => {
                tracing::debug!("what nothing needs is removed later: something has begun");
                self.state().collection.given_way += 1;
            }
            // What is lost was told of at the start.
            Err(error) if !self.opened()?.damaged().is_empty() => tracing::warn!("{error}"),
            result => drop(result?),
        }
        Ok(())
    }
}
