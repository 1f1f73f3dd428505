//! `GET /fs/watch`: what changes below some paths, over a WebSocket.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::{Message, WebSocket};
use axum::response::Response;
use futures_util::StreamExt as _;
use notify::event::{EventKind, ModifyKind};
use notify::{RecursiveMode, Watcher as _};
use rustix::fs::OFlags;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use super::{Failure, blocking};
use crate::api::Shared;
use crate::api::exec::socket::{QUEUE, Upgrade, next, no_upgrade, upgraded, write};
use crate::api::problem::Problem;
use crate::clock::now;
use crate::files::{Error, Files};

/// How many changes may wait for a client. Beyond that they are lost, and it is told so.
const CHANGES: usize = 4096;

/// What a client wants to hear of.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subscription {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    paths: Vec<String>,
    #[serde(default)]
    recursive: bool,
    working_dir: Option<String>,
}

/// A path that is watched: by a descriptor, so that no link leads elsewhere meanwhile.
struct Watched {
    held: OwnedFd,
    path: PathBuf,
}

/// Opens a connection on which changes are told.
pub async fn get(State(shared): State<Shared>, upgrade: Upgrade) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|_| no_upgrade())?;
    shared.hold().await?;
    Ok(upgraded(upgrade, move |socket| serve(socket, shared)))
}

async fn serve(socket: WebSocket, shared: Shared) {
    let (sink, mut stream) = socket.split();
    let (out, queue) = mpsc::channel(QUEUE);
    let talking = async {
        // Each further subscription adds to what is heard.
        let mut subscriptions = Vec::new();
        while let Some(message) = next(&mut stream).await {
            let Message::Text(text) = message else {
                continue;
            };
            match subscribe(&shared, &text, &out).await {
                Ok(subscription) => subscriptions.push(subscription),
                Err(why) => {
                    let error = json!({"type": "error", "message": why});
                    let _ = out.send(Message::Text(error.to_string().into())).await;
                }
            }
        }
    };
    tokio::select! {
        () = write(sink, queue) => {}
        () = talking => {}
    }
}

/// Ends when dropped.
type Subscribed = (
    notify::RecommendedWatcher,
    tokio_util::task::AbortOnDropHandle<()>,
);

async fn subscribe(
    shared: &Shared,
    text: &str,
    out: &mpsc::Sender<Message>,
) -> Result<Subscribed, String> {
    let wanted: Subscription =
        serde_json::from_str(text).map_err(|error| format!("this is no subscription: {error}"))?;
    if wanted.kind != "subscribe" || wanted.paths.is_empty() {
        return Err("send {\"type\": \"subscribe\", \"paths\": [\"/some/directory\"]}".to_owned());
    }
    let paths = wanted.paths.clone();
    let watching = blocking(shared, move |files| watch(files, &wanted));
    let (watcher, places, changes) = watching.await.map_err(|failure| match failure {
        Failure::File(error) => error.to_string(),
        Failure::Request(problem) => problem.detail().to_owned(),
    })?;
    let subscribed = json!({"type": "subscribed", "paths": paths});
    let _ = out.send(Message::Text(subscribed.to_string().into())).await;
    let task = tokio::spawn(tell(Arc::new(places), changes, out.clone()));
    Ok((watcher, tokio_util::task::AbortOnDropHandle::new(task)))
}

type Changes = mpsc::Receiver<notify::Result<notify::Event>>;

fn watch(
    files: &Files,
    wanted: &Subscription,
) -> crate::files::Result<(notify::RecommendedWatcher, Vec<Watched>, Changes)> {
    let what = "watch";
    let failed = |path: &str, error: &notify::Error| match &error.kind {
        notify::ErrorKind::Io(io) => Error::io(what, path, io),
        _ => Error::invalid(what, path, error.to_string()),
    };
    let (sender, changes) = mpsc::channel(CHANGES);
    let told = move |event| {
        // When it is full the client has been told enough to look for itself.
        let _ = sender.try_send(event);
    };
    // Below what is watched no link is followed; what is watched is itself named by one.
    let config = notify::Config::default().with_follow_symlinks(!wanted.recursive);
    let watcher = notify::RecommendedWatcher::new(told, config);
    let mut watcher = watcher.map_err(|error| failed("files", &error))?;
    let mode = if wanted.recursive {
        RecursiveMode::Recursive
    } else {
        RecursiveMode::NonRecursive
    };
    let mut places = Vec::new();
    let directory = wanted.working_dir.as_deref().unwrap_or("/");
    for path in &wanted.paths {
        let path = Files::absolute(what, directory, path)?;
        let mut flags = OFlags::PATH;
        if wanted.recursive {
            flags |= OFlags::DIRECTORY;
        }
        let held = files.open(what, &path, flags)?;
        let text = path.display().to_string();
        let mut at = held_path(&held);
        if wanted.recursive {
            at.push(".");
        }
        watcher
            .watch(&at, mode)
            .map_err(|error| failed(&text, &error))?;
        places.push(Watched { held, path });
    }
    Ok((watcher, places, changes))
}

fn held_path(held: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()))
}

/// Tells a client of changes, to the end of its connection.
async fn tell(places: Arc<Vec<Watched>>, mut changes: Changes, out: mpsc::Sender<Message>) {
    while let Some(change) = changes.recv().await {
        let full = changes.len() + 1 >= CHANGES;
        let messages = match change {
            Ok(event) => {
                let places = Arc::clone(&places);
                let looking = tokio::task::spawn_blocking(move || messages(&places, &event));
                looking.await.unwrap_or_default()
            }
            Err(error) => vec![json!({"type": "error", "message": error.to_string()})],
        };
        for message in messages {
            if out
                .send(Message::Text(message.to_string().into()))
                .await
                .is_err()
            {
                return;
            }
        }
        if full {
            let lost = json!({"type": "error", "message": "too many changes; some were lost"});
            let _ = out.send(Message::Text(lost.to_string().into())).await;
        }
    }
}

fn messages(places: &[Watched], event: &notify::Event) -> Vec<serde_json::Value> {
    let kind = match event.kind {
        EventKind::Create(_) => "create",
        EventKind::Modify(ModifyKind::Name(_)) => "rename",
        EventKind::Modify(ModifyKind::Metadata(_)) => "chmod",
        EventKind::Modify(_) => "write",
        EventKind::Remove(_) => "remove",
        _ => return Vec::new(),
    };
    let messages = event.paths.iter().map(|path| {
        let shown = places.iter().find_map(|watched| {
            let below = path.strip_prefix(held_path(&watched.held)).ok()?;
            let is_itself = below.as_os_str().is_empty();
            Some(if is_itself {
                watched.path.clone()
            } else {
                watched.path.join(below)
            })
        });
        let is_itself = places.iter().any(|place| held_path(&place.held) == *path);
        let meta = if is_itself {
            std::fs::metadata(path).ok()
        } else {
            std::fs::symlink_metadata(path).ok()
        };
        json!({
            "type": "event",
            "path": shown.as_deref().unwrap_or(Path::new("/")),
            "event": kind,
            "timestamp": now(),
            "size": meta.as_ref().map_or(0, std::fs::Metadata::len),
            "isDir": meta.is_some_and(|meta| meta.is_dir()),
        })
    });
    messages.collect()
}
