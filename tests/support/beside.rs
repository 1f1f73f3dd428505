//! Something that goes on beside a test.

use std::sync::atomic::{AtomicBool, Ordering};

/// Ends it, also if the test fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does `work` again and again as long as `test` runs.
pub fn beside<T>(mut work: impl FnMut() + Send, test: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _over = Ending(&is_over);
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                work();
            }
        });
        test()
    })
}
