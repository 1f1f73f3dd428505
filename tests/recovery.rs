//! Crash anywhere: the next start recovers.

use std::fs;

use crate::support::{Daemon, Sprite, Value, json, store};

fn start(sprite: Sprite) -> Daemon {
    sprite.storage().idle()
}

#[test]
fn a_crash_in_a_restore_before_the_swap_leaves_everything_as_it_was() {
    let config = json!({"components": {"db": {
        "start_command": ["sleep", "1000"],
        // The first is v0; the second is the automatic one of the restore.
        "checkpoint_command": ["sh", "-c", "case $CHECKPOINT_ID in auto-*) touch begun; exec sleep 1000; esac"],
    }}});
    let daemon = start(Sprite::new().config(&config));
    let client = daemon.client();
    fs::write(daemon.sprite.fs().join("file"), "one").unwrap();
    client.checkpoint();
    fs::write(daemon.sprite.fs().join("file"), "two").unwrap();
    std::thread::spawn(move || client.attempt_restore("v0"));
    crate::support::wait_for_file_to_exist(&daemon.sprite.path("begun"));
    let daemon = start(daemon.crash());
    assert_eq!(
        fs::read_to_string(daemon.sprite.fs().join("file")).unwrap(),
        "two"
    );
    assert!(store::files(&daemon.sprite.path("data/store/work")).is_empty());
}

#[test]
fn a_crash_in_a_restore_after_the_swap_is_finished_by_the_next_start() {
    let config = json!({"components": {"db": {
        "start_command": ["sleep", "1000"],
        "restore_command": ["sh", "-c", "echo $CHECKPOINT_ID >>restores; [ -e go ] || { touch begun; exec sleep 1000; }"],
    }}});
    let daemon = start(Sprite::new().config(&config));
    let client = daemon.client();
    fs::write(daemon.sprite.fs().join("file"), "one").unwrap();
    client.checkpoint();
    fs::write(daemon.sprite.fs().join("file"), "two").unwrap();
    std::thread::spawn(move || client.attempt_restore("v0"));
    crate::support::wait_for_file_to_exist(&daemon.sprite.path("begun"));
    let sprite = daemon.crash();
    fs::write(sprite.path("go"), "").unwrap();
    let daemon = start(sprite);
    daemon.wait_for("a restore is under way");
    assert_eq!(
        fs::read_to_string(daemon.sprite.fs().join("file")).unwrap(),
        "one"
    );
    assert_eq!(
        fs::read_to_string(daemon.sprite.path("restores")).unwrap(),
        "v0\nv0\n"
    );
    // What was replaced is kept as if nothing had happened.
    let all = daemon.client().get("/checkpoints?includeAuto=true").json();
    let auto = all
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["is_auto"] == true)
        .unwrap();
    let id = auto["id"].as_str().unwrap();
    assert_eq!(daemon.client().restore(id)["type"], "complete");
    assert_eq!(
        fs::read_to_string(daemon.sprite.fs().join("file")).unwrap(),
        "two"
    );
}

#[test]
fn a_crash_in_a_roll_back_is_finished_by_the_next_start() {
    let config = json!({"components": {"db": {
        "start_command": ["sleep", "1000"],
        "restore_command": ["sh", "-c", "case $CHECKPOINT_ID in v*) exit 1;; esac; \
            [ -e go ] || { touch begun; exec sleep 1000; }"],
    }}});
    let daemon = start(Sprite::new().config(&config));
    let client = daemon.client();
    fs::write(daemon.sprite.fs().join("file"), "one").unwrap();
    client.checkpoint();
    fs::write(daemon.sprite.fs().join("file"), "two").unwrap();
    std::thread::spawn(move || client.attempt_restore("v0"));
    crate::support::wait_for_file_to_exist(&daemon.sprite.path("begun"));
    let sprite = daemon.crash();
    fs::write(sprite.path("go"), "").unwrap();
    let daemon = start(sprite);
    assert_eq!(
        fs::read_to_string(daemon.sprite.fs().join("file")).unwrap(),
        "two"
    );
    assert_eq!(daemon.client().checkpoint(), "v1");
}

#[test]
fn a_crash_at_any_moment_loses_no_checkpoint() {
    let mut sprite = Sprite::new();
    let mut sealed = Vec::new();
    for round in 0..10 {
        let daemon = start(sprite);
        fs::write(daemon.sprite.fs().join("round"), round.to_string()).unwrap();
        let client = daemon.client();
        sealed.push((client.checkpoint(), round));
        std::thread::spawn(move || client.attempt_checkpoint());
        // Somewhere in the next one: sooner or later in each round.
        std::thread::sleep(std::time::Duration::from_micros(700 * round));
        sprite = daemon.crash();
    }
    let daemon = start(sprite);
    let client = daemon.client();
    for (id, round) in &sealed {
        assert_eq!(client.restore(id)["type"], "complete");
        let text = fs::read_to_string(daemon.sprite.fs().join("round")).unwrap();
        assert_eq!(text, round.to_string());
    }
    let ids = client.get("/checkpoints").json();
    let mut ids: Vec<_> = ids
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["id"].to_string())
        .collect();
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all, "no id twice");
}

/// Makes checkpoints v0, v1 and v2 of a directory with one file, `file`, that has the
/// number in it and much that cannot be compressed, and stops.
fn three_checkpoints() -> Sprite {
    let mut daemon = start(Sprite::new());
    let client = daemon.client();
    for number in 0..3 {
        let noise: String = std::iter::repeat_with(fastrand::alphanumeric)
            .take(50_000)
            .collect();
        fs::write(daemon.sprite.fs().join("file"), format!("{number} {noise}")).unwrap();
        assert_eq!(client.checkpoint(), format!("v{number}"));
    }
    daemon.stop(143);
    daemon.into_sprite()
}

/// Restores each of these, and looks whether it is that.
fn restores(daemon: &Daemon, numbers: &[u32]) {
    for number in numbers {
        let last = daemon.client().restore(&format!("v{number}"));
        assert_eq!(last["type"], "complete", "{last}");
        let text = fs::read_to_string(daemon.sprite.fs().join("file")).unwrap();
        assert!(
            text.starts_with(&format!("{number} ")),
            "{number}: {}",
            &text[..9]
        );
    }
}

#[test]
fn a_damaged_record_hides_no_other() {
    let sprite = three_checkpoints();
    fs::write(&store::files(&sprite.path("data/store/log"))[1], "{half").unwrap();
    let daemon = start(sprite);
    let client = daemon.client();
    daemon.wait_for("000000000001.json: damaged");
    restores(&daemon, &[0, 2]);
    let pid = client.status()["process"]["pid"].clone();
    client
        .get("/checkpoints/v1")
        .assert_problem(500, "000000000001.json: damaged");
    client
        .post("/checkpoints/v1/restore", &json!({}))
        .assert_problem(500, "may have been here");
    assert_eq!(client.status()["process"]["pid"], pid);
    client.get("/checkpoints/v9").assert_problem(500, "damaged");
    client
        .get("/checkpoints/nonsense")
        .assert_problem(404, "no checkpoint");
    // Its number is not used again, and what it may need is not removed.
    let packs = store::packs(&daemon.sprite).len();
    assert_eq!(client.request("DELETE", "/checkpoints/v0", b"").status, 204);
    assert_eq!(store::packs(&daemon.sprite).len(), packs);
    assert_eq!(client.checkpoint(), "v3");
}

#[test]
fn a_pack_that_is_gone_or_damaged_spoils_only_what_needs_it() {
    for (what, needle) in [("gone", "a pack is missing"), ("cut", "damaged")] {
        let sprite = three_checkpoints();
        let pack = store::pack_of(&sprite, "v1");
        if what == "gone" {
            fs::remove_file(&pack).unwrap();
        } else {
            let bytes = fs::read(&pack).unwrap();
            fs::write(&pack, &bytes[..bytes.len() - 5]).unwrap();
        }
        let daemon = start(sprite);
        let client = daemon.client();
        let pid = client.status()["process"]["pid"].clone();
        let error = client.restore("v1")["error"].to_string();
        assert!(error.contains(needle) && error.contains("packs"), "{error}");
        assert_eq!(
            client.status()["process"]["pid"],
            pid,
            "noticed before anything is stopped"
        );
        restores(&daemon, &[0, 2]);
    }
}

#[test]
fn wrong_bytes_in_a_pack_are_noticed_and_the_restore_is_undone() {
    let sprite = three_checkpoints();
    store::damage(&store::pack_of(&sprite, "v1"));
    let daemon = start(sprite);
    let client = daemon.client();
    let error = client.restore("v1")["error"].to_string();
    assert!(
        error.contains("put back as it was") && error.contains("other bytes"),
        "{error}"
    );
    let text = fs::read_to_string(daemon.sprite.fs().join("file")).unwrap();
    assert!(text.starts_with("2 "));
    assert_eq!(client.status()["state"], "Online > Serving > Running");
    restores(&daemon, &[0, 2]);
}

#[test]
fn a_store_of_a_newer_format_is_refused_untouched() {
    for name in ["format.json", "log/000000000002.json"] {
        let sprite = three_checkpoints();
        let path = sprite.path("data/store").join(name);
        let newer = fs::read_to_string(&path)
            .unwrap()
            .replace("\"format\": 2", "\"format\": 4");
        fs::write(&path, &newer).unwrap();
        let (code, text) = sprite.script("echo MAIN RAN").storage().run();
        assert_eq!(code, 78, "{text}");
        assert!(text.contains("has format 4, which is newer"), "{text}");
        assert!(
            text.contains("left untouched") && !text.contains("MAIN RAN"),
            "{text}"
        );
    }
}

#[test]
fn verify_names_every_checkpoint_that_is_affected() {
    let mut daemon = start(three_checkpoints());
    let verify =
        |daemon: &Daemon, body: &Value| daemon.client().post("/checkpoints/verify", body).json();
    let whole = verify(&daemon, &json!({"read_data": true}));
    assert_eq!(whole["whole"], true, "{whole}");
    assert_eq!(whole["checkpoints"], 3);
    assert!(whole["objects"].as_u64() >= Some(6), "{whole}");
    daemon
        .client()
        .post("/checkpoints/verify", &json!({"deep": 1}))
        .assert_problem(400, "deep");
    // The bytes of a file, in the middle of its pack: seen only by those who read them.
    let pack = store::pack_of(&daemon.sprite, "v1");
    store::damage(&pack);
    assert_eq!(verify(&daemon, &json!({}))["whole"], true);
    let found = verify(&daemon, &json!({"read_data": true}));
    assert_eq!(found["whole"], false);
    let affected = found["affected"].as_array().unwrap();
    assert_eq!(affected.len(), 1, "{found}");
    assert_eq!(affected[0]["id"], "v1");
    let problem = affected[0]["problem"].as_str().unwrap();
    assert!(problem.contains(pack.to_str().unwrap()), "{problem}");
    daemon.stop(143);
    fs::remove_file(&pack).unwrap();
    let daemon = start(daemon.into_sprite());
    let found = verify(&daemon, &json!({}));
    assert_eq!(found["affected"][0]["id"], "v1", "{found}");
    assert_eq!(found["damaged"].as_array().unwrap().len(), 1, "{found}");
    restores(&daemon, &[0, 2]);
}

#[test]
fn a_store_of_the_first_format_is_read_and_brought_up_to_date() {
    let sprite = three_checkpoints();
    let store = sprite.path("data/store");
    let records = store::files(&store.join("log"));
    for path in records.iter().chain([&store.join("format.json")]) {
        let text = fs::read_to_string(path).unwrap();
        let lines = text.lines().filter(|line| {
            !["\"run\"", "\"sequence\": 0,\n"]
                .iter()
                .any(|new| line.contains(new))
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        fs::write(path, text.replace("\"format\": 2", "\"format\": 1")).unwrap();
    }
    let mut daemon = start(sprite);
    let format = fs::read_to_string(store.join("format.json")).unwrap();
    assert!(format.contains("\"format\": 2"), "{format}");
    restores(&daemon, &[0, 1, 2]);
    daemon.stop(143);
    // What was brought up to date is read as such.
    let daemon = start(daemon.into_sprite());
    assert_eq!(
        daemon
            .client()
            .request("DELETE", "/checkpoints/v0", b"")
            .status,
        204
    );
    restores(&daemon, &[1, 2]);
}

#[test]
fn a_store_that_is_in_use_is_refused() {
    let daemon = start(Sprite::new());
    let dirs = |store: std::path::PathBuf| json!({"storage": {"dir": "tree"}, "checkpoint": {"dir": store}});
    let other = Sprite::new().script("echo MAIN RAN");
    fs::create_dir(other.path("tree")).unwrap();
    let (code, text) = other.config(&dirs(daemon.sprite.path("data/store"))).run();
    assert_eq!(code, 78, "{text}");
    assert!(text.contains("in use by another sprite-env"), "{text}");
    assert_eq!(daemon.client().checkpoint(), "v0");
}

#[test]
fn directories_that_cannot_be_used_are_refused_before_anything_starts() {
    let refused = |config: crate::support::Value, needle: &str| {
        let sprite = Sprite::new().script("echo MAIN RAN");
        fs::create_dir(sprite.path("dir")).unwrap();
        fs::write(sprite.path("file"), "").unwrap();
        fs::create_dir(sprite.path("other")).unwrap();
        fs::write(sprite.path("other/note"), "").unwrap();
        let mut daemon = sprite.config(&config).start();
        let code = daemon.wait();
        let text = daemon.output.text();
        assert_eq!(code, 78, "{text}");
        assert!(
            text.contains(needle) && !text.contains("MAIN RAN"),
            "{needle}: {text}"
        );
        assert_eq!(
            store::files(&daemon.sprite.path("other")).len(),
            1,
            "untouched"
        );
    };
    let dirs = |storage: &str, checkpoints: &str| json!({"storage": {"dir": storage}, "checkpoint": {"dir": checkpoints}});
    refused(dirs("missing", "store"), "cannot use as storage.dir");
    refused(dirs("file", "store"), "is not a directory");
    refused(dirs("dir", "dir/store"), "must not be inside one another");
    refused(
        json!({"storage": {"dir": "dir"}}),
        "checkpoint.dir: missing",
    );
    refused(
        json!({"checkpoint": {"dir": "dir"}}),
        "storage.dir: missing",
    );
    refused(
        dirs("dir", "other"),
        "is not a checkpoint store, and not empty: it has note",
    );
}
