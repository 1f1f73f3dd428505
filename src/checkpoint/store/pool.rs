//! The threads that share the work on a tree.

use std::sync::Mutex;

use super::super::driver::Error;

/// More than that share no disk well.
const MOST: usize = 8;

/// The threads that share the work on a tree. They end with it: between operations
/// nothing is left of them.
#[derive(Debug)]
pub struct Pool(rayon::ThreadPool);

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

    /// Something for each of the threads; [`rayon::current_thread_index`] tells which.
    pub fn workers<T>(&self, make: impl Fn() -> T) -> Vec<Mutex<T>> {
        let threads = 0..self.0.current_num_threads();
        threads.map(|_| Mutex::new(make())).collect()
    }

    /// Runs `work` and all that it spawns; returns when all of it is done.
    pub fn scope<'s, T: Send>(&self, work: impl FnOnce(&rayon::Scope<'s>) -> T + Send) -> T {
        self.0.scope(work)
    }
}
