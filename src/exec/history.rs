//! What a session has shown so far, for clients that come later: the last output of a
//! command with pipes, the screen of one with a terminal.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::pump::PIECE;
use super::session::{Piece, Stream};
use super::terminal::Size;
use super::unfinished::unfinished;

/// How many bytes of output are kept for a command with pipes, and of a string that a
/// terminal was not sent the end of.
const KEPT: usize = 256 * 1024;

/// How many bytes say what kind of sequence begins.
const INTRODUCER: usize = 2;

/// What was shown.
pub enum History {
    /// The last pieces of output, and how many bytes they are.
    Pieces(VecDeque<(Stream, Piece)>, usize),
    /// The screen, made when something is first written to it.
    Screen(Size, Option<Box<Screen>>),
}

/// A screen, and the bytes that it does not show yet because they go on in what comes next.
pub struct Screen {
    parser: vt100::Parser,
    rest: Vec<u8>,
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pieces(pieces, _) => write!(f, "Pieces({})", pieces.len()),
            Self::Screen(size, _) => write!(f, "Screen({size:?})"),
        }
    }
}

impl History {
    /// Nothing was shown yet; a terminal has a size.
    #[must_use]
    pub fn new(terminal: Option<Size>) -> Self {
        match terminal {
            None => Self::Pieces(VecDeque::new(), 0),
            Some(size) => Self::Screen(size, None),
        }
    }

    /// Takes in what is being shown.
    pub fn record(&mut self, stream: Stream, piece: &Piece) {
        let bytes = piece.payload();
        match self {
            Self::Pieces(pieces, kept) => {
                pieces.push_back((stream, piece.clone()));
                *kept += bytes.len();
                while *kept > KEPT {
                    let Some((_, old)) = pieces.pop_front() else {
                        break;
                    };
                    *kept -= old.payload().len();
                }
            }
            Self::Screen(size, screen) => {
                let screen = screen.get_or_insert_with(|| Screen::new(*size));
                // Whatever a program writes, the emulator must not take the session with it.
                if catch_unwind(AssertUnwindSafe(|| screen.show(&bytes))).is_err() {
                    tracing::warn!("the terminal emulator failed; its screen is cleared");
                    *screen = Screen::new(*size);
                }
            }
        }
    }

    /// The terminal has another size.
    pub fn resize(&mut self, new: Size) {
        if let Self::Screen(size, screen) = self {
            *size = new;
            if let Some(screen) = screen {
                let resized = catch_unwind(AssertUnwindSafe(|| {
                    screen.parser.screen_mut().set_size(new.rows, new.cols);
                }));
                if resized.is_err() {
                    *screen = Screen::new(new);
                }
            }
        }
    }

    /// What brings a new client to where the others are.
    #[must_use]
    pub fn replay(&self) -> VecDeque<(Stream, Piece)> {
        match self {
            Self::Pieces(pieces, _) => pieces.clone(),
            Self::Screen(_, None) => VecDeque::new(),
            Self::Screen(_, Some(screen)) => {
                let text = screen.replayed();
                let piece = |bytes| (Stream::Terminal, Piece::new(Stream::Terminal, bytes));
                text.chunks(PIECE).map(piece).collect()
            }
        }
    }

    /// How many bytes it takes, about.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Pieces(_, kept) => *kept,
            Self::Screen(_, None) => 0,
            Self::Screen(size, Some(screen)) => {
                let cells = usize::from(size.rows.get()) * usize::from(size.cols.get());
                2 * 32 * cells + screen.rest.len()
            }
        }
    }
}

impl Screen {
    fn new(size: Size) -> Box<Self> {
        Box::new(Self {
            parser: vt100::Parser::new(size.rows, size.cols, 0),
            rest: Vec::new(),
        })
    }

    /// Shows `bytes`, but for what is cut at their end.
    fn show(&mut self, bytes: &[u8]) {
        let mut joined = std::mem::take(&mut self.rest);
        let bytes = if joined.is_empty() {
            bytes
        } else {
            joined.extend_from_slice(bytes);
            &joined
        };
        let (shown, rest) = bytes.split_at(bytes.len() - unfinished(bytes));
        self.parser.process(shown);
        self.rest.extend_from_slice(rest);
        // Of a string without an end it is enough to know that it is one; the emulator would
        // keep all of it.
        if rest.len() > KEPT {
            self.rest.truncate(INTRODUCER);
        }
    }

    /// What makes another terminal show the same, and go on as this one does. Not in it: the
    /// screen behind a full one, the saved cursor, that places are counted from the margins
    /// (DECOM), and which character a REP that comes next would repeat.
    fn replayed(&self) -> Vec<u8> {
        let screen = self.parser.screen();
        let mut text = String::new();
        if screen.alternate_screen() {
            text.push_str("\x1b[?1049h");
        }
        // The client may have been here before.
        text.push_str("\x1b[r");
        text.push_str(&screen.state_formatted());
        if let Some((top, bottom)) = self.margins() {
            // Setting them moves the cursor; where it is at the end of a row, the last character
            // is written again, in its own colours.
            let _ = write!(text, "\x1b[{};{}r\x1b[m", top + 1, bottom + 1);
            text.push_str(&screen.cursor_state_formatted());
            text.push_str(&screen.attributes_formatted());
        }
        let mut text = text.into_bytes();
        text.extend_from_slice(&self.rest);
        text
    }

    /// The first and last row of what scrolls (DECSTBM), if that is not the whole screen.
    /// The emulator does not tell, but relative to them (DECOM) the cursor goes no further.
    fn margins(&self) -> Option<(u16, u16)> {
        let (rows, cols) = self.parser.screen().size();
        let mut copy = vt100::Parser::new(rows, cols, 0);
        *copy.screen_mut() = self.parser.screen().clone();
        copy.process(b"\x1b[?6h\x1b[1;1H");
        let (top, _) = copy.screen().cursor_position();
        copy.process(b"\x1b[65535;1H");
        let (bottom, _) = copy.screen().cursor_position();
        ((top, bottom) != (0, rows.get() - 1)).then_some((top, bottom))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(rows: u16, cols: u16) -> Size {
        Size::new(rows, cols).unwrap()
    }

    #[test]
    fn the_last_output_is_kept_with_its_stream() {
        let mut history = History::new(None);
        for n in 0..100u8 {
            let stream = [Stream::Stdout, Stream::Stderr][usize::from(n % 2)];
            history.record(stream, &Piece::new(stream, &[n; 10_000]));
        }
        let replay = history.replay();
        assert!(history.size() <= KEPT && replay.len() == 26);
        assert_eq!(replay.back().unwrap().0, Stream::Stderr);
        assert_eq!(replay.back().unwrap().1.payload()[0], 99);
    }

    #[test]
    fn a_screen_is_replayed_as_it_is_seen() {
        let mut history = History::new(Some(size(5, 20)));
        assert!(history.replay().is_empty());
        history.record(
            Stream::Terminal,
            &Piece::new(Stream::Terminal, b"gone\x1b[2J\x1b[3;4Hhere"),
        );
        let again = shown_by(&history);
        assert_eq!(again.screen().contents().trim(), "here");
        assert_eq!(again.screen().cursor_position(), (2, 7));
        history.record(
            Stream::Terminal,
            &Piece::new(Stream::Terminal, b"\x1b[?1049hfull"),
        );
        assert!(shown_by(&history).screen().alternate_screen());
    }

    /// Another terminal, shown what a new client gets.
    fn shown_by(history: &History) -> vt100::Parser {
        let History::Screen(size, _) = history else {
            panic!("no screen: {history:?}");
        };
        let mut again = vt100::Parser::new(size.rows, size.cols, 0);
        for (_, piece) in history.replay() {
            again.process(&piece.payload());
        }
        again
    }

    #[test]
    fn who_comes_between_any_two_bytes_sees_what_the_others_see() {
        let output =
            "one\r\ntwo ä世界🦀\x1b[1;31mred\x1b[m\x1b]0;title\x07\x1b[2;4r\x1b[4;1H\n\x1b[2S\
            three\x1b[1;1H\x1b]8;;to\x1b\\link\x1b]8;;\x1b\\\x1b[3;1Hx\x1b[1L\x1b(B\x1b[r\x1b[5;20H\
            wrapped\x1b[?1049hfull\x1b[2;3r\x1b[3;7H\n\ny\x1b[1T\
            \x1b[2;4r\x1b[3;20HY\x1b[31m\x1b[3;20HZ\x1b[32mw\x1b[3;20Hu\x1b[mv"
                .as_bytes();
        let mut whole = vt100::Parser::new(size(5, 20).rows, size(5, 20).cols, 0);
        whole.process(output);
        for cut in 1..output.len() {
            let (before, after) = output.split_at(cut);
            for pieces in [vec![before], before.chunks(3).collect()] {
                let mut history = History::new(Some(size(5, 20)));
                for piece in pieces {
                    history.record(Stream::Terminal, &Piece::new(Stream::Terminal, piece));
                }
                let mut again = shown_by(&history);
                again.process(after);
                assert_eq!(
                    again.screen().state_formatted(),
                    whole.screen().state_formatted(),
                    "cut at {cut}, behind {:?}",
                    String::from_utf8_lossy(before)
                );
            }
        }
    }

    #[test]
    fn a_long_replay_comes_in_pieces_that_clients_take() {
        let size = size(200, 400);
        let mut history = History::new(Some(size));
        for number in 0..u32::from(u8::MAX) * 200 {
            let cell = format!("\x1b[38;5;{}mx", number % 256);
            let piece = Piece::new(Stream::Terminal, cell.as_bytes());
            history.record(Stream::Terminal, &piece);
        }
        let replay = history.replay();
        assert!(replay.len() > 1);
        assert!(replay.iter().all(|(_, it)| it.payload().len() <= PIECE));
        let History::Screen(_, Some(screen)) = &history else {
            panic!("no screen: {history:?}");
        };
        assert_eq!(
            shown_by(&history).screen().state_formatted(),
            screen.parser.screen().state_formatted()
        );
    }

    #[test]
    fn a_string_without_an_end_is_not_kept_for_ever() {
        let mut history = History::new(Some(size(5, 20)));
        let piece = Piece::new(Stream::Terminal, &[b'x'; 4096]);
        history.record(
            Stream::Terminal,
            &Piece::new(Stream::Terminal, b"seen\x1b]52;"),
        );
        for _ in 0..1_000 {
            history.record(Stream::Terminal, &piece);
            assert!(history.size() < KEPT + 2 * 32 * 100);
        }
        // Who comes now sees the end of it as little as the others.
        let mut again = shown_by(&history);
        for text in [&b"the end\x07"[..], b", and more"] {
            let piece = Piece::new(Stream::Terminal, text);
            history.record(Stream::Terminal, &piece);
            again.process(text);
        }
        for shown in [&again, &shown_by(&history)] {
            assert_eq!(shown.screen().contents().trim(), "seen, and more");
        }
    }

    #[test]
    fn nonsense_does_no_harm() {
        let mut history = History::new(Some(size(1, 1)));
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..2_000 {
            let bytes: Vec<u8> = (0..50).map(|_| random.u8(..)).collect();
            history.record(Stream::Terminal, &Piece::new(Stream::Terminal, &bytes));
            let rows = random.u16(1..50);
            history.resize(size(rows, 60 - rows));
            assert!(history.replay().len() <= 1);
        }
    }
}
