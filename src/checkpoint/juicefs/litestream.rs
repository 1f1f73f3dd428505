//! Litestream: it copies each change of the metadata to the bucket, and fetches them from there.

use std::convert::Infallible;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::driver::{self, Context as _};
use super::super::durable;
use super::blocks::Blocks;
use super::program::Tool;
use super::{Error, Volume, lag, lock, starts, wait_for};
use crate::config::format_duration;

/// What is needed: the first with the words of the configuration that we write, and the one
/// before the file format changed.
const NEEDED: std::ops::Range<(u64, u64)> = (0, 3)..(0, 4);

/// The pause between two looks at it.
const PAUSE: Duration = Duration::from_millis(50);
/// How long it may take to send what it has read before it is told to go. It reads once a second.
const SETTLING: Duration = Duration::from_secs(3);

/// Its configuration. It reads YAML, of which JSON is a part.
#[derive(Serialize, Deserialize)]
struct Configuration {
    /// Where it tells how far it is.
    #[serde(rename = "addr")]
    address: SocketAddr,
    dbs: [Database; 1],
}

#[derive(Serialize, Deserialize)]
struct Database {
    path: PathBuf,
    replicas: [Replica; 1],
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Replica {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    bucket: String,
    path: String,
    region: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    force_path_style: bool,
    sync_interval: String,
}

fn tool(blocks: &Blocks) -> Tool<'_> {
    Tool {
        program: &blocks.litestream,
        key: Some("litestream.binary"),
        hint: "install Litestream 0.3 (https://litestream.io/install)",
    }
}

/// Fails if the program is not there, or another version.
pub fn check(blocks: &Blocks) -> Result<(), Error> {
    tool(blocks).check(NEEDED, "version 0.3")
}

fn file(volume: &Volume) -> PathBuf {
    volume.dir.join("litestream.json")
}

/// Writes what Litestream is to do: with the metadata, and the copy of `line`.
fn configure(
    volume: &Volume,
    blocks: &Blocks,
    line: u64,
    path: &Path,
    address: SocketAddr,
) -> Result<(), Error> {
    let replica = Replica {
        name: "bucket".to_owned(),
        kind: "s3".to_owned(),
        bucket: blocks.bucket.clone(),
        path: blocks.metadata(line),
        region: blocks.region.clone(),
        endpoint: blocks.endpoint.clone(),
        force_path_style: blocks.endpoint.is_some(),
        sync_interval: format_duration(blocks.sync_interval),
    };
    let configuration = Configuration {
        address,
        dbs: [Database {
            path: volume.metadata(),
            replicas: [replica],
        }],
    };
    Ok(durable::write_json(path, &configuration)?)
}

/// Fetches the metadata of `line` to the file `to`, if the bucket has any.
pub fn restore(volume: &Volume, blocks: &Blocks, line: u64, to: &Path) -> Result<(), Error> {
    let path = volume.dir.join("litestream.restore.json");
    configure(volume, blocks, line, &path, (Ipv4Addr::LOCALHOST, 0).into())?;
    let (configuration, to) = (path.display().to_string(), to.display().to_string());
    let metadata = volume.metadata().display().to_string();
    let arguments = ["restore", "-config", &configuration, "-if-replica-exists"];
    tool(blocks).run(&[&arguments[..], &["-o", &to, &metadata]].concat())?;
    durable::remove_file(&path)?;
    Ok(())
}

/// Becomes the program that copies the metadata. Returns only if that cannot be done.
pub fn replicate(volume: &Volume) -> Result<Infallible, Error> {
    let (Some(blocks), Some(line)) = (&volume.blocks, starts::line(volume)?) else {
        return Err(Error::Lost {
            metadata: volume.metadata(),
            dir: volume.dir.clone(),
        });
    };
    // It lives on in what we become.
    let _lock = lock::take(&volume.litestream_lock())?;
    // Several on one machine must not be in each other's way. It takes no socket, so this one
    // is free when it looks, unless somebody is quick; then it is not ready, and started again.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|it| it.local_addr());
    let port = port.context("find a port for", &file(volume))?;
    configure(volume, blocks, line, &file(volume), port)?;
    let mut command = Command::new(&blocks.litestream);
    command.args(["replicate", "-config"]).arg(file(volume));
    Err(tool(blocks).missing(command.exec()))
}

/// Fails unless Litestream has copied the metadata once: until then, the newest copy is an older
/// one, and what the mount would remove is still in that. What an earlier start has left does not count.
pub fn is_replicating(volume: &Volume) -> Result<(), Error> {
    if !lock::is_ours(&volume.litestream_lock()) {
        return Err(Error::Silent("it has not started".to_owned()));
    }
    let answer = wait_for(lag::ask(volume))?;
    if answer.has_sent() {
        Ok(())
    } else {
        Err(Error::Silent("it has not sent anything yet".to_owned()))
    }
}

/// Waits until Litestream can be told to go: it has read the database, for one that goes before that
/// sends nothing, and has then read it once more and sent what it had, for one that is told to go
/// while it sends may never end. Without the bucket it does not wait long.
pub fn has_settled(volume: &Volume) -> Result<(), Error> {
    wait_for(async {
        let mut answer = lag::ask(volume).await?;
        while answer.left.is_none() {
            tokio::time::sleep(PAUSE).await;
            answer = lag::ask(volume).await?;
        }
        let readings = answer.readings;
        let settled = async {
            while answer.readings == readings || answer.left != Some(0) {
                tokio::time::sleep(PAUSE).await;
                answer = lag::ask(volume).await?;
            }
            Ok(())
        };
        let settled = tokio::time::timeout(SETTLING, settled).await;
        settled.unwrap_or(Ok(()))
    })
}

/// Where it tells how far it is, and what the copy is called.
pub fn address(volume: &Volume) -> Result<(SocketAddr, String), Error> {
    let path = file(volume);
    let text = fs::read(&path).context("read", &path)?;
    let read = serde_json::from_slice::<Configuration>(&text);
    let read = read.map_err(|error| driver::Error::Damaged {
        path,
        why: format!("damaged: {error}"),
    })?;
    let [Database { replicas, .. }] = &read.dbs;
    let [replica] = replicas;
    Ok((
        read.address,
        format!("s3://{}/{}", replica.bucket, replica.path),
    ))
}
