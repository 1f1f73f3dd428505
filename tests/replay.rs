//! What happened can be done again, and said of a file that is no journal.

use std::fs;
use std::process::Command;

use crate::support::{BIN, Sprite, json};

fn replay(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(BIN)
        .arg("replay")
        .args(arguments)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(text).unwrap(),
    )
}

#[test]
fn a_run_replays_without_divergence() {
    let sprite = Sprite::new().script("exit 3");
    let journal = sprite.path("kept.jsonl");
    let config = json!({
        "telemetry": {"journal": "unused"},
        "components": {"c": {"start_command": ["sleep", "1000"]}},
    });
    // The variable wins over the file.
    let sprite = sprite
        .config(&config)
        .env("SPRITE_JOURNAL", journal.to_str().unwrap());
    let mut daemon = sprite.start();
    assert_eq!(daemon.wait(), 3);
    let path = journal.to_str().unwrap();
    let (code, text) = replay(&[path]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("no divergence, ends Stopped"), "{text}");
    let (code, text) = replay(&["--coverage", path]);
    assert_eq!(code, 0);
    assert!(
        text.contains("not taken: Serving -- Checkpoint -> Checkpointing"),
        "{text}"
    );
    assert!(
        !text.contains("not taken: StartingComponents -- ComponentsReady"),
        "{text}"
    );
}

#[test]
fn a_journal_is_begun_anew_when_it_is_large_and_both_parts_replay() {
    let sprite = Sprite::new().script("exit 9");
    let config = json!({
        "telemetry": {"journal_size": 20_000},
        "process_restart_max_retries": 20, "process_restart_backoff_max": "1ms",
    });
    let journal = sprite.path("kept.jsonl");
    let path = journal.to_str().unwrap().to_owned();
    let mut daemon = sprite.config(&config).env("SPRITE_JOURNAL", &path).start();
    assert_eq!(daemon.wait(), 9);
    for part in [path.clone(), format!("{path}.1")] {
        assert!(fs::metadata(&part).unwrap().len() < 40_000);
        let (code, text) = replay(&[&part]);
        assert_eq!(code, 0, "{text}");
    }
}

#[test]
fn what_is_no_journal_is_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |name: &str, bytes: &[u8], code: i32, needle: &str| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let (got, text) = replay(&[path.to_str().unwrap()]);
        assert_eq!(got, code, "{text}");
        assert!(text.contains(needle) && text.contains(name), "{text}");
    };
    refused("empty", b"", 65, "the journal is empty");
    refused(
        "binary",
        b"\x7fELF\xff\x00\n\x01",
        65,
        "line 1 is not of a journal",
    );
    refused("foreign", b"{\"a\": 1}\n", 65, "line 1 is not of a journal");
    let (code, text) = replay(&["/no/such/journal"]);
    assert_eq!(code, 66);
    assert!(text.contains("cannot read /no/such/journal"), "{text}");
    assert_eq!(replay(&[]).0, 64);
}

#[test]
fn a_disk_that_fills_up_ends_the_journal_whole_and_nothing_else() {
    let mount = "mkdir small && mount -t tmpfs -o size=16k none small && exec \"$@\"";
    let private = ["unshare", "--mount", "sh", "-c", mount, "sh"];
    let probe = Command::new("unshare").args(["--mount", "true"]).status();
    if !probe.is_ok_and(|status| status.success()) {
        crate::support::skipped("no filesystem can be mounted here (unshare --mount fails)");
        return;
    }
    let config = json!({
        "process_restart_max_retries": 30, "process_restart_backoff_max": "1ms",
    });
    // The journal is read where it is, in the mount namespace of the daemon.
    let script = "cp small/journal copy; exit 9";
    let sprite = Sprite::new().config(&config).script(script);
    let sprite = sprite
        .env("SPRITE_JOURNAL", "small/journal")
        .under(&private);
    let mut daemon = sprite.start();
    assert_eq!(daemon.wait(), 9, "{}", daemon.output.text());
    daemon.wait_for("small/journal ends here: No space left on device");
    let copy = daemon.sprite.path("copy");
    let (code, text) = replay(&[copy.to_str().unwrap()]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("no divergence"), "{text}");
    assert!(fs::metadata(&copy).unwrap().len() > 8_000);
}

#[test]
fn a_full_disk_ends_the_journal_and_nothing_else() {
    if !std::path::Path::new("/dev/full").exists() {
        crate::support::skipped("there is no /dev/full here");
        return;
    }
    let sprite = Sprite::new()
        .script("exit 4")
        .env("SPRITE_JOURNAL", "/dev/full");
    let (code, text) = sprite.run();
    assert_eq!(code, 4, "{text}");
}
