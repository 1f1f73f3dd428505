//! The journals of real runs, kept beside this file, replay on the machines as they are.
//! After a change of a chart, `make journals` takes new ones.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use machines::journal::replay;

#[test]
fn real_runs_replay() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/journals");
    let mut runs = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        if let Err(error) = replay(&text, |_, _| {}) {
            panic!("{}: {error}", path.display());
        }
        runs += 1;
    }
    assert!(runs > 0, "no journals in {dir}");
}
