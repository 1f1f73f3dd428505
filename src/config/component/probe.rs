//! Ways to find out how a component does, and when one runs by itself.

use std::time::Duration;

use regex_lite::Regex;
use serde_json::json;

use super::{command, time};
use crate::config::origin::{Ledger, Origin, from_file};
use crate::config::raw;

/// The descriptors that a component can be given.
pub const DESCRIPTORS: std::ops::RangeInclusive<u64> = 3..=15;

/// A question that is asked again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is asked.
    pub check: Check,
    /// The pause between two questions; none = 100ms, growing to 2s.
    pub interval: Option<Duration>,
    /// How long an answer may take; none = as long as it likes.
    pub timeout: Option<Duration>,
    /// How many answers in a row count.
    pub threshold: u32,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// A program: exit code 0 is good.
    Command(Vec<String>),
    /// A URL: a status from 200 to 399 is good.
    Http(String),
    /// An address: a connection that is taken is good.
    Tcp(String),
}

/// How a component's start is found to be over.
#[derive(Clone, Debug)]
pub enum Ready {
    /// By asking.
    Asked(Probe),
    /// By a line of its output.
    Log(Regex),
    /// By its own word, as sd_notify(3) sends it.
    Notify,
    /// By a line that it writes to this descriptor.
    Descriptor(i32),
}

impl PartialEq for Ready {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Asked(one), Self::Asked(two)) => one == two,
            (Self::Log(one), Self::Log(two)) => one.as_str() == two.as_str(),
            (Self::Descriptor(one), Self::Descriptor(two)) => one == two,
            (one, two) => matches!((one, two), (Self::Notify, Self::Notify)),
        }
    }
}

/// A command with a deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
}

/// The times at which something runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule(croner::Cron);

impl Schedule {
    /// Reads a cron expression. The error is a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let cron = text.parse().map_err(|error: croner::errors::CronError| {
            format!("\"{text}\" is no cron expression such as \"0 3 * * *\": {error}")
        })?;
        let schedule = Self(cron);
        match schedule.next() {
            Some(_) => Ok(schedule),
            None => Err(format!("\"{text}\" never comes")),
        }
    }

    /// The next time from now on.
    #[must_use]
    pub fn next(&self) -> Option<std::time::SystemTime> {
        let now = chrono::Local::now();
        let next = self.0.find_next_occurrence(&now, false).ok()?;
        Some(next.into())
    }
}

/// The ways of a probe that are given, by name.
fn ways(raw: &raw::Probe) -> Vec<&'static str> {
    let given = [
        ("command", raw.command.is_some()),
        ("http", raw.http.is_some()),
        ("tcp", raw.tcp.is_some()),
        ("log", raw.log.is_some()),
        ("notify", raw.notify.is_some()),
        ("fd", raw.fd.is_some()),
    ];
    let given = given.into_iter().filter(|(_, given)| *given);
    given.map(|(name, _)| name).collect()
}

/// Reads what tells that the start is over.
pub fn ready(key: &str, raw: &raw::Probe, ledger: &mut Ledger) -> Option<Ready> {
    let [way] = ways(raw).try_into().ok().or_else(|| {
        ledger.wrong(key, "give one of command, http, tcp, log, notify and fd");
        None
    })?;
    let asked = ["command", "http", "tcp"].contains(&way);
    if !asked && (raw.interval.is_some() || raw.timeout.is_some() || raw.threshold.is_some()) {
        let why = format!("interval, timeout and threshold mean nothing with {way}");
        ledger.wrong(key, why);
    }
    let at = format!("{key}.{way}");
    match way {
        "log" => {
            let text = ledger.pick_optional(&at, [from_file(raw.log.as_ref())])?;
            let pattern = Regex::new(&text).map_err(|error| {
                ledger.wrong(&at, format!("\"{text}\" is no regular expression: {error}"));
            });
            pattern.ok().map(Ready::Log)
        }
        "notify" => {
            let on = ledger.pick_optional(&at, [from_file(raw.notify.as_ref())])?;
            on.then_some(Ready::Notify)
        }
        "fd" => {
            let number = ledger.pick_optional(&at, [from_file(raw.fd.as_ref())])?;
            if !DESCRIPTORS.contains(&number) {
                ledger.wrong(&at, "must be from 3 to 15");
            }
            i32::try_from(number).ok().map(Ready::Descriptor)
        }
        _ => probe(key, raw, None, 1, ledger).map(Ready::Asked),
    }
}

/// Reads a question that is asked as long as a component is up.
pub fn standing(key: &str, raw: &raw::Probe, ledger: &mut Ledger) -> Option<Probe> {
    match ways(raw).as_slice() {
        [way] if ["command", "http", "tcp"].contains(way) => {
            probe(key, raw, Some(10_000), 3, ledger)
        }
        [way] => {
            let why = format!("{way} tells the start only; give one of command, http and tcp");
            ledger.wrong(key, why);
            None
        }
        _ => {
            ledger.wrong(key, "give one of command, http and tcp");
            None
        }
    }
}

fn probe(
    key: &str,
    raw: &raw::Probe,
    interval: Option<u64>,
    threshold: u64,
    ledger: &mut Ledger,
) -> Option<Probe> {
    let at = |field: &str| format!("{key}.{field}");
    let check = check(key, raw, ledger)?;
    let interval = match (&raw.interval, interval) {
        (None, None) => None,
        (written, default) => Some(time(
            &at("interval"),
            written.as_ref(),
            default.unwrap_or_default(),
            ledger,
        )),
    };
    if interval.is_some_and(|interval| interval.is_zero()) {
        ledger.wrong(&at("interval"), "must be more than 0");
    }
    let timeout = time(&at("timeout"), raw.timeout.as_ref(), 5_000, ledger);
    let written = [from_file(raw.threshold.as_ref())];
    let threshold = ledger.pick(&at("threshold"), written, threshold);
    if threshold == 0 {
        ledger.wrong(&at("threshold"), "must be 1 or more");
    }
    Some(Probe {
        check,
        interval,
        timeout: (!timeout.is_zero()).then_some(timeout),
        threshold: u32::try_from(threshold).unwrap_or(u32::MAX),
    })
}

fn check(key: &str, raw: &raw::Probe, ledger: &mut Ledger) -> Option<Check> {
    let at = |field: &str| format!("{key}.{field}");
    if raw.http.is_some() {
        let url = ledger.pick_optional(&at("http"), [from_file(raw.http.as_ref())])?;
        let parsed = reqwest::Url::parse(&url);
        if !parsed.is_ok_and(|it| ["http", "https"].contains(&it.scheme()) && it.has_host()) {
            let why = format!("\"{url}\" is no URL such as http://localhost:80/");
            ledger.wrong(&at("http"), why);
        }
        return Some(Check::Http(url));
    }
    if raw.tcp.is_some() {
        let address = ledger.pick_optional(&at("tcp"), [from_file(raw.tcp.as_ref())])?;
        let parts = address.rsplit_once(':');
        if !parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) {
            let why = format!("\"{address}\" is no address such as localhost:5432");
            ledger.wrong(&at("tcp"), why);
        }
        return Some(Check::Tcp(address));
    }
    command(&at("command"), raw.command.as_ref(), ledger).map(Check::Command)
}

/// Reads a command with a deadline.
pub fn hook(key: &str, raw: Option<&raw::Hook>, ledger: &mut Ledger) -> Option<Hook> {
    let raw = raw?;
    let timeout = time(
        &format!("{key}.timeout"),
        raw.timeout.as_ref(),
        5_000,
        ledger,
    );
    let key = format!("{key}.command");
    if raw.command.is_none() {
        ledger.wrong(&key, "missing; give the program and its arguments");
    }
    let command = command(&key, raw.command.as_ref(), ledger)?;
    Some(Hook { command, timeout })
}

/// Reads exit codes that mean success.
pub fn success_exit_codes(
    key: &str,
    raw: Option<&Vec<crate::config::value::Value<u8>>>,
    ledger: &mut Ledger,
) -> Vec<u8> {
    let codes: Vec<_> = raw.into_iter().flatten().map(|code| code.value).collect();
    let origin = raw.map_or(Origin::Default, |_| Origin::File);
    let shown = json!(codes);
    ledger.note(key, codes, shown, origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come() {
        let now = std::time::SystemTime::now();
        for text in ["* * * * *", "*/2 * * * * *", "@hourly", "30 4 1 * MON"] {
            let next = Schedule::parse(text).unwrap().next().unwrap();
            assert!(next > now, "{text}");
        }
        for text in ["", "now", "61 * * * *", "* * *", "0 0 30 2 *"] {
            let why = Schedule::parse(text).unwrap_err();
            assert!(why.contains(text), "{why}");
        }
    }
}
