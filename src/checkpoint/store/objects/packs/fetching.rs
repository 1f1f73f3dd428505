//! Packs that are elsewhere, or spoilt on this machine: they are fetched.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::super::super::super::driver::{Context as _, Error};
use super::super::super::super::durable;
use super::super::super::super::meter::Meter;
use super::super::super::lock;
use super::super::super::pack;
use super::{FETCHING, INDEX, Packs, source_name};

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
                        match self.fetch(*number, None) {
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

    /// Brings a pack to this machine, if it is not here, or what is here is still `spoilt`.
    pub(super) fn fetch(&self, number: u32, spoilt: Option<&File>) -> Result<(), Error> {
        let fetching = self.fetching.get(number as usize % FETCHING);
        let _fetching = fetching.map(lock);
        let (name, length, is_local) = {
            let packs = self.read();
            match packs.get(number as usize) {
                Some(pack) => (pack.name.clone(), pack.length, pack.local),
                None => return Ok(()),
            }
        };
        // Somebody else may have replaced it by now.
        if is_local && !spoilt.is_some_and(|spoilt| is_at(spoilt, &self.path(&name))) {
            return Ok(());
        }
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
            pack.file = None;
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
        if let Err(why) = self.fetch(number, Some(spoilt)) {
            tracing::warn!("{error}, and cannot be fetched: {why}");
            return Err(error);
        }
        match self.file(number) {
            Ok(Some(found)) => {
                tracing::warn!("{error}; the bucket's copy has taken its place");
                Ok(found)
            }
            _ => Err(error),
        }
    }
}

/// Whether an open file is the one at `path`, or there is none.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(theirs)) = (file.metadata(), fs::metadata(path)) else {
        return true;
    };
    (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino())
}
