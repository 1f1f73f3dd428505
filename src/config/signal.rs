//! Signals by name and number, real-time ones included.

use std::collections::BTreeMap;

/// The standard signals of Linux on the architectures we build for, by name without SIG.
const NAMES: &[(&str, i32)] = &[
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

/// The first real-time signal as programs see it; libc keeps those below for itself.
const RTMIN: i32 = 34;
/// The last signal.
const MAX: i32 = 64;

/// Reads a signal: `TERM`, `SIGTERM`, `15`, `RTMIN+3`, `RTMAX-1`.
#[must_use]
pub fn parse(text: &str) -> Option<i32> {
    let text = text.trim().to_ascii_uppercase();
    let name = text.strip_prefix("SIG").unwrap_or(&text);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Some(*number);
    }
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        RTMIN.checked_add(offset(rest, '+')?)?
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        MAX.checked_sub(offset(rest, '-')?)?
    } else {
        name.parse().ok()?
    };
    ((1..=31).contains(&number) || (RTMIN..=MAX).contains(&number)).then_some(number)
}

/// The number behind `RTMIN` or `RTMAX`; nothing counts as 0.
fn offset(text: &str, sign: char) -> Option<i32> {
    if text.is_empty() {
        return Some(0);
    }
    text.strip_prefix(sign)?.parse().ok()
}

/// A signal's name without SIG: `TERM`, `RTMIN+3`.
#[must_use]
pub fn name(signal: i32) -> String {
    match NAMES.iter().find(|(_, number)| *number == signal) {
        Some((name, _)) => (*name).to_owned(),
        None if signal >= RTMIN => format!("RTMIN+{}", signal - RTMIN),
        None => signal.to_string(),
    }
}

/// What the main process gets instead of the signals we receive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignalMap(BTreeMap<i32, Option<i32>>);

impl SignalMap {
    /// Reads `{"TERM": "QUIT", "HUP": null}`. The error is the bad entry and a sentence.
    pub fn parse(
        written: &BTreeMap<String, Option<String>>,
    ) -> Result<Self, Vec<(String, String)>> {
        let mut map = BTreeMap::new();
        let mut errors = Vec::new();
        for (from, to) in written {
            let target = to.as_deref().map(|to| parse(to).ok_or(to));
            match (parse(from), target) {
                (None, _) => errors.push((from.clone(), format!("\"{from}\" is no signal"))),
                (_, Some(Err(to))) => errors.push((from.clone(), format!("\"{to}\" is no signal"))),
                (Some(from), None) => {
                    map.insert(from, None);
                }
                (Some(from), Some(Ok(to))) => {
                    map.insert(from, Some(to));
                }
            }
        }
        if errors.is_empty() {
            Ok(Self(map))
        } else {
            Err(errors)
        }
    }

    /// What the main process gets when we receive `signal`; none = nothing.
    #[must_use]
    pub fn apply(&self, signal: i32) -> Option<i32> {
        self.0.get(&signal).copied().unwrap_or(Some(signal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number() {
        for (text, number) in [
            ("TERM", Some(15)),
            ("sigterm", Some(15)),
            ("15", Some(15)),
            ("RTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX", Some(64)),
            ("RTMAX-1", Some(63)),
            ("64", Some(64)),
            ("65", None),
            ("33", None),
            ("0", None),
            ("RTMIN+99", None),
            ("TREM", None),
        ] {
            assert_eq!(parse(text), number, "{text}");
        }
        for signal in (1..=31).chain(34..=64) {
            assert_eq!(parse(&name(signal)), Some(signal));
        }
    }
}
