//! The table that is printed.

use std::time::Duration;

/// What is printed.
#[derive(Default)]
pub struct Table {
    pub missed: bool,
}

impl Table {
    #[allow(clippy::unused_self, reason = "reads as the others")]
    pub fn row(&mut self, what: &str, time: Duration) {
        println!("| {what} | {} | | | |", show(time));
    }

    /// `time` beside `other`, of which it may be at most `most` times as much.
    pub fn compared(&mut self, what: &str, time: Duration, of: &str, other: Duration, most: f64) {
        let ratio = time.as_secs_f64() / other.as_secs_f64();
        self.ratio(what, &show(time), ratio, of, &show(other), most);
    }

    /// `time`, which may be at most so much longer than `other`.
    pub fn beyond(
        &mut self,
        what: &str,
        time: Duration,
        of: &str,
        other: Duration,
        most: Duration,
    ) {
        let more = time.saturating_sub(other);
        let is_missed = more > most;
        self.missed |= is_missed;
        let mark = if is_missed { ": **missed**" } else { "" };
        println!(
            "| {what} | {} | {} more | {of}: {} | {}{mark} |",
            show(time),
            show(more),
            show(other),
            show(most)
        );
    }

    /// `time`, which may be at most so much.
    pub fn at_most(&mut self, what: &str, time: Duration, most: Duration) {
        let is_missed = time > most;
        self.missed |= is_missed;
        let mark = if is_missed { ": **missed**" } else { "" };
        println!("| {what} | {} | | | {}{mark} |", show(time), show(most));
    }

    pub fn bytes(&mut self, what: &str, bytes: u64, of: &str, other: u64, most: f64) {
        let mb = |bytes: u64| format!("{:.2} MB", bytes as f64 / 1e6);
        let ratio = bytes as f64 / other as f64;
        self.ratio(what, &mb(bytes), ratio, of, &mb(other), most);
    }

    /// How much more memory was taken at most, which may be so much.
    pub fn memory(&mut self, what: &str, mb: u64, most: u64) {
        let is_missed = mb > most;
        self.missed |= is_missed;
        let mark = if is_missed { ": **missed**" } else { "" };
        println!("| {what} | {mb} MB more | | | {most} MB{mark} |");
    }

    fn ratio(&mut self, what: &str, ours: &str, ratio: f64, of: &str, other: &str, most: f64) {
        let missed = ratio > most;
        self.missed |= missed;
        let mark = if missed { ": **missed**" } else { "" };
        let most = (most * 100.0).round() / 100.0;
        println!("| {what} | {ours} | {ratio:.2} | {of}: {other} | {most}{mark} |");
    }
}

/// A time, for people.
pub fn show(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms < 10.0 {
        format!("{ms:.2} ms")
    } else if ms < 10_000.0 {
        format!("{ms:.0} ms")
    } else {
        format!("{:.1} s", ms / 1e3)
    }
}
