//! The environment's directory in an ext4 filesystem in one file on a JuiceFS volume.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::process::Command;

use crate::support::bucket::{Service, durable};
use crate::support::juicefs::{
    by_hand, fs as tree, image, in_bucket, lose, mounted, pid_of, reconfigure, running, sprite,
    started, wait_for_copy,
};
use crate::support::{Daemon, Sprite, Value, json, pid_namespaces, signal_process, trees};

/// What is mounted where the environment's directory is.
fn kind(daemon: &Daemon) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let at = tree(daemon).display().to_string();
    let line = mounts
        .lines()
        .rev()
        .find(|line| line.split(' ').nth(1) == Some(&at));
    line.map_or_else(String::new, |line| {
        line.split(' ').nth(2).unwrap().to_owned()
    })
}

fn size(daemon: &Daemon) -> u64 {
    let found = rustix::fs::statvfs(tree(daemon)).unwrap();
    found.f_blocks * found.f_frsize
}

#[test]
fn a_checkpoint_of_an_image_is_restored_and_it_grows_when_it_is_to() {
    let Some(mut daemon) = image().and_then(|config| running(&config)) else {
        return;
    };
    assert_eq!(kind(&daemon), "ext4");
    let client = daemon.client();
    let first = client.checkpoint();
    trees::make(&tree(&daemon), true);
    let made = trees::describe(&tree(&daemon));
    let second = client.checkpoint();
    client.restore(&first);
    assert!(!tree(&daemon).join("plain").exists());
    client.restore(&second);
    assert_eq!(trees::describe(&tree(&daemon)), made);
    let before = size(&daemon);
    daemon.stop(143);
    assert!(!mounted(&daemon.sprite), "both are unmounted at the end");
    let sprite = daemon.into_sprite();
    reconfigure(&sprite, |config| {
        config["storage"]["volume"]["size"] = json!("3G");
    });
    let mut daemon = sprite.api().start();
    daemon.wait_running();
    assert_eq!(trees::describe(&tree(&daemon)), made);
    assert!(size(&daemon) > 2 * before);
    daemon.stop(143);
}

#[test]
fn an_image_that_is_damaged_is_kept_and_another_takes_its_place() {
    let Some(mut daemon) = image().and_then(|config| running(&config)) else {
        return;
    };
    fs::write(tree(&daemon).join("file"), "content").unwrap();
    let id = daemon.client().checkpoint();
    daemon.stop(143);
    // Where nobody mounts the image, the volume has it as a file.
    let sprite = daemon.into_sprite();
    reconfigure(&sprite, |config| {
        config["process_command"] = json!(["sh", "-c", "sleep 1000"]);
    });
    let Some(mounted_by_hand) = by_hand(&sprite) else {
        return;
    };
    let image = sprite.path("data/juicefs/mnt/active/fs.ext4");
    let file = fs::File::options().write(true).open(&image).unwrap();
    // All copies of what tells that it is one.
    let garbage = vec![0xff; 64 << 10];
    for offset in (0..1_u64 << 30).step_by(1 << 20) {
        file.write_all_at(&garbage, offset).unwrap();
    }
    file.sync_all().unwrap();
    drop(file);
    mounted_by_hand();
    let mut daemon = sprite.api().start();
    daemon.wait_running();
    let said = daemon.wait_for("It is kept as");
    assert!(said.contains("restore a checkpoint"), "{said}");
    assert!(!tree(&daemon).join("file").exists());
    let above = tree(&daemon).parent().unwrap().to_owned();
    let names = fs::read_dir(above).unwrap();
    let names: Vec<_> = names
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        names.iter().any(|name| name.starts_with("fs.corrupt-")),
        "{names:?}"
    );
    daemon.client().restore(&id);
    let found = fs::read_to_string(tree(&daemon).join("file"));
    assert_eq!(found.unwrap(), "content");
    daemon.stop(143);
}

#[test]
fn an_image_of_a_killed_daemon_or_component_or_mount_is_there_again() {
    let Some(mut config) = image() else { return };
    config["juicefs"]["on_failure"] = json!("restart");
    let Some(daemon) = running(&config) else {
        return;
    };
    let write = |daemon: &Daemon, name: &str| {
        let path = tree(daemon).join(name);
        fs::write(&path, name).unwrap();
        fs::File::open(&path).unwrap().sync_all().unwrap();
    };
    let has = |daemon: &Daemon, names: &[&str]| {
        assert_eq!(kind(daemon), "ext4");
        for name in names {
            assert_eq!(&fs::read_to_string(tree(daemon).join(name)).unwrap(), name);
        }
    };
    write(&daemon, "one");
    daemon.signal(libc::SIGKILL);
    let mut daemon = daemon;
    assert_eq!(daemon.wait_without_output(), 137);
    let mut daemon = daemon.into_sprite().api().start();
    daemon.wait_running();
    has(&daemon, &["one"]);
    write(&daemon, "two");
    let is_back = |daemon: &Daemon, name: &str, before: i32| {
        let is_back = |status: &Value| {
            let parts = &status["components"];
            let is_up = |name: &str| parts[name]["state"] == "Up > Ready";
            is_up("juicefs") && is_up("juicefs-image") && parts[name]["pid"] != before
        };
        daemon.client().wait_status(is_back);
    };
    let before = pid_of(&daemon, "juicefs-image");
    signal_process(before, libc::SIGKILL);
    is_back(&daemon, "juicefs-image", before);
    has(&daemon, &["one", "two"]);
    write(&daemon, "three");
    let before = [pid_of(&daemon, "juicefs"), pid_of(&daemon, "juicefs-image")];
    let killed = Command::new("kill")
        .args(["-9", "--", &format!("-{}", before[0])])
        .status();
    assert!(killed.unwrap().success());
    is_back(&daemon, "juicefs", before[0]);
    is_back(&daemon, "juicefs-image", before[1]);
    has(&daemon, &["one", "two", "three"]);
    daemon.stop(143);
    assert!(!mounted(&daemon.sprite));
}

#[test]
fn as_pid_1_an_image_is_there_again_after_everything_was_killed() {
    if !pid_namespaces() {
        return;
    }
    let sprite = image().and_then(|config| sprite(Sprite::new().pid_1(), &config));
    let Some(sprite) = sprite else {
        return;
    };
    let mut daemon = sprite.start();
    daemon.wait_running();
    let file = tree(&daemon).join("file");
    let write = format!("echo one >{0} && sync {0}", file.display());
    assert_eq!(daemon.client().sh(&write).code, 0);
    daemon.signal(libc::SIGKILL);
    daemon.wait_without_output();
    let mut daemon = daemon.into_sprite().pid_1().api().start();
    daemon.wait_running();
    let read = format!("cat {}", file.display());
    assert_eq!(daemon.client().sh(&read).stdout, "one\n");
    daemon.stop(143);
}

#[test]
fn an_image_in_a_bucket_survives_the_loss_of_the_machine() {
    let (Some(service), Some(mut config)) = (Service::start(), in_bucket()) else {
        return;
    };
    config["juicefs"]["layout"] = json!("image");
    config["storage"]["volume"]["size"] = json!("1G");
    let daemon = started(service.sprite_with(&config));
    trees::make(&tree(&daemon), true);
    assert_eq!(durable(&daemon)["type"], "complete");
    fs::write(tree(&daemon).join("later"), "than the checkpoint").unwrap();
    rustix::fs::syncfs(fs::File::open(tree(&daemon)).unwrap()).unwrap();
    wait_for_copy(&daemon, &daemon.sprite.path("data/juicefs/mnt"));
    let before = trees::describe(&tree(&daemon));
    lose(daemon);
    let mut daemon = started(service.sprite_with(&config));
    assert_eq!(trees::describe(&tree(&daemon)), before);
    daemon.stop(143);
}

#[test]
fn a_volume_in_the_other_layout_is_refused() {
    let Some(mut daemon) = running(&json!({})) else {
        return;
    };
    fs::write(tree(&daemon).join("file"), "content").unwrap();
    daemon.stop(143);
    let sprite = daemon.into_sprite();
    reconfigure(&sprite, |config| {
        config["juicefs"]["layout"] = json!("image");
    });
    let mut daemon = sprite.start();
    assert_eq!(daemon.wait(), 70);
    let said = daemon.output.text();
    assert!(said.contains("set juicefs.layout to \"tree\""), "{said}");
    let Some(mut daemon) = image().and_then(|config| running(&config)) else {
        return;
    };
    daemon.stop(143);
    let sprite = daemon.into_sprite();
    reconfigure(&sprite, |config| {
        config["juicefs"]["layout"] = json!("tree");
        config["juicefs"]["ready_timeout"] = json!("1h");
    });
    let mut daemon = sprite.start();
    assert_eq!(daemon.wait(), 70);
    let said = daemon.output.text();
    assert_eq!(
        said.matches("set juicefs.layout to \"image\"").count(),
        1,
        "{said}"
    );
    let (code, said) = Sprite::new()
        .storage()
        .config(&json!({
            "storage": {"volume": {"type": "juicefs", "size": "1M"}},
            "juicefs": {"layout": "image"},
        }))
        .command(&["true"])
        .run();
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("must be at least 16M for an image"), "{said}");
}
