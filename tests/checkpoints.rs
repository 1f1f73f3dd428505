//! A checkpoint is one instant of the directory; a restore brings exactly that back.

use std::fs;

use crate::support::{Daemon, Sprite, Value, is_root, json, store, trees};

fn daemon_of(sprite: Sprite) -> Daemon {
    let daemon = sprite.storage().api().start();
    daemon.wait_running();
    daemon
}

fn daemon() -> Daemon {
    Sprite::new().storage().idle()
}

#[test]
fn a_tree_with_one_of_everything_comes_back_as_it_was() {
    let daemon = daemon();
    let fs_dir = daemon.sprite.fs();
    trees::make(&fs_dir, is_root());
    let before = trees::describe(&fs_dir);
    let client = daemon.client();
    assert_eq!(client.checkpoint(), "v0");
    assert_eq!(
        trees::describe(&fs_dir),
        before,
        "taking it changes nothing"
    );
    fs::remove_dir_all(fs_dir.join("deep")).unwrap();
    fs::write(fs_dir.join("plain"), "changed").unwrap();
    fs::write(fs_dir.join("new"), "new").unwrap();
    fs::remove_file(fs_dir.join("fifo")).unwrap();
    let changed = trees::describe(&fs_dir);
    assert_eq!(client.restore("v0")["type"], "complete");
    assert_eq!(trees::describe(&fs_dir), before);
    // What it replaced was kept.
    let all = client.get("/checkpoints?includeAuto=true").json();
    let auto = all
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["is_auto"] == true)
        .unwrap();
    let auto = auto["id"].as_str().unwrap().to_owned();
    assert_eq!(client.restore(&auto)["type"], "complete");
    assert_eq!(trees::describe(&fs_dir), changed);
}

#[test]
fn every_state_can_be_reached_from_every_other() {
    let daemon = daemon();
    let (client, fs_dir) = (daemon.client(), daemon.sprite.fs());
    let mut states = Vec::new();
    for step in 0..4 {
        fs::write(fs_dir.join("step"), step.to_string()).unwrap();
        fs::create_dir_all(fs_dir.join(format!("dir{step}/sub"))).unwrap();
        if step > 1 {
            fs::remove_dir_all(fs_dir.join(format!("dir{}", step - 2))).unwrap();
        }
        states.push((client.checkpoint(), trees::describe(&fs_dir)));
    }
    for from in 0..4 {
        for to in 0..4 {
            for at in [from, to] {
                assert_eq!(client.restore(&states[at].0)["type"], "complete");
                assert_eq!(trees::describe(&fs_dir), states[at].1, "{from} -> {to}");
            }
        }
    }
}

#[test]
fn a_checkpoint_of_a_process_that_writes_is_one_instant() {
    // Two files that are written one after the other: at any instant the second is at
    // most one behind the first.
    let script = "n=0; while :; do n=$((n+1)); echo $n >data/fs/a; echo $n >data/fs/b; done";
    let daemon = daemon_of(Sprite::new().script(script));
    let client = daemon.client();
    crate::support::wait_for_file(&daemon.sprite.fs().join("b"));
    for _ in 0..20 {
        let id = client.checkpoint();
        let read = |name: &str| {
            let text = client.get(&format!("/checkpoints/{id}/files?path={name}"));
            assert_eq!(text.status, 200);
            text.text.trim().parse::<u64>().ok()
        };
        // The shell truncates and then writes: a file may be empty at the instant.
        if let (Some(a), Some(b)) = (read("a"), read("b")) {
            assert!(a == b || a == b + 1, "{a} {b}");
        }
    }
    // And it goes on afterwards.
    let now = || fs::read_to_string(daemon.sprite.fs().join("a")).unwrap();
    let before = now();
    while now() == before {
        std::thread::yield_now();
    }
}

#[test]
fn a_restore_under_a_process_that_writes() {
    let script = "cd data/fs; while :; do echo x >>log; mkdir -p d; touch d/$$; rm -r d; done";
    let daemon = daemon_of(Sprite::new().script(script));
    let client = daemon.client();
    fs::write(daemon.sprite.fs().join("marker"), "v0").unwrap();
    let id = client.checkpoint();
    for round in 0..5 {
        fs::write(daemon.sprite.fs().join("marker"), format!("round {round}")).unwrap();
        assert_eq!(client.restore(&id)["type"], "complete");
        assert_eq!(
            fs::read_to_string(daemon.sprite.fs().join("marker")).unwrap(),
            "v0"
        );
    }
    assert_eq!(client.status()["state"], "Online > Serving > Running");
}

#[test]
fn the_api_of_checkpoints() {
    let daemon = daemon();
    let client = daemon.client();
    assert_eq!(client.get("/checkpoints").json(), json!([]));
    let answer = client.post("/checkpoint", &json!({"comment": "the first"}));
    assert_eq!(answer.kind, "application/x-ndjson");
    let data: Vec<_> = answer.lines().iter().map(|l| l["data"].clone()).collect();
    assert!(data.contains(&json!("  ID: v0")), "{data:?}");
    assert_eq!(client.request("POST", "/checkpoint", b"").status, 200);
    assert_eq!(client.checkpoint(), "v2");
    let list = client.get("/checkpoints").json();
    let ids = |list: &Value| -> Vec<String> {
        let list = list.as_array().unwrap().iter();
        list.map(|c| c["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&list), ["v2", "v1", "v0"]);
    for name in ["v1", "1", "checkpoints%2Fv1"] {
        assert_eq!(
            client.get(&format!("/checkpoints/{name}")).json()["id"],
            "v1"
        );
    }
    let first = client.get("/checkpoints/v0").json();
    assert_eq!(first["comment"], "the first");
    assert!(first["create_time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(client.get("/checkpoints/Current").json()["id"], "v2");
    assert_eq!(
        client.get("/checkpoints/v2").json()["history"],
        json!(["v0", "v1"])
    );
    assert_eq!(ids(&client.get("/checkpoints?history=v1").json()), ["v2"]);

    // Numbers are never used again.
    assert_eq!(client.request("DELETE", "/checkpoints/v2", b"").status, 204);
    client
        .get("/checkpoints/v2")
        .assert_problem(404, "there is no checkpoint \"v2\"");
    assert_eq!(client.checkpoint(), "v3");
    let restored = client.post("/restore", &json!({"checkpoint_id": "v1"}));
    assert_eq!(
        restored.lines().last().unwrap()["data"],
        "Restore from v1 complete"
    );
    client
        .request("DELETE", "/checkpoints/v1", b"")
        .assert_problem(409, "active");
    assert_eq!(client.checkpoint(), "v4");
    assert_eq!(client.get("/checkpoints/v4").json()["source_id"], "v1");

    for bad in ["v99", "nope", "..%2F..%2Fetc", "v01", "auto-1"] {
        client
            .get(&format!("/checkpoints/{bad}"))
            .assert_problem(404, "no checkpoint");
        client
            .request("DELETE", &format!("/checkpoints/{bad}"), b"")
            .assert_problem(404, "no");
    }
    client
        .post("/restore", &json!({}))
        .assert_problem(400, "checkpoint_id");
    client
        .post("/restore", &json!({"checkpoint_id": 3}))
        .assert_problem(400, "expected a string");
    client
        .post("/checkpoint", &json!({"comment": 3}))
        .assert_problem(400, "expected a string");
    client
        .request("POST", "/checkpoint", b"{")
        .assert_problem(400, "the body is not such as");
}

#[test]
fn restoring_what_does_not_exist_touches_nothing() {
    let daemon = daemon();
    let client = daemon.client();
    let pid = client.status()["process"]["pid"].clone();
    client
        .post("/checkpoints/v7/restore", &json!({}))
        .assert_problem(404, "\"v7\"");
    client
        .post("/restore", &json!({"checkpoint_id": "v7"}))
        .assert_problem(404, "\"v7\"");
    assert_eq!(client.status()["process"]["pid"], pid);
}

#[test]
fn two_operations_at_once_are_refused() {
    let config = json!({"components": {"db": {
        "start_command": ["sleep", "1000"],
        "checkpoint_command": ["sh", "-c", "touch begun; until [ -e go ]; do sleep 0.01; done"],
    }}});
    let daemon = Sprite::new().config(&config).storage().idle();
    fs::write(daemon.sprite.path("go"), "").unwrap();
    let client = daemon.client();
    client.checkpoint();
    for name in ["go", "begun"] {
        fs::remove_file(daemon.sprite.path(name)).unwrap();
    }
    let first = client.clone();
    let first = std::thread::spawn(move || first.checkpoint());
    crate::support::wait_for_file_to_exist(&daemon.sprite.path("begun"));
    for path in ["/checkpoint", "/checkpoints/v0/restore"] {
        let refused = client.post(path, &json!({}));
        refused.assert_problem(409, "not possible while the system is Online > Operating");
        assert_eq!(refused.json()["accepted"], json!(["shutdown"]));
    }
    client
        .request("DELETE", "/checkpoints/v0", b"")
        .assert_problem(409, "under way");
    assert_eq!(client.sh("echo commands go on").stdout, "commands go on\n");
    fs::write(daemon.sprite.path("go"), "").unwrap();
    assert_eq!(first.join().unwrap(), "v1");
}

#[test]
fn a_stop_during_a_checkpoint_gives_it_up() {
    let config = json!({"components": {"db": {
        "start_command": ["sleep", "1000"],
        "checkpoint_command": ["sh", "-c", "touch begun; until [ -e go ]; do sleep 0.01; done"],
    }}});
    let mut daemon = Sprite::new().config(&config).storage().idle();
    let client = daemon.client();
    std::thread::spawn(move || client.post("/checkpoint", &json!({})));
    crate::support::wait_for_file_to_exist(&daemon.sprite.path("begun"));
    daemon.terminate();
    daemon.wait_for("StoppingOperation");
    fs::write(daemon.sprite.path("go"), "").unwrap();
    assert_eq!(daemon.wait(), 143);
    assert!(store::checkpoints(&daemon.sprite).is_empty());
    assert!(store::files(&daemon.sprite.path("data/store/work")).is_empty());
}

#[test]
fn a_restore_ends_sessions_and_strays() {
    let daemon = daemon();
    let client = daemon.client();
    let id = client.checkpoint();
    let body = json!({"command": ["sh", "-c", "echo $$; exec sleep 1000"]});
    let mut events = client.exec_stream(&body);
    let pid = events.next().unwrap()["data"]
        .as_str()
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let stray = client
        .sh("setsid sleep 1000 >/dev/null 2>&1 & echo $!")
        .stdout;
    let stray = stray.trim().parse().unwrap();
    assert!(crate::support::is_alive(pid) && crate::support::is_alive(stray));
    assert_eq!(client.restore(&id)["type"], "complete");
    assert!(!crate::support::is_alive(pid) && !crate::support::is_alive(stray));
}

#[test]
fn looking_into_a_checkpoint() {
    let daemon = daemon();
    let (client, fs_dir) = (daemon.client(), daemon.sprite.fs());
    trees::make(&fs_dir, is_root());
    let big: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(fs_dir.join("deep/big"), &big).unwrap();
    client.checkpoint();
    fs::write(fs_dir.join("plain"), "other\n").unwrap();
    fs::remove_file(fs_dir.join("deep/big")).unwrap();
    fs::create_dir(fs_dir.join("new")).unwrap();
    fs::write(fs_dir.join("new/file"), "x").unwrap();
    fs::set_permissions(
        fs_dir.join("empty"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    client.checkpoint();

    let files = |id: &str, path: &str| client.get(&format!("/checkpoints/{id}/files?path={path}"));
    assert_eq!(files("v0", "plain").text, "text\n");
    assert_eq!(files("v1", "/./plain").text, "other\n");
    assert_eq!(files("v0", "deep/hard-link").text, "text\n");
    let read = files("v0", "deep/big").bytes;
    assert!(read == big);
    assert_eq!(files("v0", "sparse").bytes.len(), 8 << 20);
    let root = files("v1", "").json();
    assert_eq!(root["type"], "directory");
    let names: Vec<_> = root["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["name"].clone())
        .collect();
    assert!(names.contains(&json!("new")) && names.contains(&json!("newline\nin it")));
    let link = files("v0", "link").json();
    assert_eq!(
        (&link["type"], &link["target"]),
        (&json!("symlink"), &json!("plain"))
    );
    assert_eq!(files("v0", "empty-dir").json()["entries"], json!([]));
    for missing in ["nothing", "plain/below", "link/..", "..", "deep/../plain"] {
        files("v0", missing).assert_problem(404, "the checkpoint has nothing at");
    }
    files("v7", "plain").assert_problem(404, "no checkpoint");

    let diff = client.get("/checkpoints/v0/diff/v1").json();
    let mut found: Vec<_> = diff["differences"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|d| d["type"] == "file" || d["change"] != "metadata")
        .map(|d| {
            format!(
                "{} {} {} {}",
                d["change"].as_str().unwrap(),
                d["path"].as_str().unwrap(),
                d["old_size"],
                d["size"]
            )
        })
        .collect();
    found.sort();
    // A file and its other name are one.
    let expected = [
        "added new null null",
        "added new/file null 1",
        "metadata empty 0 0",
        "modified deep/hard-link 5 6",
        "modified plain 5 6",
        "removed deep/big 1200000 null",
    ];
    assert_eq!(found, expected);
    assert_eq!(
        client.get("/checkpoints/v1/diff/v1").json()["differences"],
        json!([])
    );
    client
        .get("/checkpoints/v1/diff/v9")
        .assert_problem(404, "\"v9\"");
}

#[test]
fn what_is_the_same_is_stored_once_and_deleting_frees_what_is_not() {
    let daemon = daemon();
    let (client, fs_dir) = (daemon.client(), daemon.sprite.fs());
    let noise = |length| trees::noise(&mut fastrand::Rng::new(), length);
    let stored = || -> u64 {
        let packs = store::packs(&daemon.sprite);
        packs
            .iter()
            .map(|pack| fs::metadata(pack).unwrap().len())
            .sum()
    };
    fs::write(fs_dir.join("kept"), noise(3_000_000)).unwrap();
    client.checkpoint();
    let first = stored();
    assert!((3_000_000..3_100_000).contains(&first), "{first}");
    assert_eq!(client.checkpoint(), "v1");
    assert_eq!(stored(), first, "nothing has changed");
    // One page in the middle, and the same bytes again under another name.
    let mut file = fs::OpenOptions::new()
        .write(true)
        .open(fs_dir.join("kept"))
        .unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(1_000_000)).unwrap();
    std::io::Write::write_all(&mut file, &noise(4096)).unwrap();
    fs::copy(fs_dir.join("kept"), fs_dir.join("copy")).unwrap();
    client.checkpoint();
    let second = stored() - first;
    assert!(second < 3 * 65_536, "{second}");
    fs::write(fs_dir.join("gone"), noise(2_000_000)).unwrap();
    assert_eq!(client.checkpoint(), "v3");
    fs::remove_file(fs_dir.join("gone")).unwrap();
    assert_eq!(client.checkpoint(), "v4");
    let before = stored();
    assert_eq!(client.request("DELETE", "/checkpoints/v3", b"").status, 204);
    let freed = before - stored();
    assert!((2_000_000..2_100_000).contains(&freed), "{freed}");
    for id in ["v0", "v2", "v4"] {
        assert_eq!(client.restore(id)["type"], "complete");
    }
    // What is deleted while the tree still has it is stored again by the next.
    for id in ["v0", "v1", "v2"] {
        assert_eq!(
            client
                .request("DELETE", &format!("/checkpoints/{id}"), b"")
                .status,
            204
        );
    }
    let id = client.checkpoint();
    let before = trees::describe(&fs_dir);
    fs::remove_file(fs_dir.join("kept")).unwrap();
    assert_eq!(client.restore(&id)["type"], "complete");
    assert_eq!(trees::describe(&fs_dir), before);
}
