//! An overlayfs whose changes are in the image on a JuiceFS volume.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::support::juicefs::{fs as tree, image, mounted, running};
use crate::support::objects::merged;
use crate::support::refused::refused;
use crate::support::{Sprite, Value, json, skipped};

/// Two directories below, the first of which hides a file of the second.
fn below() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("one/both", "of one"),
        ("two/both", "of two"),
        ("two/dir/file", "of two"),
    ] {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    std::os::unix::fs::chown(dir.path().join("one"), Some(1234), None).unwrap();
    dir
}

fn lower(dir: &Path) -> Value {
    json!([dir.join("one"), dir.join("two")])
}

#[test]
fn what_is_changed_over_other_directories_is_in_the_image_and_its_checkpoints() {
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    if !known.contains("\toverlay\n") {
        return skipped("the kernel has no overlayfs");
    }
    let Some(config) = image() else { return };
    let dir = below();
    let config = merged(
        config,
        &json!({"overlay": {"enabled": true, "lower_paths": lower(dir.path())}}),
    );
    let Some(mut daemon) = running(&config) else {
        return;
    };
    let root = daemon.sprite.path("data/juicefs/root");
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    assert_eq!([read("both"), read("dir/file")], ["of one", "of two"]);
    assert_eq!(fs::metadata(&root).unwrap().uid(), 1234);
    let client = daemon.client();
    assert_eq!(client.checkpoint(), "v0");
    fs::remove_file(root.join("both")).unwrap();
    fs::write(root.join("dir/file"), "changed").unwrap();
    fs::rename(root.join("dir"), root.join("renamed")).unwrap();
    assert_eq!(client.checkpoint(), "v1");
    assert!(tree(&daemon).join("upper/renamed/file").exists());
    assert_eq!(client.restore("v0")["type"], "complete");
    assert_eq!([read("both"), read("dir/file")], ["of one", "of two"]);
    assert_eq!(client.restore("v1")["type"], "complete");
    assert_eq!(read("renamed/file"), "changed");
    assert!(!root.join("both").exists());
    let untouched = fs::read_to_string(dir.path().join("two/dir/file")).unwrap();
    assert_eq!(untouched, "of two");
    daemon.stop(143);
    assert!(!mounted(&daemon.sprite));
    let mut daemon = daemon.into_sprite().api().start();
    daemon.wait_running();
    assert_eq!(read("renamed/file"), "changed");
    daemon.signal(libc::SIGKILL);
    assert_eq!(daemon.wait_without_output(), 137);
    let mut daemon = daemon.into_sprite().api().start();
    daemon.wait_running();
    assert_eq!(read("renamed/file"), "changed");
    daemon.stop(143);
    assert!(!mounted(&daemon.sprite));
}

#[test]
fn settings_of_an_overlay_that_cannot_be_are_refused() {
    let volume =
        json!({"storage": {"volume": {"type": "juicefs"}}, "juicefs": {"layout": "image"}});
    for (more, why) in [
        (
            json!({"overlay": {"enabled": true}}),
            "overlay.lower_paths: missing",
        ),
        (
            json!({"overlay_enabled": true, "overlay": {"enabled": true}}),
            "is given twice, also as overlay_enabled",
        ),
        (
            json!({"overlay_lower_path": "/a", "overlay_lower_paths": ["/b"]}),
            "overlay.lower_paths too; keep one",
        ),
        (
            json!({"overlay_image_size": "2G", "storage": {"volume": {"size": "1G"}}}),
            "storage.volume.size too; keep one",
        ),
        (
            json!({"juicefs": {"layout": "tree"}, "overlay_enabled": true}),
            "overlay.enabled: needs an image",
        ),
    ] {
        let config = merged(volume.clone(), &more);
        refused(&config, why);
    }
    let alone = json!({"overlay_enabled": true, "overlay_lower_path": "/"});
    refused(&alone, "overlay: is given, but storage.volume is none");
    let Some(config) = image() else { return };
    let missing = json!({
        "overlay_enabled": true, "overlay_lower_path": "/no/such", "process_command": ["true"]
    });
    let (code, said) = Sprite::new()
        .storage()
        .config(&merged(config.clone(), &missing))
        .run();
    assert_eq!(code, 70, "{said}");
    assert!(
        said.contains("cannot use as a lower directory /no/such"),
        "{said}"
    );
    // The image alone.
    let skipped = json!({
        "overlay_enabled": true, "overlay_skip_overlayfs": true, "overlay_image_size": "2G",
        "storage": {"volume": {"size": null}}, "process_command": ["true"]
    });
    let (code, said) = Sprite::new()
        .storage()
        .config(&merged(config, &skipped))
        .run();
    assert_eq!(code, 0, "{said}");
}
