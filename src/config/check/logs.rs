//! Where what components write is kept in files.

use super::Checker;
use crate::config::Logs;
use crate::config::origin::from_file;
use crate::config::value::parse_size;

/// The smallest size of a file: some lines must fit in.
const SMALLEST: u64 = 64 << 10;

impl Checker<'_> {
    pub(super) fn logs(&mut self) -> Option<Logs> {
        let logs = self.file.logs.clone().unwrap_or_default();
        let dir = [from_file(logs.dir.as_ref())];
        let dir = self.ledger.pick_optional("logs.dir", dir);
        let size = [from_file(logs.size.as_ref())];
        let size = self.ledger.pick("logs.size", size, "10M".to_owned());
        let bytes = parse_size(&size).filter(|bytes| *bytes >= SMALLEST);
        if bytes.is_none() {
            let why = format!("\"{size}\" is no size of at least 64K, such as 500K or 10M");
            self.ledger.wrong("logs.size", why);
        }
        let keep = [from_file(logs.keep.as_ref())];
        let keep = self.ledger.pick("logs.keep", keep, 5);
        let dir = dir?;
        match self.ledger.absolute(&dir) {
            Ok(dir) => Some(Logs {
                dir,
                size: bytes?,
                keep: keep.into(),
            }),
            Err(error) => {
                let why = format!("\"{dir}\" is no path: {error}");
                self.ledger.wrong("logs.dir", why);
                None
            }
        }
    }
}
