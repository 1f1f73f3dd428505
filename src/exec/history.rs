//! What a session has shown so far, for clients that come later: the last output of a
//! command with pipes, the screen of one with a terminal.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::session::{Piece, Stream};
use super::terminal::Size;

/// How many bytes of output are kept for a command with pipes.
const KEPT: usize = 256 * 1024;

/// What was shown.
pub enum History {
    /// The last pieces of output, and how many bytes they are.
    Pieces(VecDeque<(Stream, Piece)>, usize),
    /// The screen, made when something is first written to it.
    Screen(Size, Option<Box<vt100::Parser>>),
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
                let parser = screen.get_or_insert_with(|| new_screen(*size));
                // Whatever a program writes, the emulator must not take the session with it.
                let processed = catch_unwind(AssertUnwindSafe(|| parser.process(&bytes)));
                if processed.is_err() {
                    tracing::warn!("the terminal emulator failed; its screen is cleared");
                    *parser = new_screen(*size);
                }
            }
        }
    }

    /// The terminal has another size.
    pub fn resize(&mut self, new: Size) {
        if let Self::Screen(size, screen) = self {
            *size = new;
            if let Some(parser) = screen {
                let resized = catch_unwind(AssertUnwindSafe(|| {
                    parser.screen_mut().set_size(new.rows, new.cols);
                }));
                if resized.is_err() {
                    *parser = new_screen(new);
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
            Self::Screen(_, Some(parser)) => {
                let screen = parser.screen();
                let mut text = Vec::new();
                if screen.alternate_screen() {
                    text.extend_from_slice(b"\x1b[?1049h");
                }
                text.extend_from_slice(screen.state_formatted().as_bytes());
                VecDeque::from([(Stream::Terminal, Piece::new(Stream::Terminal, &text))])
            }
        }
    }

    /// How many bytes it takes, about.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Pieces(_, kept) => *kept,
            Self::Screen(_, None) => 0,
            Self::Screen(size, Some(_)) => {
                2 * 32 * usize::from(size.rows.get()) * usize::from(size.cols.get())
            }
        }
    }
}

fn new_screen(size: Size) -> Box<vt100::Parser> {
    Box::new(vt100::Parser::new(size.rows, size.cols, 0))
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
        let text = history.replay()[0].1.payload();
        let mut again = new_screen(size(5, 20));
        again.process(&text);
        assert_eq!(again.screen().contents().trim(), "here");
        assert_eq!(again.screen().cursor_position(), (2, 7));
        history.record(
            Stream::Terminal,
            &Piece::new(Stream::Terminal, b"\x1b[?1049hfull"),
        );
        let text = history.replay()[0].1.payload();
        let mut again = new_screen(size(5, 20));
        again.process(&text);
        assert!(again.screen().alternate_screen());
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
