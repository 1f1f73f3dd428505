//! Keeping what is known of the live tree behind the answer.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::super::id::Id;
use super::super::lock;
use super::Live;

/// Keeps the newest in one file: one after another, and none that a newer one has overtaken.
#[derive(Debug, Default)]
pub struct Keeper(Arc<Mutex<Work>>);

#[derive(Debug, Default)]
struct Work {
    /// What is known, and the root that it was captured as.
    next: Option<(Arc<Live>, Id)>,
    is_busy: bool,
}

impl Work {
    fn take(&mut self) -> Option<(Arc<Live>, Id)> {
        let next = self.next.take();
        self.is_busy = next.is_some();
        next
    }
}

impl Keeper {
    /// Keeps it at `path` soon. Nobody waits for it: without it, the next start reads more.
    pub fn keep(&self, path: PathBuf, live: Arc<Live>, root: Id) {
        {
            let mut work = lock(&self.0);
            work.next = Some((live, root));
            if std::mem::replace(&mut work.is_busy, true) {
                return;
            }
        }
        let work = Arc::clone(&self.0);
        let keeping = std::thread::Builder::new().name("keep".to_owned());
        let begun = keeping.spawn(move || {
            while let Some((live, root)) = { lock(&work).take() } {
                if let Err(error) = live.keep(&path, root) {
                    tracing::warn!("the next start has to read everything: {error}");
                }
            }
        });
        if let Err(error) = begun {
            *lock(&self.0) = Work::default();
            tracing::warn!("no thread: {error}; the next start has to read everything");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_kept_whole_however_fast_they_come() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("live");
        let keeper = Keeper::default();
        let mut last = Id::HOLE;
        for round in 0..200_u32 {
            last = Id::of(&round.to_le_bytes());
            keeper.keep(path.clone(), Arc::default(), last);
        }
        // What is under way is the only one.
        while lock(&keeper.0).is_busy {
            std::thread::yield_now();
        }
        let (_, root) = Live::recall(&path).unwrap();
        assert_eq!(root, last);
    }
}
