//! Looking at a checkpoint store from outside, and damaging it.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Sprite, Value};

/// The ids of the checkpoints that the log says exist.
pub fn checkpoints(sprite: &Sprite) -> Vec<String> {
    let mut ids = Vec::new();
    for record in files(&sprite.path("data/store/log")) {
        let record: Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
        match record["change"].as_str().unwrap() {
            "checkpoint" => ids.push(record["manifest"]["id"].as_str().unwrap().to_owned()),
            "delete" => ids.retain(|id| id != record["id"].as_str().unwrap()),
            _ => {}
        }
    }
    ids
}

/// The files in a directory, in the order of their names.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    paths.sort();
    paths
}

/// The same; none if there is no such directory.
pub fn try_files(dir: &Path) -> Vec<PathBuf> {
    if dir.exists() { files(dir) } else { Vec::new() }
}

/// The packs of a store.
pub fn packs(sprite: &Sprite) -> Vec<PathBuf> {
    files(&sprite.path("data/store/packs"))
}

/// The pack that was written for a checkpoint.
pub fn pack_of(sprite: &Sprite, id: &str) -> PathBuf {
    for record in files(&sprite.path("data/store/log")) {
        let record: Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
        if record["manifest"]["id"] == id {
            let name = record["packs"][0].as_str().unwrap();
            return sprite.path(&format!("data/store/packs/{name}.pack"));
        }
    }
    panic!("there is no checkpoint {id}");
}

/// Turns the bits of one byte in the middle of a file.
pub fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(path, bytes).unwrap();
}
