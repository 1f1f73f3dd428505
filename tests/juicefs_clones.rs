//! Checkpoints that are clones of an image on a JuiceFS volume.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::support::bucket::{Service, durable, wait_until};
use crate::support::juicefs::{
    by_hand, fs as tree, image, in_bucket, lose, mounted, running, sprite, started,
};
use crate::support::objects::merged;
use crate::support::tracer::{Tracer, can_trace};
use crate::support::{Daemon, Sprite, Value, json, trees};

/// Where a component tells what was restored for it.
struct Seen(tempfile::TempDir);

impl Seen {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        Self(dir)
    }

    /// Adds a component with something of its own to keep.
    fn with_database(&self, config: Value) -> Value {
        let seen = self.0.path().join("seen");
        let restore = format!("mv $CHECKPOINT_DIR/dump {}", seen.display());
        let database = json!({"components": {"db": {
            "start_command": ["sleep", "1000"],
            "user": "nobody",
            "checkpoint_command": ["sh", "-c", "echo kept with $CHECKPOINT_ID >$CHECKPOINT_DIR/dump"],
            "restore_command": ["sh", "-c", restore]
        }}});
        merged(config, &database)
    }

    /// What it has seen last.
    fn last(&self) -> String {
        fs::read_to_string(self.0.path().join("seen")).unwrap()
    }
}

fn ids(daemon: &Daemon) -> Vec<String> {
    let listed = daemon.client().get("/checkpoints?includeAuto=true").json();
    let listed = listed.as_array().unwrap().iter();
    listed
        .map(|checkpoint| checkpoint["id"].as_str().unwrap().to_owned())
        .collect()
}

/// What is on the volume.
fn on_volume(daemon: &Daemon, path: &str) -> PathBuf {
    daemon.sprite.path("data/juicefs/mnt").join(path)
}

#[test]
fn a_clone_is_a_checkpoint_like_any_other() {
    let seen = Seen::new();
    let Some(mut daemon) = image().and_then(|config| running(&seen.with_database(config))) else {
        return;
    };
    let client = daemon.client();
    let status = client.status();
    assert_eq!(status["checkpoint_driver"], "juicefs");
    assert_eq!(status["capture_source"], "clone");
    trees::make(&tree(&daemon), true);
    let first = trees::describe(&tree(&daemon));
    let said = client.post("/checkpoint", &json!({"comment": "the first"}));
    assert_eq!(said.lines().last().unwrap()["checkpoint_id"], "v0");
    let about = client.get("/checkpoints/v0").json();
    assert_eq!(about["comment"], "the first");
    fs::remove_file(tree(&daemon).join("plain")).unwrap();
    fs::write(tree(&daemon).join("new"), "a new file").unwrap();
    let second = trees::describe(&tree(&daemon));
    assert_eq!(client.checkpoint(), "v1");
    fs::write(tree(&daemon).join("later"), "than both").unwrap();
    let third = trees::describe(&tree(&daemon));

    let diff = client.get("/checkpoints/v0/diff/v1").json();
    let changes = diff["differences"].as_array().unwrap().iter();
    let changes: Vec<_> = changes.map(|it| (&it["path"], &it["change"])).collect();
    assert_eq!(
        changes,
        [
            (&json!("."), &json!("metadata")),
            (&json!("new"), &json!("added")),
            (&json!("plain"), &json!("removed"))
        ]
    );
    let file = client.get("/checkpoints/v1/files?path=new");
    assert_eq!((file.status, file.text.as_str()), (200, "a new file"));
    let listed = client.get("/checkpoints/v1/files?path=/").json();
    let names = listed["entries"].as_array().unwrap().iter();
    let names: Vec<_> = names.map(|it| it["name"].as_str().unwrap()).collect();
    assert!(
        names.contains(&"new") && !names.contains(&"later"),
        "{names:?}"
    );
    for path in ["later", "../../v0", "new/x"] {
        let missing = client.get(&format!("/checkpoints/v1/files?path={path}"));
        assert_eq!(missing.status, 404, "{path}: {}", missing.text);
    }

    let last = client.restore("v0");
    assert_eq!(last["type"], "complete", "{last}");
    assert_eq!(trees::describe(&tree(&daemon)), first);
    assert_eq!(seen.last(), "kept with v0\n");
    let auto = ids(&daemon).into_iter().find(|id| id.starts_with("auto-"));
    let auto = auto.unwrap();
    assert_eq!(client.restore("v1")["type"], "complete");
    assert_eq!(trees::describe(&tree(&daemon)), second);
    // What components kept is kept, whatever was done with it.
    assert_eq!(client.restore("v0")["type"], "complete");
    assert_eq!(seen.last(), "kept with v0\n");
    assert_eq!(client.restore(&auto)["type"], "complete");
    assert_eq!(trees::describe(&tree(&daemon)), third);
    assert_eq!(seen.last(), format!("kept with {auto}\n"));

    let before = ids(&daemon);
    for (method, path, status) in [
        ("POST", "/checkpoints/v9/restore", 404),
        ("GET", "/checkpoints/v9", 404),
        ("DELETE", "/checkpoints/v9", 404),
        ("DELETE", &format!("/checkpoints/{auto}")[..], 409),
        ("POST", "/checkpoints/import", 400),
    ] {
        let answer = client.request(method, path, b"no archive");
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
    }
    assert_eq!(ids(&daemon), before);
    assert_eq!(client.request("DELETE", "/checkpoints/v0", b"").status, 204);
    assert!(!on_volume(&daemon, "checkpoints/v0").exists());
    assert_eq!(client.checkpoint(), "v2", "numbers are given once");
    let verified = client.request("POST", "/checkpoints/verify?read_data=true", b"");
    assert_eq!(verified.json()["whole"], true, "{}", verified.text);
    daemon.stop(143);
    assert!(!mounted(&daemon.sprite), "nothing keeps the volume");
}

#[test]
fn archives_go_from_clones_to_stores_and_back() {
    let seen = Seen::new();
    let Some(mut daemon) = image().and_then(|config| running(&seen.with_database(config))) else {
        return;
    };
    let client = daemon.client();
    trees::make(&tree(&daemon), true);
    let made = trees::describe(&tree(&daemon));
    let said = client.post("/checkpoint", &json!({"comment": "to be moved"}));
    assert_eq!(said.status, 200);
    let archive = client.get("/checkpoints/v0/export");
    assert_eq!(archive.status, 200);
    let store = Sprite::new().storage().idle();
    let imported = store
        .client()
        .request("POST", "/checkpoints/import", &archive.bytes);
    assert_eq!(imported.status, 201, "{}", imported.text);
    let imported = imported.json();
    assert_eq!(imported["comment"], "to be moved");
    assert_eq!(
        imported["create_time"],
        client.get("/checkpoints/v0").json()["create_time"]
    );
    assert_eq!(store.client().restore("v0")["type"], "complete");
    assert_eq!(trees::describe(&store.sprite.fs()), made);
    let archive = store.client().get("/checkpoints/v0/export").bytes;
    let back = client.request("POST", "/checkpoints/import?comment=back", &archive);
    assert_eq!(back.status, 201, "{}", back.text);
    let back = back.json();
    assert_eq!(
        (&back["id"], &back["comment"]),
        (&json!("v1"), &json!("back"))
    );
    assert_eq!(back.get("source_id"), None);
    let diff = client.get("/checkpoints/v0/diff/v1").json();
    assert_eq!(diff["differences"], json!([]));
    fs::write(tree(&daemon).join("later"), "").unwrap();
    assert_eq!(client.restore("v1")["type"], "complete");
    assert_eq!(seen.last(), "kept with v0\n");
    assert_eq!(trees::describe(&tree(&daemon)), made);
    let scratch = daemon.sprite.path("data/juicefs/scratch");
    assert_eq!(fs::read_dir(scratch).unwrap().count(), 0);
    daemon.stop(143);
}

#[test]
fn the_newest_clones_can_be_looked_at_as_directories() {
    let Some(config) = image() else { return };
    let at = tempfile::tempdir().unwrap();
    let config = merged(
        config,
        &json!({"checkpoint": {"mount": at.path(), "keep_auto": 0}}),
    );
    let Some(mut daemon) = running(&config) else {
        return;
    };
    let client = daemon.client();
    for number in 0..6 {
        fs::write(tree(&daemon).join("file"), number.to_string()).unwrap();
        assert_eq!(client.checkpoint(), format!("v{number}"));
    }
    let names = || {
        let mut names: Vec<_> = fs::read_dir(at.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let read = |id: &str| fs::read_to_string(at.path().join(id).join("file"));
    wait_until(&daemon, "they are there", || {
        read("active").is_ok_and(|text| text == "5")
    });
    assert_eq!(names(), ["active", "v1", "v2", "v3", "v4", "v5"]);
    assert_eq!(read("v1").unwrap(), "1");
    let refused = fs::write(at.path().join("v1/file"), "x").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    client.restore("v2");
    wait_until(&daemon, "active is another", || {
        fs::read_link(at.path().join("active")).unwrap() == Path::new("v2")
    });
    assert_eq!(client.request("DELETE", "/checkpoints/v4", b"").status, 204);
    wait_until(&daemon, "another takes its place", || {
        names() == ["active", "v0", "v1", "v2", "v3", "v5"]
    });
    daemon.stop(143);
    assert_eq!(names(), ["active"]);
    assert!(!mounted(&daemon.sprite));
}

#[test]
fn what_is_lost_or_damaged_is_told_and_the_rest_is_there() {
    let Some(mut daemon) = image().and_then(|config| running(&config)) else {
        return;
    };
    let client = daemon.client();
    for number in 0..4 {
        fs::write(tree(&daemon).join("file"), number.to_string()).unwrap();
        client.checkpoint();
    }
    daemon.stop(143);
    let sprite = daemon.into_sprite();
    let Some(unmount) = by_hand(&sprite) else {
        return;
    };
    let dir = sprite.path("data/juicefs/mnt/checkpoints");
    let mode = |path: &str| fs::metadata(dir.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        [mode(""), mode("v0"), mode("v0/fs.ext4")],
        [0o711, 0o700, 0o600]
    );
    fs::remove_file(dir.join("index.json")).unwrap();
    fs::write(dir.join("v1/manifest.json"), "{").unwrap();
    // The superblock, the first of its copies, and more.
    let image = fs::File::options()
        .write(true)
        .open(dir.join("v2/fs.ext4"))
        .unwrap();
    std::os::unix::fs::FileExt::write_all_at(&image, &vec![0xff; 1 << 20], 0).unwrap();
    image.sync_all().unwrap();
    drop(image);
    // A crash has left these.
    fs::create_dir(dir.join(".making")).unwrap();
    fs::create_dir(dir.join(".removed-v9")).unwrap();
    unmount();
    let mut daemon = sprite.api().start();
    daemon.wait_running();
    let client = daemon.client();
    assert_eq!(ids(&daemon), ["v3", "v2", "v0"]);
    let verified = client.request("POST", "/checkpoints/verify", b"").json();
    assert_eq!(verified["whole"], false);
    let affected = verified["affected"].as_array().unwrap().iter();
    let affected: Vec<_> = affected.map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!(affected, ["v1", "v2"], "{verified}");
    let said = client.get("/checkpoints/v1");
    assert!(
        said.status >= 500 && said.text.contains("v1/manifest.json: damaged"),
        "{}",
        said.text
    );
    // A clone that cannot be mounted is put back, and everything goes on as it was.
    let last = client.restore("v2");
    assert_eq!(last["type"], "error", "{last}");
    let read = |daemon: &Daemon| fs::read_to_string(tree(daemon).join("file")).unwrap();
    assert_eq!(read(&daemon), "3");
    assert_eq!(client.restore("v0")["type"], "complete");
    assert_eq!(read(&daemon), "0");
    assert_eq!(client.checkpoint(), "v4");
    let left: Vec<_> = fs::read_dir(on_volume(&daemon, "checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert_eq!(left, [""; 0]);
    daemon.stop(143);
}

#[test]
fn automatic_ones_are_taken_when_something_has_changed() {
    let Some(config) = image() else { return };
    let config = merged(
        config,
        &json!({"checkpoint": {"auto": "50ms", "keep_auto": 2}}),
    );
    // What it keeps is always the same.
    let config = merged(
        Seen::new().with_database(config),
        &json!({"components": {"db": {
            "checkpoint_command": ["sh", "-c", "echo kept >$CHECKPOINT_DIR/dump"]
        }}}),
    );
    let Some(sprite) = sprite(Sprite::new().arg("-debug"), &config) else {
        return;
    };
    let mut daemon = sprite.start();
    daemon.wait_running();
    fs::write(tree(&daemon).join("file"), "one").unwrap();
    let newest = |daemon: &Daemon| ids(daemon).first().cloned();
    let client = daemon.client();
    let has = |text: &str| {
        newest(&daemon).is_some_and(|id| {
            client
                .get(&format!("/checkpoints/{id}/files?path=file"))
                .text
                == text
        })
    };
    wait_until(&daemon, "one is kept", || has("one"));
    let kept = newest(&daemon);
    let told = daemon
        .output
        .text()
        .matches("Nothing has changed since")
        .count();
    daemon.wait_for_times("Nothing has changed since", told + 3);
    assert_eq!(newest(&daemon), kept);
    for text in ["two", "three", "four"] {
        fs::write(tree(&daemon).join("file"), text).unwrap();
        wait_until(&daemon, "it is kept", || has(text));
    }
    wait_until(&daemon, "the oldest go", || ids(&daemon).len() == 2);
    daemon.stop(143);
}

/// A daemon to which strace does something when it clones an image.
fn traced(inject: &str) -> Option<(Daemon, Tracer)> {
    if !can_trace() {
        return None;
    }
    let config = merged(image()?, &json!({"checkpoint": {"freeze_timeout": "30s"}}));
    let daemon = running(&config)?;
    fs::write(tree(&daemon).join("file"), "content").unwrap();
    assert_eq!(daemon.client().checkpoint(), "v0");
    let call = "copy_file_range";
    let tracer = Tracer::attach(&daemon, call, &format!("inject={call}:{inject}"));
    Some((daemon, tracer))
}

#[test]
fn a_filesystem_that_was_frozen_when_we_were_killed_is_thawed() {
    let Some((mut daemon, tracer)) = traced("signal=KILL") else {
        return;
    };
    assert_eq!(daemon.client().attempt_checkpoint(), None);
    assert_eq!(daemon.wait_without_output(), 137);
    drop(tracer);
    let mut daemon = daemon.into_sprite().api().start();
    daemon.wait_running();
    fs::write(tree(&daemon).join("file"), "later").unwrap();
    assert_eq!(daemon.client().checkpoint(), "v1");
    daemon.stop(143);
}

#[test]
fn a_clone_that_fails_or_takes_too_long_is_no_checkpoint() {
    for (inject, said, logged) in [
        (
            "error=ENOSPC",
            "No space left on device",
            "the operation failed",
        ),
        (
            "delay_enter=6s:when=1",
            "was let go",
            "was frozen for 5s: thawed",
        ),
    ] {
        let Some((mut daemon, tracer)) = traced(inject) else {
            return;
        };
        let answer = daemon.client().post("/checkpoint", &json!({}));
        let last = answer.lines().last().unwrap().clone();
        assert_eq!(last["type"], "error", "{last}");
        assert!(last.to_string().contains(said), "{last}");
        daemon.wait_for(logged);
        drop(tracer);
        assert_eq!(ids(&daemon), ["v0"]);
        fs::write(tree(&daemon).join("file"), "later").unwrap();
        assert_eq!(daemon.client().checkpoint(), "v2");
        daemon.stop(143);
    }
}

#[test]
fn clones_are_durable_once_litestream_has_copied_what_names_them() {
    let (Some(service), Some(config)) = (Service::start(), in_bucket()) else {
        return;
    };
    let size = json!({"storage": {"volume": {"size": "1G"}}, "juicefs": {"layout": "image"}});
    let seen = Seen::new();
    let config = seen.with_database(merged(config, &size));
    let daemon = started(service.sprite_with(&config));
    let mut states = Vec::new();
    for number in 0..3 {
        if number == 0 {
            trees::make(&tree(&daemon), true);
        }
        fs::write(tree(&daemon).join("number"), number.to_string()).unwrap();
        states.push(trees::describe(&tree(&daemon)));
        let last = durable(&daemon);
        assert_eq!(last["type"], "complete", "{last}");
    }
    let replication = daemon.client().status()["replication"].clone();
    assert_eq!(
        (&replication["phase"], &replication["checkpoints_left"]),
        (&json!("idle"), &json!(0))
    );
    let listed = daemon.client().get("/checkpoints").json();
    assert!(
        listed
            .as_array()
            .unwrap()
            .iter()
            .all(|it| it["durability"] == "durable"),
        "{listed}"
    );
    let restored = daemon.client().restore("v1");
    assert_eq!(restored["type"], "complete");
    assert_eq!(durable(&daemon)["checkpoint_id"], "v3");
    lose(daemon);
    let mut daemon = started(service.sprite_with(&config));
    assert_eq!(trees::describe(&tree(&daemon)), states[1]);
    for (number, state) in states.iter().enumerate() {
        assert_eq!(
            daemon.client().restore(&format!("v{number}"))["type"],
            "complete"
        );
        assert_eq!(trees::describe(&tree(&daemon)), *state, "v{number}");
        assert_eq!(seen.last(), format!("kept with v{number}\n"));
    }
    daemon.stop(143);
    assert!(
        service.keys("checkpoints/lease.json").is_empty(),
        "nobody needs to wait"
    );
}

#[test]
fn whatever_is_asked_at_once_every_checkpoint_that_is_listed_is_whole() {
    let Some(mut daemon) = image().and_then(|config| running(&config)) else {
        return;
    };
    let client = daemon.client();
    fs::write(tree(&daemon).join("file"), "content").unwrap();
    assert_eq!(client.checkpoint(), "v0");
    let archive = client.get("/checkpoints/v0/export").bytes;
    std::thread::scope(|scope| {
        let worker = |work: &'static str| {
            let (client, archive, root) = (daemon.client(), archive.clone(), tree(&daemon));
            scope.spawn(move || {
                for round in 0..5 {
                    let answer = match work {
                        "import" => client.request("POST", "/checkpoints/import", &archive),
                        "checkpoint" => {
                            // A restore may take it away meanwhile.
                            let _ = fs::write(root.join("round"), round.to_string());
                            client.post("/checkpoint", &json!({}))
                        }
                        "restore" => client.request("POST", "/checkpoints/v0/restore", b""),
                        "look" => client.get("/checkpoints/Current/files?path=file"),
                        _ => {
                            let listed = client.get("/checkpoints").json();
                            let oldest = listed.as_array().unwrap().iter().rev().nth(1).cloned();
                            let Some(oldest) = oldest else { continue };
                            let path = format!("/checkpoints/{}", oldest["id"].as_str().unwrap());
                            client.request("DELETE", &path, b"")
                        }
                    };
                    let known = [200, 201, 204, 404, 409, 500].contains(&answer.status);
                    assert!(known, "{work}: {} {}", answer.status, answer.text);
                }
            });
        };
        for work in [
            "import",
            "checkpoint",
            "restore",
            "look",
            "delete",
            "delete",
        ] {
            worker(work);
        }
    });
    client.wait_status(|status| status["state"] == "Online > Serving > Running");
    let verified = client.request("POST", "/checkpoints/verify?read_data=true", b"");
    assert_eq!(verified.json()["whole"], true, "{}", verified.text);
    for id in ids(&daemon) {
        let answer = client.get(&format!("/checkpoints/{id}/files?path=file"));
        assert_eq!(
            (answer.status, answer.text.as_str()),
            (200, "content"),
            "{id}"
        );
    }
    assert_eq!(client.restore("v0")["type"], "complete");
    let listed = ids(&daemon);
    daemon.stop(143);
    let mut daemon = daemon.into_sprite().api().start();
    daemon.wait_running();
    assert_eq!(ids(&daemon), listed);
    daemon.stop(143);
}

#[test]
fn settings_of_the_driver_that_cannot_be_are_refused() {
    let refused = |config: Value, why: &str| {
        let (code, said) = Sprite::new()
            .storage()
            .config(&config)
            .command(&["true"])
            .run();
        assert_eq!(code, 78, "{said}");
        assert!(said.contains(why), "{said}");
    };
    refused(
        json!({"checkpoint": {"driver": "juicefs"}}),
        "checkpoint.driver: is \"juicefs\", which clones the image",
    );
    refused(
        json!({"checkpoint": {"driver": "clones"}}),
        "is none of \"store\", \"juicefs\"",
    );
    refused(
        json!({
            "storage": {"volume": {"type": "juicefs"}},
            "juicefs": {"layout": "image"},
            "checkpoint": {"encryption_key": "0".repeat(64)}
        }),
        "checkpoint.encryption_key: encrypts what the store keeps",
    );
}
