//! Packs on their way to stable storage.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};

use rustix::fs::Advice;

use super::super::super::driver::{Context as _, Error};
use super::super::lock;
use super::super::pack::PackWriter;

/// How many packs may be on their way at once: so many that the disk has always one to write,
/// and few, since whoever flushes a file of the environment meanwhile waits for them too.
const FLUSHING: usize = 3;
/// How many bytes of the packs that are sent in a row may stay in the kernel's cache. Of the rest
/// little is read again soon: the memory is of more use to the environment, and to the next
/// packs, which need no new pages then (on a virtual machine the host has to find each).
const CACHED: u64 = 64 << 20;

/// A pack that is on stable storage.
#[derive(Debug)]
pub struct Flushed {
    /// Its number.
    pub number: u32,
    /// Where it was written.
    pub path: PathBuf,
    /// How many bytes it has.
    pub length: u64,
}

/// The packs that are on their way to stable storage, and those that are there, until
/// [`Self::all`] gives them out.
#[derive(Debug, Default)]
pub struct Flushing {
    threads: Mutex<Vec<JoinHandle<Result<Flushed, Error>>>>,
    done: Mutex<Vec<Flushed>>,
    sent: AtomicU64,
}

impl Flushing {
    /// Sends a pack on its way, once there is room for it. `read_soon` is whether all of it will
    /// be read soon, however many there are.
    pub fn send(&self, number: u32, writer: PackWriter, read_soon: bool) -> Result<(), Error> {
        let oldest = {
            let mut threads = lock(&self.threads);
            (threads.len() >= FLUSHING).then(|| threads.remove(0))
        };
        if let Some(oldest) = oldest {
            self.wait(oldest)?;
        }
        let (path, file) = writer.finish()?;
        let length = file.metadata().context("look at", &path)?.len();
        let before = self.sent.fetch_add(length, Ordering::Relaxed);
        let stays_cached = read_soon || before < CACHED;
        let target = path.clone();
        let thread = Builder::new().name("pack".to_owned()).spawn(move || {
            file.sync_all().context("flush", &path)?;
            if !stays_cached {
                // Where this advice is not taken, the pack stays in the cache.
                let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
            }
            Ok(Flushed {
                number,
                path,
                length,
            })
        });
        let thread = thread.context("start a thread to flush", &target)?;
        lock(&self.threads).push(thread);
        Ok(())
    }

    fn wait(&self, thread: JoinHandle<Result<Flushed, Error>>) -> Result<(), Error> {
        let result = thread.join();
        let result = result.map_err(|_| Error::Unusable("flushing a pack failed".to_owned()))?;
        lock(&self.done).push(result?);
        Ok(())
    }

    /// Waits until all are on stable storage, and gives them out.
    pub fn all(&self) -> Result<Vec<Flushed>, Error> {
        let threads = std::mem::take(&mut *lock(&self.threads));
        for thread in threads {
            self.wait(thread)?;
        }
        self.sent.store(0, Ordering::Relaxed);
        Ok(std::mem::take(&mut *lock(&self.done)))
    }

    /// Forgets them all.
    pub fn abandon(&self) {
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            let _ = thread.join();
        }
        self.sent.store(0, Ordering::Relaxed);
        lock(&self.done).clear();
    }
}
