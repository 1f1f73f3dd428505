//! The lines of an operation, and a bar that shows how far it is.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Response;
use serde_json::Value;

use super::Outcome;
use crate::cli::client::{Client, Failure};

/// How often the bar moves while nothing is told.
const TICK: Duration = Duration::from_millis(120);
/// How a bar looks of which the end is known, and one of which it is not.
const KNOWN: &str = "{spinner} {prefix:9} [{bar:30}] {msg}";
const UNKNOWN: &str = "{spinner} {prefix:9} {msg}";

/// A bar of what goes on, of so many bytes if that is known, for people who look at it; it goes when
/// it is dropped. With `--json` nobody does.
pub fn bar(what: &'static str, bytes: Option<u64>, json: bool) -> Shown {
    if json || !io::stderr().is_terminal() {
        return Shown(ProgressBar::hidden());
    }
    let (bar, template) = match bytes {
        Some(bytes) => (ProgressBar::new(bytes), KNOWN),
        None => (ProgressBar::new_spinner(), UNKNOWN),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_prefix(what);
    bar.enable_steady_tick(TICK);
    Shown(bar)
}

/// A bar that is shown.
pub struct Shown(ProgressBar);

impl Shown {
    /// So many bytes more are done.
    pub fn add(&self, bytes: usize) {
        self.0.inc(bytes as u64);
        let done = indicatif::HumanBytes(self.0.position());
        self.0.set_message(done.to_string());
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Prints the lines of an operation as they come; returns what came of it.
pub async fn follow(client: &Client, response: Response, json: bool) -> Result<Outcome, Failure> {
    let mut teller = Teller {
        json,
        bar: None,
        // A bar is for people who look at it.
        draws: io::stderr().is_terminal() && !json,
    };
    let mut outcome = Outcome::Failed;
    let tell = |line: &[u8]| {
        if let Some(told) = teller.tell(line)? {
            outcome = told;
        }
        Ok(())
    };
    client.lines(response, tell).await?;
    teller.clear();
    Ok(outcome)
}

struct Teller {
    json: bool,
    draws: bool,
    bar: Option<ProgressBar>,
}

impl Teller {
    /// Prints one line; returns what came of the operation, if it says so.
    fn tell(&mut self, line: &[u8]) -> io::Result<Option<Outcome>> {
        let event: Value = serde_json::from_slice(line).unwrap_or_default();
        let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
        let kind = text("type");
        if self.json {
            io::stdout().write_all(line)?;
        } else if kind == "progress" {
            self.draw(&event);
        } else {
            self.clear();
            match kind {
                "error" => writeln!(io::stderr(), "sprite-env: {}", text("error"))?,
                "warning" => writeln!(io::stderr(), "{}", text("data"))?,
                _ => writeln!(io::stdout(), "{}", text("data"))?,
            }
        }
        io::stdout().flush()?;
        let incomplete = event.get("incomplete").and_then(Value::as_bool);
        Ok((kind == "complete").then_some(match incomplete {
            Some(true) => Outcome::Incomplete,
            _ => Outcome::Done,
        }))
    }

    fn draw(&mut self, event: &Value) {
        if !self.draws {
            return;
        }
        let number = |key: &str| event.get(key).and_then(Value::as_u64);
        let (files, bytes) = (number("files_done"), number("bytes_done"));
        let total = number("bytes_total").or_else(|| number("files_total"));
        let done = match number("bytes_total") {
            Some(_) => bytes,
            None => files,
        };
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(TICK);
            bar
        });
        let template = if total.is_some() { KNOWN } else { UNKNOWN };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let phase = event.get("phase").and_then(Value::as_str);
        bar.set_prefix(phase.unwrap_or_default().replace('_', "-"));
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(done.unwrap_or_default());
        let (files, bytes) = (files.unwrap_or_default(), bytes.unwrap_or_default());
        bar.set_message(match (files, bytes) {
            (0, 0) => String::new(),
            (0, _) => indicatif::HumanBytes(bytes).to_string(),
            (1, _) => format!("1 file, {}", indicatif::HumanBytes(bytes)),
            _ => format!("{files} files, {}", indicatif::HumanBytes(bytes)),
        });
    }

    /// Makes room for text.
    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
