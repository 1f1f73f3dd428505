//! Checkpoints that are clones: looked at, moved as archives, and damaged.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::bucket::wait_until;
use crate::support::juicefs::{Seen, by_hand, fs as tree, image, mounted, on_volume, running};
use crate::support::objects::merged;
use crate::support::{Daemon, Sprite, json, trees};

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
    assert_eq!(daemon.client().checkpoint_ids(true), ["v3", "v2", "v0"]);
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
