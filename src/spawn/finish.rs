//! The end of a child that says little.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;

use crate::reaper::Child;

/// How much of a failed command's output an error shows.
const SHOWN: usize = 2_000;

impl Child {
    /// Waits for its end; returns how it ended and the start of what it said.
    pub async fn finish(self) -> (Option<machines::exit::Exit>, String) {
        use tokio::net::unix::pipe::Receiver;
        let stdout = self
            .stdout
            .and_then(|fd| Receiver::from_owned_fd(fd.into()).ok());
        let stderr = self
            .stderr
            .and_then(|fd| Receiver::from_owned_fd(fd.into()).ok());
        let (out, err) = (tokio::spawn(read(stdout)), tokio::spawn(read(stderr)));
        let exit = self.exit.await.ok();
        // A grandchild may keep the pipes open; what the command itself said is there.
        let said = async { (out.await.unwrap_or_default(), err.await.unwrap_or_default()) };
        let said = tokio::time::timeout(Duration::from_millis(200), said).await;
        let (out, err) = said.unwrap_or_default();
        (
            exit,
            format!(
                "{}{}",
                String::from_utf8_lossy(&err),
                String::from_utf8_lossy(&out)
            ),
        )
    }
}

/// Reads everything and keeps the start.
async fn read(source: Option<tokio::net::unix::pipe::Receiver>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut source) = source else {
        return kept;
    };
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = source.read(&mut buffer).await {
        let room = SHOWN.saturating_sub(kept.len()).min(read);
        kept.extend_from_slice(buffer.get(..room).unwrap_or_default());
    }
    kept
}
