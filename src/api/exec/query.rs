//! What the query of an exec request, or the arguments of a control operation, ask for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::api::problem::Problem;
use crate::config::value::parse_duration;
use crate::exec::terminal::{LARGEST, Size};
use crate::exec::{Linger, Spec};

/// How long a command without a terminal runs on when its client is gone.
const LINGER: Duration = Duration::from_secs(10);

/// Names and values in order; names may repeat.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query string, as forms are encoded.
    #[must_use]
    pub fn parse(text: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(text.unwrap_or_default().as_bytes());
        Self(pairs.into_owned().collect())
    }

    /// From pairs that were read elsewhere.
    #[must_use]
    pub const fn of(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// The first value of `name`, unless it is empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter();
        let value = pairs.find(|(key, _)| key == name)?.1.as_str();
        (!value.is_empty()).then_some(value)
    }

    /// Whether `name` is there at all.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// Whether `name` is `true` (or `1`); none if it is not there.
    #[must_use]
    pub fn flag(&self, name: &str) -> Option<bool> {
        let value = self.get(name)?;
        Some(value.eq_ignore_ascii_case("true") || value == "1")
    }

    /// The names that are none of `known`.
    pub fn unknown<'a>(&'a self, known: &'a [&str]) -> impl Iterator<Item = &'a str> {
        let names = self.0.iter().map(|(name, _)| name.as_str());
        names.filter(|name| !known.contains(name))
    }

    /// All values of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = String> + 'a {
        let pairs = self.0.iter().filter(move |(key, _)| key == name);
        pairs.map(|(_, value)| value.clone())
    }

    /// Whether a command is named.
    #[must_use]
    pub fn is_command(&self) -> bool {
        ["cmd", "cmd[]", "path"].iter().any(|name| self.has(name))
    }

    /// The session that is to be attached to.
    #[must_use]
    pub fn session(&self) -> Option<&str> {
        self.get("id").or_else(|| self.get("session_id"))
    }

    /// What is to be run.
    pub fn spec(&self) -> Result<Spec, Problem> {
        let tty = self.flag("tty").unwrap_or(false);
        let command = self.command(tty)?;
        let environment = self.environment()?;
        let texts = command.iter().chain(environment.values());
        let extra = ["path", "dir"]
            .into_iter()
            .filter_map(|name| self.get(name));
        if texts
            .map(String::as_str)
            .chain(extra)
            .any(|text| text.contains('\0'))
        {
            return Err(Problem::bad_request(
                "NUL characters cannot be passed to a program",
            ));
        }
        Ok(Spec {
            command,
            path: self.get("path").map(str::to_owned),
            environment,
            working_dir: self.get("dir").map(PathBuf::from),
            stdin: tty || self.flag("stdin").unwrap_or(false),
            terminal: tty.then(|| self.size()).transpose()?,
            linger: self.linger(tty)?,
        })
    }

    fn command(&self, tty: bool) -> Result<Vec<String>, Problem> {
        let command: Vec<_> = self.all("cmd").chain(self.all("cmd[]")).collect();
        match (command.first(), self.get("path")) {
            (Some(first), _) if !first.is_empty() => Ok(command),
            (None, Some(path)) if tty || self.has("path") => Ok(vec![path.to_owned()]),
            (None, None) if tty => Ok(vec!["bash".to_owned()]),
            _ => Err(Problem::bad_request(
                "No command specified: give each word of it as a parameter \"cmd\"",
            )),
        }
    }

    fn environment(&self) -> Result<BTreeMap<String, String>, Problem> {
        let pairs = self.all("env").map(|entry| match entry.split_once('=') {
            Some((name, value)) if !name.is_empty() && !name.contains('\0') => {
                Ok((name.to_owned(), value.to_owned()))
            }
            _ => Err(Problem::bad_request(
                "each parameter \"env\" must be NAME=VALUE",
            )),
        });
        pairs.collect()
    }

    /// The size of the terminal: 24 lines of 80 characters unless told otherwise.
    fn size(&self) -> Result<Size, Problem> {
        let default = Size::default();
        let number = |name: &str, default: u16| match self.get(name) {
            None | Some("0") => Ok(default),
            Some(text) => text.parse().map_err(|_| {
                Problem::bad_request(format!(
                    "\"{name}\" is \"{text}\": give a number up to 65535"
                ))
            }),
        };
        let rows = number("rows", default.rows.get())?;
        let cols = number("cols", default.cols.get())?;
        Size::new(rows, cols).ok_or_else(|| {
            Problem::bad_request(format!(
                "a terminal of {rows} lines of {cols} characters is too large: at most {LARGEST} \
                 of each, and 250000 characters in all"
            ))
        })
    }

    fn linger(&self, tty: bool) -> Result<Linger, Problem> {
        let name = "max_run_after_disconnect";
        match self.get(name) {
            Some(text) => match parse_seconds(text) {
                Some(time) if time.is_zero() => Ok(Linger::Forever),
                Some(time) => Ok(Linger::For(time)),
                None => Err(Problem::bad_request(format!(
                    "\"{name}\" is \"{text}\": give a duration such as \"30s\", or 0 for ever"
                ))),
            },
            None if tty || self.flag("detachable").unwrap_or(false) => Ok(Linger::Forever),
            None => Ok(Linger::For(LINGER)),
        }
    }
}

/// A duration as in Go, or a bare number of seconds.
#[must_use]
pub fn parse_seconds(text: &str) -> Option<Duration> {
    match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => parse_duration(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(query: &str) -> Spec {
        Query::parse(Some(query)).spec().unwrap()
    }

    #[test]
    fn repeated_names_are_kept_in_order() {
        let spec = spec("cmd=sh&cmd=-c&cmd=echo+a%26b&env=A=1&env=B=x%3Dy&dir=/tmp&stdin=true");
        assert_eq!(spec.command, ["sh", "-c", "echo a&b"]);
        assert_eq!(spec.environment["B"], "x=y");
        assert_eq!(spec.working_dir, Some(PathBuf::from("/tmp")));
        assert!(spec.stdin && spec.terminal.is_none());
        assert_eq!(spec.linger, Linger::For(LINGER));
    }

    #[test]
    fn a_terminal_has_a_size_and_lingers() {
        assert_eq!(spec("cmd=sh&tty=true").terminal, Some(Size::default()));
        let size = Size::new(5, 7);
        assert_eq!(spec("cmd=sh&tty=true&rows=5&cols=7").terminal, size);
        assert_eq!(spec("tty=true").command, ["bash"]);
        assert_eq!(spec("cmd=sh&tty=true").linger, Linger::Forever);
        let limited = spec("cmd=sh&tty=true&max_run_after_disconnect=1.5s").linger;
        assert_eq!(limited, Linger::For(Duration::from_millis(1500)));
        assert_eq!(
            spec("cmd=x&max_run_after_disconnect=0").linger,
            Linger::Forever
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "",
            "cmd=",
            "cmd=x&env=novalue",
            "cmd=x&env==v",
            "cmd=x%00",
            "cmd=x&dir=%00",
            "cmd=x&tty=true&rows=many",
            "cmd=x&tty=true&rows=65535&cols=65535",
            "cmd=x&tty=true&rows=1000&cols=1000",
            "cmd=x&max_run_after_disconnect=soon",
        ] {
            assert!(Query::parse(Some(bad)).spec().is_err(), "{bad}");
        }
    }
}
