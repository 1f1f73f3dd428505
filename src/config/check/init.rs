//! What an init does for a bare machine or container, and at the end.

use super::Checker;
use crate::config::origin::from_file;
use crate::config::{AtEnd, Init};

/// The longest host name that the kernel takes (`__NEW_UTS_LEN`).
const LONGEST: usize = 64;

impl Checker<'_> {
    pub(super) fn init(&mut self) -> Init {
        let init = self.file.init.clone().unwrap_or_default();
        let mounts = [from_file(init.mounts.as_ref())];
        let hostname = [from_file(init.hostname.as_ref())];
        let loopback = [from_file(init.loopback.as_ref())];
        let hostname = self.ledger.pick_optional("init.hostname", hostname);
        if let Some(name) = &hostname {
            let valid = |c: char| c.is_ascii_alphanumeric() || ".-".contains(c);
            if name.is_empty() || name.len() > LONGEST || !name.chars().all(valid) {
                let why = format!(
                    "\"{name}\" is no host name: 1 to {LONGEST} letters, digits, '-' and '.'"
                );
                self.ledger.wrong("init.hostname", why);
            }
        }
        Init {
            mounts: self.ledger.pick_optional("init.mounts", mounts),
            hostname,
            loopback: self.ledger.pick_optional("init.loopback", loopback),
            at_end: self.at_end(init.at_end.as_ref()),
        }
    }

    fn at_end(&mut self, written: Option<&crate::config::raw::Text>) -> Option<AtEnd> {
        let key = "init.at_end";
        let text = self.ledger.pick_optional(key, [from_file(written)])?;
        let found = AtEnd::ALL.into_iter().find(|it| it.to_string() == text);
        if found.is_none() {
            let words = AtEnd::ALL.map(|it| it.to_string()).join(", ");
            self.ledger
                .wrong(key, format!("\"{text}\" is not one of {words}"));
        }
        found
    }
}
