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

/// The word that stands for no signal: the configuration is read again.
const RELOAD: &str = "reload";

/// The signals that mean something to us already.
const OURS: &[i32] = &[
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// What comes of a signal that we receive instead of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instead {
    Signal(i32),
    Nothing,
    Reload,
}

/// What the main process gets instead of the signals we receive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignalMap(BTreeMap<i32, Instead>);

impl SignalMap {
    /// Reads `{"TERM": "QUIT", "USR1": null, "HUP": "reload"}`. The errors are the bad entries
    /// and sentences.
    pub fn parse(
        written: &BTreeMap<String, Option<String>>,
    ) -> Result<Self, Vec<(String, String)>> {
        let mut map = BTreeMap::new();
        let mut errors = Vec::new();
        for (from, to) in written {
            match pair(from, to.as_deref()) {
                Ok((from, to)) => {
                    map.insert(from, to);
                }
                Err(why) => errors.push((from.clone(), why)),
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
        match self.0.get(&signal) {
            None => Some(signal),
            Some(Instead::Signal(other)) => Some(*other),
            Some(Instead::Nothing | Instead::Reload) => None,
        }
    }

    /// Whether the configuration is read again when we receive `signal`.
    #[must_use]
    pub fn reloads(&self, signal: i32) -> bool {
        self.0.get(&signal) == Some(&Instead::Reload)
    }
}

/// One entry, by numbers. The error is a sentence.
fn pair(from: &str, to: Option<&str>) -> Result<(i32, Instead), String> {
    let number = |name| parse(name).ok_or_else(|| format!("\"{name}\" is no signal"));
    let signal = number(from)?;
    Ok(match to {
        None => (signal, Instead::Nothing),
        Some(RELOAD) if OURS.contains(&signal) => {
            return Err(format!(
                "{from} has a meaning of its own and cannot reload; take another, such as HUP"
            ));
        }
        Some(RELOAD) => (signal, Instead::Reload),
        Some(to) => (signal, Instead::Signal(number(to)?)),
    })
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
