//! What a stop has left on this machine alone.

use std::fs;
use std::path::{Path, PathBuf};

use super::{MetadataReplication, Volume};

/// Where JuiceFS keeps blocks that are not in the bucket yet, below the volume's own directory in
/// a cache.
const STAGED: &str = "rawstaging";

/// Says what is on this machine only once everything is down; none = everything is in the
/// bucket, or there is none. `is_flushed` is whether JuiceFS has ended by itself, `is_sent` whether
/// Litestream has sent what there was, `last` how far it was when it was asked last.
#[must_use]
pub fn what_is_left(
    volume: &Volume,
    is_flushed: bool,
    is_sent: bool,
    last: &MetadataReplication,
) -> Option<String> {
    volume.blocks.as_ref()?;
    let mut left = Vec::new();
    if !is_sent {
        let bytes = last.bytes_left.filter(|bytes| *bytes > 0);
        let bytes = bytes.map_or_else(String::new, |bytes| format!(" ({bytes} bytes or more)"));
        let since = last.behind_since.as_ref();
        let since = since.map_or_else(String::new, |since| format!(" since {since}"));
        left.push(format!("changes of the metadata{bytes}{since}"));
    }
    let Staged { blocks, bytes } = staged(volume.cache.split(':').map(Path::new));
    if blocks > 0 {
        left.push(format!("{blocks} blocks with {bytes} bytes"));
    }
    let what = left.join(" and ");
    let here = (!left.is_empty()).then(|| {
        format!(
            "not in the bucket: {what}; they are in {} and are sent by the next start here",
            volume.dir.display()
        )
    });
    let unwritten = (!is_flushed).then(|| {
        "JuiceFS was killed before it had written everything: what no program had made durable may \
         be lost"
            .to_owned()
    });
    let all: Vec<String> = here.into_iter().chain(unwritten).collect();
    (!all.is_empty()).then(|| all.join(". "))
}

/// Blocks that wait to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Staged {
    blocks: u64,
    bytes: u64,
}

/// What waits to be sent in these caches.
pub fn staged<'a>(caches: impl IntoIterator<Item = &'a Path>) -> Staged {
    let mut found = Staged::default();
    for block in staged_blocks(caches) {
        found.blocks += 1;
        found.bytes += fs::metadata(block).map_or(0, |found| found.len());
    }
    found
}

/// The files of these blocks.
pub fn staged_blocks<'a>(caches: impl IntoIterator<Item = &'a Path>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for cache in caches {
        find(cache, false, &mut found);
    }
    found
}

/// Finds the files below `dir` that are in a directory of staged blocks.
fn find(dir: &Path, is_staged: bool, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            // What is cached besides can be much.
            let name = entry.file_name();
            if name != "raw" {
                find(&entry.path(), is_staged || name == STAGED, found);
            }
        } else if is_staged && kind.is_file() {
            found.push(entry.path());
        }
    }
}
