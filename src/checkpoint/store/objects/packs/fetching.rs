//! Packs that are elsewhere, or spoilt on this machine: they are fetched.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::super::super::super::driver::{Context as _, Error};
use super::super::super::super::durable;
use super::super::super::super::meter::Meter;
use super::super::super::lock;
use super::super::super::pack;
use super::{FETCHING, INDEX, Pack, Packs, source_name};

impl Packs {
    /// Brings these packs to this machine, several at once.
    pub fn fetch_all(&self, numbers: &[u32], meter: &Meter) -> Result<(), Error> {
        let length = |number: &u32| self.length(*number);
        meter.begin(None, Some(numbers.iter().map(length).sum()));
        let left = Mutex::new(numbers.iter());
        let failure = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..FETCHING.min(numbers.len()) {
                scope.spawn(|| {
                    while lock(&failure).is_none()
                        && let Some(number) = { lock(&left).next() }
                    {
                        match self.fetch(*number) {
                            Ok(()) => meter.add(0, self.length(*number)),
                            Err(error) => {
                                lock(&failure).get_or_insert(error);
                            }
                        }
                    }
                });
            }
        });
        let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
        failure.map_or(Ok(()), Err)
    }

    fn length(&self, number: u32) -> u64 {
        let packs = self.read();
        packs.get(number as usize).map_or(0, |pack| pack.length)
    }

    /// Brings a pack to this machine.
    pub(super) fn fetch(&self, number: u32) -> Result<(), Error> {
        let fetching = self.fetching.get(number as usize % FETCHING);
        let _fetching = fetching.map(lock);
        let (name, length) = {
            let packs = self.read();
            match packs.get(number as usize) {
                Some(pack) if !pack.local => (pack.name.clone(), pack.length),
                _ => return Ok(()),
            }
        };
        let Some(source) = &self.source else {
            return Ok(());
        };
        let path = self.path(&name);
        let fetch = || {
            let bytes = source.pack(&name)?;
            pack::check(Path::new(&source_name(&name)), &bytes, length, &self.cipher)?;
            Ok(bytes)
        };
        let bytes = match fetch() {
            // The way may have spoilt it.
            Err(error @ Error::Damaged { .. }) => {
                tracing::warn!("{error}; it is fetched once more");
                fetch()?
            }
            fetched => fetched?,
        };
        let temporary = path.with_extension("fetched");
        let mut file = File::create(&temporary).context("create", &temporary)?;
        file.write_all(&bytes).context("write", &temporary)?;
        file.sync_all().context("flush", &temporary)?;
        durable::rename(&temporary, &path)?;
        let _ = fs::remove_file(path.with_extension(INDEX));
        if let Some(pack) = self.write().get_mut(number as usize) {
            pack.local = true;
        }
        Ok(())
    }

    /// The pack's file, after `spoilt`, which it was, could not be read, with this error: fetched
    /// anew, if it comes from elsewhere, else this fails with that error.
    pub fn replace(
        &self,
        number: u32,
        spoilt: &Arc<File>,
        error: Error,
    ) -> Result<(PathBuf, Arc<File>), Error> {
        if self.source.is_none() {
            return Err(error);
        }
        let set_local = |is_local: bool| {
            let mut packs = self.write();
            let pack = packs.get_mut(number as usize);
            // Somebody else may have replaced it by now.
            let same = |pack: &&mut Pack| {
                let file = pack.file.as_ref();
                file.is_none_or(|file| Arc::ptr_eq(file, spoilt))
            };
            if let Some(pack) = pack.filter(same) {
                pack.file = None;
                pack.local = is_local;
            }
        };
        set_local(false);
        match self.file(number) {
            Ok(Some(found)) => {
                tracing::warn!("{error}; the bucket's copy has taken its place");
                Ok(found)
            }
            Ok(None) => Err(error),
            Err(why) => {
                // The rest of it may be good.
                set_local(true);
                tracing::warn!("{error}, and cannot be fetched: {why}");
                Err(error)
            }
        }
    }
}
