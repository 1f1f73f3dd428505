//! Between a command's descriptors and its session: output to the end, input as it comes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use super::session::{Input, Piece, Session, Stream};
use crate::sys;

/// The most that is read at once. Clients refuse much longer pieces.
pub const PIECE: usize = 32 * 1024;
/// After so many long pieces a pipe is a busy one.
const BUSY: u32 = 8;
/// How much a busy pipe holds, in bytes.
const LARGE_PIPE: usize = 1024 * 1024;

/// A descriptor that is waited for without blocking.
#[derive(Debug)]
pub struct Channel(AsyncFd<Arc<OwnedFd>>);

impl Channel {
    /// Watches `fd`, which does not block from then on.
    pub fn new(fd: Arc<OwnedFd>) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?;
        sys::watch_shared(fd).map(Self)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

/// Passes on `source` until its end; or, once the command is gone (`over`), until it is
/// empty: what the command wrote is there by then, and a grandchild may keep the other
/// end open for ever.
pub async fn output(
    source: Option<Channel>,
    stream: Stream,
    mut over: oneshot::Receiver<()>,
    session: &Session,
) {
    let Some(source) = source else { return };
    let mut buffer = Vec::new();
    // A command that was started just now has not written yet.
    let mut is_over = wait_for_more(&source, &mut over).await;
    let mut full = 0;
    loop {
        // The frame's first byte, and what is read behind it.
        buffer.clear();
        buffer.reserve_exact(PIECE + 1);
        buffer.push(stream.frame_kind());
        // Not `try_read`: it asks the kernel only when the kernel has said that there is
        // something, and what the command wrote last may not have been said yet.
        match rustix::io::read(source.fd(), spare_capacity(&mut buffer)) {
            Ok(0) => return,
            Ok(read) => {
                if read >= PIECE / 2 {
                    full += 1;
                    if full == BUSY {
                        enlarge(&source);
                    }
                }
                session.emit(stream, piece(stream, &mut buffer)).await;
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if !is_over => {
                // A silent command takes no memory.
                buffer = Vec::new();
                is_over = wait_for_more(&source, &mut over).await;
            }
            // A terminal's last output may still be on its way through the kernel; asking
            // whether there is something waits for it.
            Err(Errno::AGAIN) if is_readable(source.fd()) => {}
            // Empty, and nothing more comes; or the other end of a terminal is closed.
            Err(_) => return,
        }
    }
}

/// What was read. Where it is much it is passed on as it is, where it is little it takes
/// no more memory than that.
fn piece(stream: Stream, buffer: &mut Vec<u8>) -> Piece {
    if buffer.len() > PIECE / 2 {
        Piece::from_frame(std::mem::take(buffer).into())
    } else {
        Piece::new(stream, buffer.get(1..).unwrap_or_default())
    }
}

/// A pipe that is filled faster than it is emptied gets larger: both sides wait less often.
fn enlarge(source: &Channel) {
    // A terminal is none, and a user may have as many as the kernel allows.
    let _ = rustix::pipe::fcntl_setpipe_size(source.fd(), LARGE_PIPE);
}

/// Waits until there is something to read, or the command is gone: then returns true.
async fn wait_for_more(source: &Channel, over: &mut oneshot::Receiver<()>) -> bool {
    loop {
        tokio::select! {
            biased;
            _ = &mut *over => return true,
            ready = source.0.readable() => match ready {
                Err(_) => return true,
                Ok(_) if is_readable(source.fd()) => return false,
                // An earlier read has used it up.
                Ok(mut ready) => ready.clear_ready(),
            }
        }
    }
}

/// Whether a read would not wait.
fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut waiting = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    rustix::event::poll(&mut waiting, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Passes on input until its end, or until the command does not take it any more.
pub async fn input(sink: Channel, mut inputs: mpsc::Receiver<Input>) {
    while let Some(input) = inputs.recv().await {
        let Input::Data(bytes) = input else { break };
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match rustix::io::write(sink.fd(), rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => match sink.0.writable().await {
                    Ok(mut ready) => {
                        if !is_writable(sink.fd()) {
                            ready.clear_ready();
                        }
                    }
                    Err(_) => return,
                },
                Err(_) => return,
            }
        }
    }
}

/// Whether a write would not wait.
fn is_writable(fd: BorrowedFd<'_>) -> bool {
    let mut waiting = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    rustix::event::poll(&mut waiting, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}
