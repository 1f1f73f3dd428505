//! `export` and `import`: archives from the daemon into files, and back.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use futures_util::TryStreamExt as _;
use reqwest::{Body, Method, Response};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_util::io::ReaderStream;

use super::progress::{Shown, bar};
use crate::cli::client::{Client, Failure};

/// How much of an archive is read at a time.
const PIECE: usize = 256 << 10;

/// Writes the archive of a checkpoint into a file, or to standard output for `-`.
pub async fn export(client: &Client, id: &str, file: &Path, json: bool) -> Result<(), Failure> {
    let to_output = file == Path::new("-");
    if to_output && io::stdout().is_terminal() {
        let why = "an archive is nothing for a terminal: name a file, or send it on";
        return Err(Failure::Usage(why.to_owned()));
    }
    let path = ["checkpoints", id, "export"];
    let response = client.send(Method::GET, &path, &[], None).await?;
    let shown = bar("export", None, json || to_output);
    if to_output {
        return copy(client, response, &mut tokio::io::stdout(), &shown).await;
    }
    // Under its name there is a whole archive or none.
    let part = with_suffix(file, ".part");
    let written = async {
        let mut to = File::create(&part).await.map_err(|e| in_file(&part, &e))?;
        let copied = copy(client, response, &mut to, &shown).await;
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
    shown: &Shown,
) -> Result<(), Failure> {
    while let Some(bytes) = response.chunk().await.map_err(|e| client.lost(&e))? {
        to.write_all(&bytes).await?;
        shown.add(bytes.len());
    }
    Ok(to.flush().await?)
}

/// What is read, as a body whose way can be seen.
fn shown(from: impl AsyncRead + Send + 'static, bar: Shown) -> Body {
    let pieces = ReaderStream::with_capacity(from, PIECE);
    Body::wrap_stream(pieces.inspect_ok(move |piece| bar.add(piece.len())))
}

/// Sends an archive from a file, or from standard input for `-`; returns the answer.
pub async fn import(
    client: &Client,
    file: &Path,
    comment: Option<&str>,
    json: bool,
) -> Result<Response, Failure> {
    let body = if file == Path::new("-") {
        shown(tokio::io::stdin(), bar("import", None, json))
    } else {
        let from = File::open(file).await.map_err(|e| in_file(file, &e))?;
        let looks = from.metadata().await.map_err(|e| in_file(file, &e))?;
        let length = looks.is_file().then_some(looks.len());
        shown(from, bar("import", length, json))
    };
    let comment = comment.map(|comment| ("comment", comment));
    let path = ["checkpoints", "import"];
    let query = comment.as_slice();
    client.send(Method::POST, &path, query, Some(body)).await
}
