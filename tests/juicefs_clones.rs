//! Checkpoints that are clones of an image on a JuiceFS volume.

use std::fs;

use crate::support::bucket::{Service, durable, wait_until};
use crate::support::juicefs::{
    Seen, fs as tree, image, in_bucket, lose, mounted, on_volume, running, sprite, started,
};
use crate::support::objects::merged;
use crate::support::refused::refused;
use crate::support::{Daemon, Sprite, json, trees};

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
    let auto = daemon
        .client()
        .checkpoint_ids(true)
        .into_iter()
        .find(|id| id.starts_with("auto-"));
    let auto = auto.unwrap();
    assert_eq!(client.restore("v1")["type"], "complete");
    assert_eq!(trees::describe(&tree(&daemon)), second);
    // What components kept is kept, whatever was done with it.
    assert_eq!(client.restore("v0")["type"], "complete");
    assert_eq!(seen.last(), "kept with v0\n");
    assert_eq!(client.restore(&auto)["type"], "complete");
    assert_eq!(trees::describe(&tree(&daemon)), third);
    assert_eq!(seen.last(), format!("kept with {auto}\n"));

    let before = daemon.client().checkpoint_ids(true);
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
    assert_eq!(daemon.client().checkpoint_ids(true), before);
    assert_eq!(client.request("DELETE", "/checkpoints/v0", b"").status, 204);
    assert!(!on_volume(&daemon, "checkpoints/v0").exists());
    assert_eq!(client.checkpoint(), "v2", "numbers are given once");
    let verified = client.request("POST", "/checkpoints/verify?read_data=true", b"");
    assert_eq!(verified.json()["whole"], true, "{}", verified.text);
    daemon.stop(143);
    assert!(!mounted(&daemon.sprite), "nothing keeps the volume");
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
    let newest = |daemon: &Daemon| daemon.client().checkpoint_ids(true).first().cloned();
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
    wait_until(&daemon, "the oldest go", || {
        daemon.client().checkpoint_ids(true).len() == 2
    });
    daemon.stop(143);
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
    for id in daemon.client().checkpoint_ids(true) {
        let answer = client.get(&format!("/checkpoints/{id}/files?path=file"));
        assert_eq!(
            (answer.status, answer.text.as_str()),
            (200, "content"),
            "{id}"
        );
    }
    assert_eq!(client.restore("v0")["type"], "complete");
    let listed = daemon.client().checkpoint_ids(true);
    daemon.stop(143);
    let mut daemon = daemon.into_sprite().api().start();
    daemon.wait_running();
    assert_eq!(daemon.client().checkpoint_ids(true), listed);
    daemon.stop(143);
}

#[test]
fn settings_of_the_driver_that_cannot_be_are_refused() {
    refused(
        &json!({"checkpoint": {"driver": "juicefs"}}),
        "checkpoint.driver: is \"juicefs\", which clones the image",
    );
    refused(
        &json!({"checkpoint": {"driver": "clones"}}),
        "is none of \"store\", \"juicefs\"",
    );
    refused(
        &json!({
            "storage": {"volume": {"type": "juicefs"}},
            "juicefs": {"layout": "image"},
            "checkpoint": {"encryption_key": "0".repeat(64)}
        }),
        "checkpoint.encryption_key: encrypts what the store keeps",
    );
}
