//! What a stop has left on this machine alone.

use std::fs;
use std::path::Path;

use super::{MetadataReplication, Volume};

/// Where JuiceFS keeps blocks that are not in the bucket yet, below the volume's own directory in
/// a cache.
const STAGED: &str = "rawstaging";

/// Says what is on this machine only once everything is down; none = everything is in the
/// bucket, or there is none. `is_done` is whether Litestream has sent what there was, `last` how
/// far it was when it was asked last.
#[must_use]
pub fn what_is_left(volume: &Volume, is_done: bool, last: &MetadataReplication) -> Option<String> {
    volume.blocks.as_ref()?;
    let mut left = Vec::new();
    if !is_done {
        let bytes = last.bytes_left.filter(|bytes| *bytes > 0);
        let bytes = bytes.map_or_else(String::new, |bytes| format!(" ({bytes} bytes or more)"));
        let since = last.behind_since.as_ref();
        let since = since.map_or_else(String::new, |since| format!(" since {since}"));
        left.push(format!("changes of the metadata{bytes}{since}"));
    }
    let dirs = volume.cache.split(':').map(Path::new);
    let (mut blocks, mut bytes) = (0_u64, 0_u64);
    for dir in dirs {
        count(dir, false, &mut blocks, &mut bytes);
    }
    if blocks > 0 {
        left.push(format!("{blocks} blocks with {bytes} bytes"));
    }
    let what = left.join(" and ");
    (!left.is_empty()).then(|| {
        format!(
            "not in the bucket: {what}; they are in {} and are sent by the next start here",
            volume.dir.display()
        )
    })
}

/// Counts the files below `dir` that are in a directory of staged blocks.
fn count(dir: &Path, is_staged: bool, blocks: &mut u64, bytes: &mut u64) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            // What is cached besides can be much.
            let name = entry.file_name();
            if name != "raw" {
                count(&entry.path(), is_staged || name == STAGED, blocks, bytes);
            }
        } else if is_staged && kind.is_file() {
            *blocks += 1;
            *bytes += entry.metadata().map_or(0, |found| found.len());
        }
    }
}
