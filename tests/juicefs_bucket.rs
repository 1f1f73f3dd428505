//! The environment's directory on a JuiceFS volume whose blocks are in a bucket, with its
//! metadata copied there by Litestream.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::support::bucket::{SECRET_KEY, Service, Weather, durable, wait_until};
use crate::support::juicefs::{
    files_with, fs as tree, in_bucket, lose, mounted, pid_of, reconfigure, started, wait_for_copy,
};
use crate::support::{Daemon, Value, json, signal_process, trees};

#[test]
fn a_volume_in_a_bucket_is_there_again_after_the_loss_of_the_machine() {
    let (Some(service), Some(config)) = (Service::start(), in_bucket()) else {
        return;
    };
    let daemon = started(service.sprite_with(&config));
    let client = daemon.client();
    trees::make(&tree(&daemon), true);
    let made = trees::describe(&tree(&daemon));
    let first = durable(&daemon)["checkpoint_id"]
        .as_str()
        .unwrap()
        .to_owned();
    fs::write(tree(&daemon).join("plain"), "other").unwrap();
    client.restore(&first);
    assert_eq!(trees::describe(&tree(&daemon)), made);
    fs::write(tree(&daemon).join("later"), "than the checkpoint").unwrap();
    wait_for_copy(&daemon, &tree(&daemon));
    let before = trees::describe(&tree(&daemon));
    assert!(!service.keys("checkpoints-blocks/chunks/").is_empty());
    lose(daemon);

    let mut daemon = started(service.sprite_with(&config));
    daemon.wait_for("the metadata are fetched from s3://bucket/checkpoints/volume/metadata/1");
    // Not only the checkpoint: everything that was in the bucket.
    assert_eq!(trees::describe(&tree(&daemon)), before);
    daemon.client().restore(&first);
    assert_eq!(trees::describe(&tree(&daemon)), made);
    assert_eq!(durable(&daemon)["type"], "complete");
    daemon.stop(143);
    daemon.wait_for("the volume and its metadata are in the bucket");
    assert!(!mounted(&daemon.sprite));
    // What a stop has left is all there, on yet another machine.
    let mut daemon = started(service.sprite_with(&config));
    assert_eq!(trees::describe(&tree(&daemon)), made);
    daemon.stop(143);
}

#[test]
fn keys_are_where_they_are_needed_only() {
    let (Some(service), Some(config)) = (Service::start(), in_bucket()) else {
        return;
    };
    // JuiceFS would put these into the metadata.
    let sprite = service.sprite_with(&config);
    let sprite = sprite.env("SECRET_KEY", SECRET_KEY).env("ACCESS_KEY", "a");
    let mut daemon = started(sprite);
    let client = daemon.client();
    wait_for_copy(&daemon, &tree(&daemon));
    let environment = client.sh("env; cat /proc/self/environ").stdout;
    assert!(
        !environment.contains("AWS_SECRET_ACCESS_KEY"),
        "{environment}"
    );
    for path in ["/status", "/config", "/metrics", "/diagrams/system"] {
        let said = client.get(path);
        assert!(!said.text.contains(SECRET_KEY), "{path}");
    }
    let print = Command::new(env!("CARGO_BIN_EXE_sprite-env"))
        .args([
            "-config",
            daemon.sprite.path("config.json").to_str().unwrap(),
        ])
        .args(["config", "print"])
        .output()
        .unwrap();
    assert!(!String::from_utf8_lossy(&print.stdout).contains(SECRET_KEY));
    daemon.stop(143);
    assert!(!daemon.output.text().contains(SECRET_KEY));
    // Nor in the metadata, which are copied.
    let found = files_with(SECRET_KEY, &daemon.sprite.path("data"));
    assert_eq!(found, "");
}

#[test]
fn a_machine_that_comes_back_goes_on_from_what_another_has_left() {
    let (Some(service), Some(config)) = (Service::start(), in_bucket()) else {
        return;
    };
    let write = |daemon: &Daemon, text: &str| fs::write(tree(daemon).join("file"), text).unwrap();
    let read = |daemon: &Daemon| fs::read_to_string(tree(daemon).join("file")).unwrap();
    let mut first = started(service.sprite_with(&config));
    write(&first, "one");
    let (code, said) = service.sprite_with(&config).run();
    assert_eq!(code, 70, "{said}");
    assert!(
        said.contains("is in use by another, which is alive"),
        "{said}"
    );
    first.stop(143);
    // The same machine goes on with what it has.
    let mut first = started(first.into_sprite());
    assert_eq!(read(&first), "one");
    assert!(!first.output.text().contains("are fetched"));
    write(&first, "two");
    first.stop(143);

    let mut second = started(service.sprite_with(&config));
    assert_eq!(read(&second), "two");
    write(&second, "three");
    second.stop(143);

    // Its checkpoints are another's now too, so it begins with those of the bucket.
    let sprite = first.into_sprite();
    fs::remove_dir_all(sprite.path("data/store")).unwrap();
    let mut first = started(sprite);
    first.wait_for("may be older than what was made of them: moved to");
    assert_eq!(read(&first), "three");
    let aside = fs::read_dir(first.sprite.path("data/juicefs")).unwrap();
    let aside: Vec<PathBuf> = aside.map(|entry| entry.unwrap().path()).collect();
    let aside = aside
        .iter()
        .find(|it| it.to_string_lossy().contains("/older-"));
    assert!(aside.unwrap().join("metadata.db").exists());
    first.stop(143);
}

#[test]
fn a_machine_that_was_taken_over_ends() {
    for layout in ["tree", "image"] {
        let (Some(service), Some(mut config)) = (Service::start(), in_bucket()) else {
            return;
        };
        config["juicefs"]["layout"] = json!(layout);
        config["storage"]["volume"]["size"] = json!("2G");
        let mut first = started(service.sprite_with(&config));
        wait_for_copy(&first, &first.sprite.path("data/juicefs/mnt"));
        // Held, as one that has lost its network: it shows no life.
        first.signal(libc::SIGSTOP);
        let mut second = started(service.sprite_with(&config));
        second.wait_for("waiting up to 3s");
        fs::write(tree(&second).join("file"), "of the second").unwrap();
        first.signal(libc::SIGCONT);
        assert_eq!(first.wait(), 70);
        let said = first.output.text();
        assert!(
            said.contains("was taken over by another sprite-env, at 20"),
            "{said}"
        );
        assert!(!mounted(&first.sprite));
        let found = fs::read_to_string(tree(&second).join("file"));
        assert_eq!(found.unwrap(), "of the second");
        // A store of which no record is in the bucket does not know that it is another's.
        let lease = "checkpoints/lease.json";
        if layout == "image" {
            assert_eq!(service.keys(lease), [lease], "the second lives");
        }
        second.stop(143);
        assert!(service.keys(lease).is_empty(), "nobody needs to wait");
        let mut third = started(service.sprite_with(&config));
        let found = fs::read_to_string(tree(&third).join("file"));
        assert_eq!(found.unwrap(), "of the second");
        third.stop(143);
    }
}

#[test]
fn what_a_stop_could_not_send_is_told_and_sent_by_the_next_start() {
    let (Some(service), Some(config)) = (Service::start(), in_bucket()) else {
        return;
    };
    let gate = service.gate();
    let mut daemon = started(gate.sprite_with(&config));
    wait_for_copy(&daemon, &tree(&daemon));
    gate.set(Weather::Closed);
    fs::create_dir(tree(&daemon).join("new")).unwrap();
    daemon.stop(143);
    let told = daemon.wait_for("not in the bucket: changes of the metadata");
    assert!(told.contains("are sent by the next start here"), "{told}");
    // Without the bucket there is no start.
    let mut daemon = daemon.into_sprite().start();
    assert_eq!(daemon.wait(), 70);
    gate.set(Weather::Fair);
    let mut daemon = started(daemon.into_sprite());
    assert!(tree(&daemon).join("new").is_dir());
    daemon.stop(143);
    daemon.wait_for("the volume and its metadata are in the bucket");
    let mut other = started(service.sprite_with(&config));
    assert!(tree(&other).join("new").is_dir());
    other.stop(143);
}

#[test]
fn what_is_killed_is_started_again_and_nothing_is_lost() {
    let (Some(service), Some(config)) = (Service::start(), in_bucket()) else {
        return;
    };
    let daemon = started(service.sprite_with(&config));
    let client = daemon.client();
    let before = pid_of(&daemon, "litestream");
    fs::write(tree(&daemon).join("one"), "1").unwrap();
    signal_process(before, libc::SIGKILL);
    client.wait_status(|status| {
        let part = &status["components"]["litestream"];
        part["state"] == "Up > Ready" && part["pid"] != before
    });
    assert_eq!(
        client.status()["components"]["litestream"]["last_exit"],
        "signal 9"
    );
    fs::write(tree(&daemon).join("two"), "2").unwrap();
    wait_for_copy(&daemon, &tree(&daemon));
    let metrics = client.get("/metrics").text;
    assert!(
        metrics.contains("sprite_metadata_replication_bytes_left 0"),
        "{metrics}"
    );
    // The daemon too; what it leaves behind makes way.
    daemon.signal(libc::SIGKILL);
    let mut daemon = daemon;
    assert_eq!(daemon.wait_without_output(), 137);
    let daemon = started(daemon.into_sprite());
    assert_eq!(fs::read_to_string(tree(&daemon).join("two")).unwrap(), "2");
    fs::write(tree(&daemon).join("three"), "3").unwrap();
    wait_for_copy(&daemon, &tree(&daemon));
    lose(daemon);
    let mut daemon = started(service.sprite_with(&config));
    for (name, text) in [("one", "1"), ("two", "2"), ("three", "3")] {
        let found = fs::read_to_string(tree(&daemon).join(name));
        assert_eq!(found.unwrap(), text);
    }
    daemon.stop(143);
}

#[test]
fn blocks_that_are_elsewhere_or_have_no_metadata_are_told() {
    let (Some(service), Some(config)) = (Service::start(), in_bucket()) else {
        return;
    };
    let with = |key: &str, value: Value| {
        let mut config = config.clone();
        config[key] = value;
        config
    };
    let binary = config["juicefs"]["binary"].clone();
    let mut local = with("juicefs", json!({"binary": binary, "blocks": "local"}));
    let (code, said) = service.sprite_with(&local).run();
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("nothing is copied; leave it out"), "{said}");
    let litestream = local.as_object_mut().unwrap().remove("litestream").unwrap();
    let mut daemon = started(service.sprite_with(&local));
    daemon.stop(143);
    let sprite = daemon.into_sprite();
    reconfigure(&sprite, |it| {
        it["juicefs"]["blocks"] = json!("bucket");
        it["litestream"] = litestream;
    });
    let (code, said) = sprite.run();
    assert_eq!(code, 70, "{said}");
    assert!(said.contains("set juicefs.blocks to \"local\""), "{said}");

    let missing = with("litestream", json!({"binary": "/no/litestream"}));
    let (code, said) = service.sprite_with(&missing).run();
    assert_eq!(code, 70, "{said}");
    assert!(said.contains("install Litestream 0.3"), "{said}");
    let other = with("juicefs", json!({"binary": binary, "blocks": "elsewhere"}));
    let (code, said) = service.sprite_with(&other).run();
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("neither \"bucket\" nor \"local\""), "{said}");
    for (key, setting, why) in [
        ("cache_dir", json!("cache"), "must be absolute paths"),
        (
            "mount_options",
            json!(["-d"]),
            "has -d, which is given already",
        ),
    ] {
        let other = with("juicefs", json!({"binary": binary, key: setting}));
        let (code, said) = service.sprite_with(&other).run();
        assert_eq!(code, 78, "{said}");
        assert!(said.contains(why), "{said}");
    }
    let (code, said) = service
        .sprite_with(&with("s3", json!({"prefix": "\u{e4}"})))
        .run();
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("s3.prefix: has other characters"), "{said}");

    service.put("checkpoints-blocks/chunks/0/0/1_0_4", b"data");
    let (code, said) = service.sprite_with(&config).run();
    assert_eq!(code, 70, "{said}");
    assert!(
        said.contains("their metadata are neither here nor in the bucket"),
        "{said}"
    );
    // Nothing of it was changed.
    assert_eq!(service.get("checkpoints-blocks/chunks/0/0/1_0_4"), b"data");
}

#[test]
fn bad_weather_of_the_bucket_holds_writes_up_and_loses_none() {
    let (Some(service), Some(config)) = (Service::start(), in_bucket()) else {
        return;
    };
    let gate = service.gate();
    let mut daemon = started(gate.sprite_with(&config));
    let write = |daemon: &Daemon, name: &str| {
        let path = tree(daemon).join(name);
        fs::write(&path, name.repeat(100_000))?;
        fs::File::open(&path)?.sync_all()
    };
    for (name, weather) in [
        ("slow", Weather::Slow),
        ("failing", Weather::Error),
        ("busy", Weather::Unavailable),
        ("cut off", Weather::CutOff),
        ("gone", Weather::Closed),
    ] {
        gate.set(weather);
        let done = std::thread::scope(|scope| {
            let writing = scope.spawn(|| write(&daemon, name));
            // Long enough for some of its requests to fail.
            if weather != Weather::Slow {
                wait_until(&daemon, "somebody has asked", || gate.spoilt() > 5);
                gate.set(Weather::Fair);
            }
            writing.join().unwrap()
        });
        done.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            daemon.client().status()["components"]["juicefs"]["restarts"],
            0
        );
    }
    gate.set(Weather::Fair);
    wait_for_copy(&daemon, &tree(&daemon));
    let before = trees::describe(&tree(&daemon));
    assert_eq!(before.len(), 7, "{before:?}");
    daemon.stop(143);
    let mut other = started(service.sprite_with(&config));
    assert_eq!(trees::describe(&tree(&other)), before);
    other.stop(143);
}

#[test]
fn what_a_format_or_a_restore_that_was_cut_off_has_left_is_finished() {
    let (Some(service), Some(config)) = (Service::start(), in_bucket()) else {
        return;
    };
    // All that the first of them writes before there are metadata.
    service.put("checkpoints-blocks/juicefs_uuid", b"of-another");
    let daemon = started(service.sprite_with(&config));
    fs::write(tree(&daemon).join("file"), "one").unwrap();
    assert_eq!(durable(&daemon)["checkpoint_id"], "v0");
    fs::write(tree(&daemon).join("file"), "two").unwrap();
    // What a restore has beside the tree until it is whole.
    let intent = json!({"id": "v0", "auto_id": "auto-x", "rolling_back": false});
    let beside = tree(&daemon).with_file_name("restore.json");
    fs::write(&beside, intent.to_string()).unwrap();
    wait_for_copy(&daemon, &tree(&daemon));
    lose(daemon);
    let mut daemon = started(service.sprite_with(&config));
    let found = fs::read_to_string(tree(&daemon).join("file"));
    assert_eq!(found.unwrap(), "one");
    assert!(!tree(&daemon).with_file_name("restore.json").exists());
    daemon.stop(143);
}

#[test]
fn after_a_power_failure_the_metadata_of_the_bucket_are_taken() {
    let (Some(service), Some(config)) = (Service::start(), in_bucket()) else {
        return;
    };
    let mut daemon = started(service.sprite_with(&config));
    fs::write(tree(&daemon).join("file"), "content").unwrap();
    let cache = || fs::read_dir(daemon.sprite.path("data/juicefs/cache")).unwrap();
    let before: Vec<_> = cache().map(|entry| entry.unwrap().file_name()).collect();
    daemon.stop(143);
    let mut daemon = started(daemon.into_sprite());
    let cache = fs::read_dir(daemon.sprite.path("data/juicefs/cache")).unwrap();
    let after: Vec<_> = cache.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(before, after, "the cache is of use still");
    wait_for_copy(&daemon, &tree(&daemon));
    daemon.signal(libc::SIGKILL);
    assert_eq!(daemon.wait_without_output(), 137);
    // It is another start of the machine, and the one before did not end well.
    let sprite = daemon.into_sprite();
    let path = sprite.path("data/juicefs/starts.json");
    let mut known: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    known["boot"] = json!("another");
    fs::write(&path, known.to_string()).unwrap();
    let mut daemon = started(sprite);
    daemon.wait_for("the metadata are fetched from s3://bucket/checkpoints/volume/metadata/2");
    let found = fs::read_to_string(tree(&daemon).join("file"));
    assert_eq!(found.unwrap(), "content");
    daemon.stop(143);
}
