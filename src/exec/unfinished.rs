//! Where a terminal's output may be cut: a control sequence or a character of which only
//! a part has been read means nothing without the rest.

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;
/// What ends a control sequence early.
const CANCEL: [u8; 2] = [0x18, 0x1a];

/// How many bytes at the end of `output` begin a control sequence (ECMA-48, and the strings
/// of xterm) or a character in UTF-8 that goes on in what comes next.
#[must_use]
pub fn unfinished(output: &[u8]) -> usize {
    let begin = (0..output.len())
        .rev()
        .find(|&at| output.get(at) == Some(&ESC) && output.get(at + 1) != Some(&b'\\'));
    match begin.and_then(|at| output.get(at..)) {
        Some(sequence) if !is_whole(sequence) => sequence.len(),
        _ => of_character(output),
    }
}

/// Whether all of the sequence that an escape begins is there.
fn is_whole(sequence: &[u8]) -> bool {
    let (Some(kind), rest) = (sequence.get(1), sequence.get(2..).unwrap_or_default()) else {
        return false;
    };
    if rest.iter().any(|byte| CANCEL.contains(byte)) {
        return true;
    }
    match kind {
        b'[' => rest.iter().any(|byte| (0x40..=0x7e).contains(byte)),
        b']' => rest.contains(&BEL) || rest.contains(&ESC),
        b'P' | b'X' | b'^' | b'_' => rest.contains(&ESC),
        0x20..=0x2f => rest.iter().any(|byte| (0x30..=0x7e).contains(byte)),
        _ => true,
    }
}

/// How many bytes at the end are a part of a character.
fn of_character(output: &[u8]) -> usize {
    for (behind, byte) in output.iter().rev().take(3).enumerate() {
        let length = match byte {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 0,
        };
        return if length > behind + 1 { behind + 1 } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_finished_by_what_ends_its_kind() {
        for whole in [
            "",
            "text",
            "\x1b[1;31mtext",
            "\x1b(B",
            "\x1b7",
            "\x1b]0;title\x07",
            "世界",
            "\x1b]0;title\x1b\\",
            "\x1bP1$r0m\x1b\\",
            "\x1b[12\x18",
            "\x1b]0;ti\x1b\\text\x1b[m",
        ] {
            assert_eq!(unfinished(whole.as_bytes()), 0, "{whole:?}");
        }
        for (text, tail) in [
            ("text\x1b", 1),
            ("text\x1b[1;3", 5),
            ("\x1b[m\x1b(", 2),
            ("text\x1b]0;titl", 8),
            ("\x1b]0;title\x1b", 1),
            ("text\x1bPsome data", 11),
        ] {
            assert_eq!(unfinished(text.as_bytes()), tail, "{text:?}");
        }
    }

    #[test]
    fn a_character_is_finished_by_its_last_byte() {
        for text in ["aä", "a世", "a🦀"] {
            for cut in 1..text.len() {
                assert_eq!(unfinished(&text.as_bytes()[..cut]), cut - 1, "{text}");
            }
        }
        // What is no character is shown as such.
        assert_eq!(unfinished(b"a\xff"), 0);
        assert_eq!(unfinished(b"\x80\x80\x80\x80"), 0);
    }
}
