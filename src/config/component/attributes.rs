//! What a child may do and use, beyond its command, directory and user.

use std::collections::BTreeMap;

use nix::unistd::Group;
use rustix::process::{Resource, Rlimit, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};
use serde_json::json;

use crate::config::origin::{Ledger, Origin, from_file};
use crate::config::raw::{self, Text};

/// What a child may do and use. What is not given is as we have it ourselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// The permissions that new files do not get.
    pub umask: Option<u32>,
    /// How nice it is to others, -20 to 19.
    pub nice: Option<i32>,
    /// How soon the kernel kills it when memory runs out, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Limits; a bound that is none is no bound.
    pub rlimits: Vec<(Resource, Rlimit)>,
    /// The capabilities that it keeps; none = all that we have.
    pub capabilities: Option<CapabilitySet>,
    /// Whether programs that it runs cannot give it more rights.
    pub no_new_privs: bool,
    /// Its supplementary groups, instead of its user's.
    pub groups: Option<Vec<u32>>,
    /// Variables from a file.
    pub environment: BTreeMap<String, String>,
    /// The only variables of ours that it gets, as patterns; none = all.
    pub env_allow: Option<Vec<String>>,
    /// Variables of ours that it does not get, as patterns.
    pub env_deny: Vec<String>,
}

impl Attributes {
    /// Whether the child must do nothing to itself for them.
    #[must_use]
    pub const fn are_inherited(&self) -> bool {
        self.umask.is_none()
            && self.nice.is_none()
            && self.oom_score_adj.is_none()
            && self.rlimits.is_empty()
            && self.capabilities.is_none()
            && !self.no_new_privs
            && self.groups.is_none()
    }

    /// Whether it gets our variable `name`.
    #[must_use]
    pub fn inherits(&self, name: &str) -> bool {
        let matches = |patterns: &[String]| {
            let mut patterns = patterns.iter();
            patterns.any(|pattern| fast_glob::glob_match(pattern, name))
        };
        self.env_allow.as_deref().is_none_or(matches) && !matches(&self.env_deny)
    }
}

/// The limits by name, as getrlimit(2) has them.
const RESOURCES: &[(&str, Resource)] = &[
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

/// Reads them.
pub fn attributes(key: &str, raw: Option<&raw::Attributes>, ledger: &mut Ledger) -> Attributes {
    let Some(raw) = raw else {
        return Attributes::default();
    };
    let mut reader = Reader { key, ledger };
    Attributes {
        umask: reader.umask(raw.umask.as_ref()),
        nice: reader.number("nice", raw.nice.as_ref(), -20..=19, CapabilitySet::SYS_NICE),
        oom_score_adj: reader.number(
            "oom_score_adj",
            raw.oom_score_adj.as_ref(),
            -1000..=1000,
            CapabilitySet::SYS_RESOURCE,
        ),
        rlimits: reader.rlimits(raw.rlimits.as_ref()),
        capabilities: reader.capabilities(raw.capabilities.as_ref()),
        no_new_privs: reader.ledger.pick(
            &format!("{key}.no_new_privs"),
            [from_file(raw.no_new_privs.as_ref())],
            false,
        ),
        groups: reader.groups(raw.groups.as_ref()),
        environment: reader.env_file(raw.env_file.as_ref()),
        env_allow: reader.texts("env_allow", raw.env_allow.as_ref()),
        env_deny: reader
            .texts("env_deny", raw.env_deny.as_ref())
            .unwrap_or_default(),
    }
}

/// Whether we have this capability.
fn have(capability: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|ours| ours.effective.contains(capability))
}

struct Reader<'a> {
    key: &'a str,
    ledger: &'a mut Ledger,
}

impl Reader<'_> {
    fn at(&self, field: &str) -> String {
        format!("{}.{field}", self.key)
    }

    fn wrong(&mut self, field: &str, why: impl Into<String>) {
        self.ledger.wrong(&self.at(field), why);
    }

    fn umask(&mut self, written: Option<&Text>) -> Option<u32> {
        let text = self
            .ledger
            .pick_optional(&self.at("umask"), [from_file(written)])?;
        let mask = u32::from_str_radix(&text, 8).ok();
        let mask = mask.filter(|mask| *mask <= 0o777);
        if mask.is_none() {
            let why =
                format!("\"{text}\" is no umask: octal digits from 0 to 777, such as \"027\"");
            self.wrong("umask", why);
        }
        mask
    }

    /// A number; one below ours needs a capability.
    fn number(
        &mut self,
        field: &str,
        written: Option<&crate::config::value::Value<i64>>,
        range: std::ops::RangeInclusive<i64>,
        privilege: CapabilitySet,
    ) -> Option<i32> {
        let number = self
            .ledger
            .pick_optional(&self.at(field), [from_file(written)])?;
        if !range.contains(&number) {
            let why = format!("must be from {} to {}", range.start(), range.end());
            self.wrong(field, why);
        } else if number < 0 && !have(privilege) {
            let why = format!("a number below 0 needs the capability {}", name(privilege));
            self.wrong(field, why);
        }
        i32::try_from(number).ok()
    }

    fn rlimits(&mut self, written: Option<&BTreeMap<String, Text>>) -> Vec<(Resource, Rlimit)> {
        let mut limits = Vec::new();
        for (name, text) in written.into_iter().flatten() {
            let field = format!("rlimits.{name}");
            let shown = json!(text.value);
            self.ledger.note(&self.at(&field), (), shown, text.origin());
            let Some((_, resource)) = RESOURCES.iter().find(|(known, _)| known == name) else {
                let names: Vec<_> = RESOURCES.iter().map(|(name, _)| *name).collect();
                self.wrong(
                    &field,
                    format!("no such limit; there are {}", names.join(", ")),
                );
                continue;
            };
            let Some(limit) = limit(&text.value) else {
                let why = format!(
                    "\"{}\" is no limit: give a number, \"unlimited\" or \"soft:hard\", of which \
                     the first is not the larger",
                    text.value
                );
                self.wrong(&field, why);
                continue;
            };
            let ours = getrlimit(*resource).maximum;
            let is_more = match (limit.maximum, ours) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(wanted), Some(ours)) => wanted > ours,
            };
            if is_more && !have(CapabilitySet::SYS_RESOURCE) {
                let ours = ours.unwrap_or_default();
                let why = format!("more than our own, {ours}, needs the capability SYS_RESOURCE");
                self.wrong(&field, why);
            }
            limits.push((*resource, limit));
        }
        limits
    }

    fn capabilities(&mut self, written: Option<&Vec<Text>>) -> Option<CapabilitySet> {
        let names = self.texts("capabilities", written)?;
        let mut kept = CapabilitySet::empty();
        for text in names {
            let upper = text.to_ascii_uppercase();
            let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
            match CapabilitySet::from_name(name) {
                Some(capability) => kept |= capability,
                None => self.wrong("capabilities", format!("there is no capability \"{text}\"")),
            }
        }
        if !have(CapabilitySet::SETPCAP) {
            self.wrong(
                "capabilities",
                "dropping others needs the capability SETPCAP",
            );
        }
        Some(kept)
    }

    fn groups(&mut self, written: Option<&Vec<Text>>) -> Option<Vec<u32>> {
        let names = self.texts("groups", written)?;
        let mut groups = Vec::new();
        for text in names {
            let found = match text.parse() {
                Ok(gid) => Some(gid),
                Err(_) => Group::from_name(&text)
                    .ok()
                    .flatten()
                    .map(|group| group.gid.as_raw()),
            };
            match found {
                Some(gid) => groups.push(gid),
                None => self.wrong("groups", format!("there is no group \"{text}\"")),
            }
        }
        if !have(CapabilitySet::SETGID) {
            self.wrong("groups", "setting them needs the capability SETGID");
        }
        Some(groups)
    }

    fn env_file(&mut self, written: Option<&Text>) -> BTreeMap<String, String> {
        let key = self.at("env_file");
        let path = self.ledger.pick_optional(&key, [from_file(written)]);
        let Some(path) = path else {
            return BTreeMap::new();
        };
        let lines = match dotenvy::from_path_iter(self.ledger.base_dir.join(&path)) {
            Ok(lines) => lines,
            Err(error) => {
                self.wrong("env_file", format!("cannot read {path}: {error}"));
                return BTreeMap::new();
            }
        };
        // Of a line that is none, the error must not show the value: it may be secret.
        let mut variables = BTreeMap::new();
        for line in lines {
            match line {
                Ok((name, value)) if !value.contains('\0') => {
                    variables.insert(name, value);
                }
                _ => self.wrong(
                    "env_file",
                    format!("{path} has a line that is not NAME=value"),
                ),
            }
        }
        variables
    }

    fn texts(&mut self, field: &str, written: Option<&Vec<Text>>) -> Option<Vec<String>> {
        let texts: Option<Vec<_>> =
            written.map(|texts| texts.iter().map(|text| text.value.clone()).collect());
        let origin = texts.as_ref().map_or(Origin::Default, |_| Origin::File);
        let shown = json!(texts);
        self.ledger.note(&self.at(field), texts, shown, origin)
    }
}

fn name(capability: CapabilitySet) -> &'static str {
    capability.iter_names().next().map_or("", |(name, _)| name)
}

fn limit(text: &str) -> Option<Rlimit> {
    let bound = |text: &str| match text {
        "unlimited" => Some(None),
        text => text.parse().ok().map(Some),
    };
    let (soft, hard) = text.split_once(':').unwrap_or((text, text));
    let (current, maximum) = (bound(soft)?, bound(hard)?);
    let fits = match (current, maximum) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(current), Some(maximum)) => current <= maximum,
    };
    fits.then_some(Rlimit { current, maximum })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_as_they_are_written() {
        let pair = |text| limit(text).map(|limit| (limit.current, limit.maximum));
        assert_eq!(pair("10"), Some((Some(10), Some(10))));
        assert_eq!(pair("10:20"), Some((Some(10), Some(20))));
        assert_eq!(pair("0:unlimited"), Some((Some(0), None)));
        assert_eq!(pair("unlimited"), Some((None, None)));
        for wrong in ["20:10", "unlimited:10", "", "ten", "1:2:3", "-1"] {
            assert_eq!(pair(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_what_is_allowed_and_not_denied_is_inherited() {
        let attributes = Attributes {
            env_allow: Some(vec!["LC_*".to_owned(), "PATH".to_owned()]),
            env_deny: vec!["LC_ALL".to_owned()],
            ..Attributes::default()
        };
        let inherits = |name| attributes.inherits(name);
        assert!(inherits("PATH") && inherits("LC_TIME"));
        assert!(!inherits("LC_ALL") && !inherits("HOME") && !inherits("PATHS"));
        assert!(Attributes::default().inherits("HOME"));
    }
}
