//! The threads that share the work on a tree.

use std::sync::{Mutex, MutexGuard};

use super::super::driver::Error;
use super::lock;

/// More than that share no disk well.
const MOST: usize = 8;
/// How many lists of the blocks of large files may wait for a thread. As many files may be open
/// meanwhile, which must be far fewer than a process may have open: 1024 where nobody has raised
/// it.
pub const WAITING: usize = 128;

/// The threads that share the work on a tree. They end with it: between operations
/// nothing is left of them.
#[derive(Debug)]
pub struct Pool(rayon::ThreadPool);

/// Something that each of the threads has for itself.
#[derive(Debug)]
pub struct Workers<T>(Vec<Mutex<T>>);

impl<T> Workers<T> {
    /// What the calling thread has, one of the pool's. No two of them ever wait here.
    pub fn mine(&self) -> MutexGuard<'_, T> {
        let current = rayon::current_thread_index().unwrap_or_default();
        // There is one for each thread; a thread of another pool shares them.
        #[allow(
            clippy::indexing_slicing,
            reason = "a remainder of the length, which is not 0"
        )]
        lock(&self.0[current % self.0.len()])
    }
}

impl Pool {
    /// As many threads as there are processors.
    pub fn new() -> Result<Self, Error> {
        let processors = std::thread::available_parallelism().map_or(1, Into::into);
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(processors.min(MOST))
            .thread_name(|number| format!("tree-{number}"));
        let threads = threads.build().map_err(|error| {
            Error::Unusable(format!(
                "cannot start threads for the work on a tree: {error}"
            ))
        })?;
        Ok(Self(threads))
    }

    /// Something for each of the threads.
    pub fn workers<T>(&self, make: impl Fn() -> T) -> Workers<T> {
        let threads = 0..self.0.current_num_threads();
        Workers(threads.map(|_| Mutex::new(make())).collect())
    }

    /// Runs `work` in one of them; what it splits up is shared by all.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.0.install(work)
    }

    /// Runs `work` and all that it spawns; returns when all of it is done.
    pub fn scope<'s, T: Send>(&self, work: impl FnOnce(&rayon::Scope<'s>) -> T + Send) -> T {
        self.0.scope(work)
    }
}
