//! Cutting a stream of bytes into the texts of events: whole lines, as many as are there
//! and fit, and never through the middle of a character.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The longest text of one event, in bytes. Even if each byte needs six in JSON, an
/// event's line stays below the 64 KiB that clients read.
const LONGEST: usize = 8 * 1024;

/// What a piece of output is in an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// It is text: field `data`.
    Text(String),
    /// It is not UTF-8: field `data_b64`.
    Base64(String),
}

/// The part of a stream that was not cut yet.
#[derive(Debug, Default)]
pub struct Cutter {
    pending: Vec<u8>,
}

impl Cutter {
    /// Takes in `bytes`; returns the lines that are complete, together as far as they
    /// fit, and pieces of a line that is too long.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Data> {
        self.pending.extend_from_slice(bytes);
        let mut cut = Vec::new();
        let mut start = 0;
        loop {
            let rest = self.pending.get(start..).unwrap_or_default();
            let fitting = rest.get(..LONGEST).unwrap_or(rest);
            let end = match fitting.iter().rposition(|byte| *byte == b'\n') {
                Some(at) => at + 1,
                None if rest.len() > LONGEST => LONGEST - unfinished(fitting),
                None => break,
            };
            cut.push(data(rest.get(..end).unwrap_or(rest)));
            start += end;
        }
        self.pending.drain(..start);
        cut
    }

    /// What is there of an incomplete line, because nothing more comes for now. The
    /// start of a character stays until the rest of it comes.
    pub fn flush(&mut self) -> Option<Data> {
        let end = self.pending.len() - unfinished(&self.pending);
        (end > 0).then(|| {
            let piece: Vec<u8> = self.pending.drain(..end).collect();
            data(&piece)
        })
    }

    /// What is left at the very end.
    #[must_use]
    pub fn finish(self) -> Option<Data> {
        (!self.pending.is_empty()).then(|| data(&self.pending))
    }
}

fn data(bytes: &[u8]) -> Data {
    match std::str::from_utf8(bytes) {
        Ok(text) => Data::Text(text.to_owned()),
        Err(_) => Data::Base64(STANDARD.encode(bytes)),
    }
}

/// How many bytes at the end are the start of a character whose rest is missing.
fn unfinished(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes.get(bytes.len().saturating_sub(3)..).unwrap_or(bytes)) {
        Ok(_) => 0,
        Err(_) => (1..=3.min(bytes.len()))
            .find(|back| {
                let tail = bytes.get(bytes.len() - back..).unwrap_or_default();
                matches!(std::str::from_utf8(tail), Err(e) if e.valid_up_to() == 0 && e.error_len().is_none())
            })
            .unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(s: &str) -> Data {
        Data::Text(s.to_owned())
    }

    #[test]
    fn whole_lines_at_once_and_the_rest_when_nothing_comes() {
        let mut cutter = Cutter::default();
        assert_eq!(cutter.push(b"one\n\ntw"), [text("one\n\n")]);
        assert_eq!(cutter.flush(), Some(text("tw")));
        assert_eq!(cutter.flush(), None);
        assert_eq!(cutter.push(b"o\n"), [text("o\n")]);
    }

    #[test]
    fn characters_stay_whole() {
        let bytes = "é€😀".as_bytes();
        for split in 0..=bytes.len() {
            let mut cutter = Cutter::default();
            let mut got = String::new();
            let (a, b) = bytes.split_at(split);
            for part in [a, b] {
                assert!(cutter.push(part).is_empty());
                if let Some(data) = cutter.flush() {
                    let Data::Text(text) = data else {
                        panic!("cut through a character at {split}")
                    };
                    got += &text;
                }
            }
            assert_eq!(cutter.finish(), None);
            assert_eq!(got, "é€😀", "{split}");
        }
    }

    #[test]
    fn what_is_no_text_is_base64() {
        let mut cutter = Cutter::default();
        assert_eq!(
            cutter.push(b"\xff\xfe\n"),
            [Data::Base64("//4K".to_owned())]
        );
        let mut cutter = Cutter::default();
        cutter.push(b"\xc3");
        assert_eq!(cutter.finish(), Some(Data::Base64("ww==".to_owned())));
    }

    #[test]
    fn long_lines_come_in_pieces() {
        let mut cutter = Cutter::default();
        let long = "é".repeat(LONGEST);
        let mut got = String::new();
        for data in cutter
            .push(long.as_bytes())
            .into_iter()
            .chain(cutter.finish())
        {
            let Data::Text(text) = data else {
                panic!("not text")
            };
            assert!(text.len() <= LONGEST);
            got += &text;
        }
        assert_eq!(got, long);
    }
}
