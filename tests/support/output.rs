//! What a daemon prints.

use std::io::{BufRead as _, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use super::PATIENCE;

/// Everything a daemon prints, a line at a time.
#[derive(Clone, Default)]
pub struct Output(Arc<(Mutex<Lines>, Condvar)>);

#[derive(Default)]
struct Lines {
    lines: Vec<(&'static str, String)>,
    open: usize,
}

impl Output {
    pub fn collect(&self, name: &'static str, source: impl Read + Send + 'static) {
        self.0.0.lock().unwrap().open += 1;
        let this = self.clone();
        std::thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while source
                .read_until(b'\n', &mut line)
                .is_ok_and(|read| read > 0)
            {
                let text = String::from_utf8_lossy(&line)
                    .trim_end_matches('\n')
                    .to_owned();
                this.0.0.lock().unwrap().lines.push((name, text));
                this.0.1.notify_all();
                line.clear();
            }
            this.0.0.lock().unwrap().open -= 1;
            this.0.1.notify_all();
        });
    }

    /// Everything printed so far.
    pub fn text(&self) -> String {
        let lines = self.0.0.lock().unwrap();
        let lines: Vec<_> = lines.lines.iter().map(|(_, line)| line.as_str()).collect();
        lines.join(
            "
",
        ) + "
"
    }

    /// What was printed to one of the outputs.
    pub fn of(&self, name: &str) -> Vec<String> {
        let lines = self.0.0.lock().unwrap();
        let of = lines.lines.iter().filter(|(from, _)| *from == name);
        of.map(|(_, line)| line.clone()).collect()
    }

    /// Waits for the `count`-th line that contains `needle`.
    pub fn wait_for(&self, needle: &str, count: usize) -> String {
        self.seek(needle, count)
            .unwrap_or_else(|| panic!("never printed {needle:?} {count} times:\n{}", self.text()))
    }

    /// Waits for the `count`-th line that contains `needle`; none if it does not come.
    pub fn seek(&self, needle: &str, count: usize) -> Option<String> {
        let start = Instant::now();
        let mut lines = self.0.0.lock().unwrap();
        loop {
            let mut found = lines.lines.iter().filter(|(_, line)| line.contains(needle));
            if let Some((_, line)) = found.nth(count - 1) {
                return Some(line.clone());
            }
            let left = PATIENCE.checked_sub(start.elapsed());
            let left = left.filter(|_| lines.open > 0)?;
            lines = self.0.1.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Waits until nothing more can come.
    pub fn wait_closed(&self) {
        let mut lines = self.0.0.lock().unwrap();
        while lines.open > 0 {
            lines = self.0.1.wait(lines).unwrap();
        }
    }
}
