//! A pseudo-terminal: our end of it, and the end that a command gets.

use std::io;
use std::num::NonZeroU16;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::config::User;

/// The most lines, and the most characters a line: the screen of each terminal is kept in
/// memory.
pub const LARGEST: u16 = 1000;
/// The most characters on a screen.
const MOST: u32 = 250_000;

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: NonZeroU16,
    /// Characters a line.
    pub cols: NonZeroU16,
}

impl Default for Size {
    fn default() -> Self {
        const ROWS: NonZeroU16 = NonZeroU16::new(24).unwrap();
        const COLS: NonZeroU16 = NonZeroU16::new(80).unwrap();
        Self {
            rows: ROWS,
            cols: COLS,
        }
    }
}

impl Size {
    /// None if one of them is 0, since no terminal has no lines; or if it is larger than
    /// any screen.
    #[must_use]
    pub fn new(rows: u16, cols: u16) -> Option<Self> {
        let is_sane =
            rows <= LARGEST && cols <= LARGEST && u32::from(rows) * u32::from(cols) <= MOST;
        is_sane.then_some(())?;
        Some(Self {
            rows: NonZeroU16::new(rows)?,
            cols: NonZeroU16::new(cols)?,
        })
    }
}

/// Opens a pair: our end, and the command's. `user` is to own the command's end.
pub fn open(size: Size, user: Option<&User>) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = rustix::pty::openpt(flags)?;
    rustix::pty::grantpt(&ours)?;
    rustix::pty::unlockpt(&ours)?;
    // Not by its name: /dev/pts may be of another mount namespace, or not mounted at all.
    let theirs = rustix::pty::ioctl_tiocgptpeer(&ours, flags)?;
    resize(&ours, size)?;
    if let Some(user) = user {
        let owner = rustix::fs::Uid::from_raw(user.uid);
        // Only root can give it away; anybody else runs commands as themselves anyway.
        let _ = rustix::fs::fchown(&theirs, Some(owner), None);
    }
    Ok((ours, theirs))
}

/// Changes the size; the foreground process group hears of it by SIGWINCH.
pub fn resize(terminal: impl AsFd, size: Size) -> io::Result<()> {
    rustix::termios::tcsetwinsize(
        terminal,
        Winsize {
            ws_row: size.rows.get(),
            ws_col: size.cols.get(),
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )?;
    Ok(())
}
