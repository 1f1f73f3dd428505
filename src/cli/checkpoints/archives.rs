//! `export` and `import`: archives from the daemon into files, and back.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use reqwest::{Body, Method, Response};
use tokio::fs::File;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio_util::io::ReaderStream;

use crate::cli::client::{Client, Failure};

/// How much of an archive is read at a time.
const PIECE: usize = 256 << 10;

/// Writes the archive of a checkpoint into a file, or to standard output for `-`.
pub async fn export(client: &Client, id: &str, file: &Path) -> Result<(), Failure> {
    let to_output = file == Path::new("-");
    if to_output && io::stdout().is_terminal() {
        let why = "an archive is nothing for a terminal: name a file, or send it on";
        return Err(Failure::Usage(why.to_owned()));
    }
    let path = ["checkpoints", id, "export"];
    let response = client.send(Method::GET, &path, &[], None).await?;
    if to_output {
        return copy(client, response, &mut tokio::io::stdout()).await;
    }
    // Under its name there is a whole archive or none.
    let part = with_suffix(file, ".part");
    let written = async {
        let mut to = File::create(&part).await.map_err(|e| in_file(&part, &e))?;
        let copied = copy(client, response, &mut to).await;
        copied.map_err(|failure| match failure {
            Failure::Output(error) => in_file(&part, &error),
            failure => failure,
        })?;
        let kept = to.sync_all().await;
        let kept = match kept {
            Ok(()) => tokio::fs::rename(&part, file).await,
            error => error,
        };
        kept.map_err(|error| in_file(file, &error))
    };
    let written = written.await;
    if written.is_err() {
        let _ = tokio::fs::remove_file(&part).await;
    }
    written
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn in_file(file: &Path, error: &io::Error) -> Failure {
    Failure::File {
        path: file.to_owned(),
        why: error.to_string(),
    }
}

/// Writes an answer's bytes as they come.
pub async fn copy(
    client: &Client,
    mut response: Response,
    to: &mut (impl AsyncWrite + Unpin),
) -> Result<(), Failure> {
    while let Some(bytes) = response.chunk().await.map_err(|e| client.lost(&e))? {
        to.write_all(&bytes).await?;
    }
    Ok(to.flush().await?)
}

/// Sends an archive from a file, or from standard input for `-`; returns the answer.
pub async fn import(
    client: &Client,
    file: &Path,
    comment: Option<&str>,
) -> Result<Response, Failure> {
    let body = if file == Path::new("-") {
        let input = ReaderStream::with_capacity(tokio::io::stdin(), PIECE);
        Body::wrap_stream(input)
    } else {
        let from = File::open(file).await.map_err(|e| in_file(file, &e))?;
        Body::wrap_stream(ReaderStream::with_capacity(from, PIECE))
    };
    let comment = comment.map(|comment| ("comment", comment));
    let path = ["checkpoints", "import"];
    let query = comment.as_slice();
    client.send(Method::POST, &path, query, Some(body)).await
}
