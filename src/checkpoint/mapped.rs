//! Files that are mapped shared and writable: a store to such a page changes no time stamp
//! when the page is dirty already.

use std::collections::HashSet;
use std::fs;

use super::processes;

/// The inodes that one of `processes` (none = any but this one) has mapped shared and writable.
pub fn inodes(processes: Option<&[i32]>) -> HashSet<u64> {
    let mut inodes = HashSet::new();
    let directories = processes::directories(processes).into_iter();
    let maps = directories.map(|dir| dir.join("maps"));
    for maps in maps.filter_map(|maps| fs::read_to_string(maps).ok()) {
        // address perms offset device inode path (proc(5))
        for line in maps.lines() {
            let mut fields = line.split_ascii_whitespace().skip(1);
            let shared = fields
                .next()
                .is_some_and(|p| p.starts_with("rw") && p.ends_with('s'));
            if let (true, Some(Ok(inode))) = (shared, fields.nth(2).map(str::parse)) {
                inodes.insert(inode);
            }
        }
    }
    inodes
}
