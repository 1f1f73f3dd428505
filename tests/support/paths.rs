//! Waiting for what programs under test write.

use std::path::Path;
use std::time::{Duration, Instant};

use super::PATIENCE;

/// Waits until what is in `path` is as wanted; returns it. A file that is not there is empty.
pub fn wait_for_text(path: &Path, is_wanted: impl Fn(&str) -> bool) -> String {
    let start = Instant::now();
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if is_wanted(&text) {
            return text;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "{} does not become what is wanted: {text}",
            path.display()
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until `path` exists and is not empty; returns its text.
pub fn wait_for_file(path: &Path) -> String {
    wait_for_text(path, |text| !text.is_empty())
}

/// Waits until `path` exists.
pub fn wait_for_file_to_exist(path: &Path) {
    let start = Instant::now();
    while !path.exists() {
        assert!(
            start.elapsed() < PATIENCE,
            "{} did not appear",
            path.display()
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}
