//! Checkpoints in a bucket: durable, and back on an empty disk.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::bucket::{
    PACKS, SECRET_KEY, Service, Weather, durability, durable, lost, replication, tree,
    wait_for_phase, wait_until,
};
use crate::support::{Daemon, Sprite, Value, is_root, json, store, trees};

#[test]
fn what_is_durable_survives_the_loss_of_the_machine() {
    if let Some(service) = Service::start() {
        survives_the_loss_of_the_machine(&|| service.sprite());
    }
}

/// Loses machines that use one bucket, which `sprite` has.
pub fn survives_the_loss_of_the_machine(sprite: &dyn Fn() -> Sprite) {
    let daemon = sprite().idle();
    trees::make(&daemon.sprite.fs(), is_root());
    assert_eq!(durable(&daemon)["checkpoint_id"], "v0");
    let first = tree(&daemon);
    fs::write(daemon.sprite.fs().join("large"), vec![7; 1 << 20]).unwrap();
    fs::remove_file(daemon.sprite.fs().join("plain")).unwrap();
    let last = durable(&daemon);
    assert_eq!(last["type"], "complete", "{last}");
    assert_eq!(durability(&daemon, "v1"), "durable");
    let second = tree(&daemon);
    fs::write(daemon.sprite.fs().join("large"), "not captured").unwrap();
    drop(daemon.crash());

    let mut daemon = sprite().idle();
    daemon.wait_for("v1 of the bucket");
    assert_eq!(tree(&daemon), second);
    assert_eq!(durability(&daemon, "v0"), "durable");
    // Nobody has needed the packs of the first until now.
    assert_eq!(daemon.client().restore("v0")["type"], "complete");
    assert_eq!(tree(&daemon), first);
    assert_eq!(durable(&daemon)["checkpoint_id"], "v2");
    daemon.stop(143);

    // What was restored last is what comes back, and an orderly stop gives up the lease.
    let daemon = sprite().idle();
    daemon.wait_for("v2 of the bucket");
    assert_eq!(tree(&daemon), first);
    assert!(!daemon.output.text().contains("waiting up to"));
}

#[test]
fn a_bucket_is_a_store_that_can_be_downloaded() {
    let Some(service) = Service::start() else {
        return;
    };
    let mut daemon = service.sprite().idle();
    fs::write(daemon.sprite.fs().join("file"), "one").unwrap();
    durable(&daemon);
    daemon.stop(143);
    let sprite = Sprite::new().storage();
    for key in service.keys("checkpoints/") {
        let path = key.replace("checkpoints/", "data/store/");
        let path = sprite.path(&path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, service.get(&key)).unwrap();
    }
    let daemon = sprite.idle();
    assert_eq!(daemon.client().restore("v0")["type"], "complete");
    let restored = fs::read_to_string(daemon.sprite.fs().join("file"));
    assert_eq!(restored.unwrap(), "one");
}

#[test]
fn a_first_start_can_leave_the_directory_as_it_is() {
    let Some(service) = Service::start() else {
        return;
    };
    let mut daemon = service.sprite().idle();
    fs::write(daemon.sprite.fs().join("file"), "one").unwrap();
    durable(&daemon);
    daemon.stop(143);
    let config = json!({"storage": {"restore_on_boot": false}});
    let daemon = service.sprite_with(&config).idle();
    assert!(!daemon.sprite.fs().join("file").exists());
    assert_eq!(daemon.client().restore("v0")["type"], "complete");
    assert!(daemon.sprite.fs().join("file").exists());
}

#[test]
fn without_a_bucket_nothing_becomes_durable() {
    let daemon = Sprite::new().storage().idle();
    let answer = daemon
        .client()
        .post("/checkpoint", &json!({"wait": "durable"}));
    answer.assert_problem(400, "there is no bucket");
    let answer = daemon
        .client()
        .post("/checkpoint", &json!({"wait": "soon"}));
    answer.assert_problem(400, "soon");
    assert_eq!(daemon.client().checkpoint(), "v0");
    assert_eq!(durability(&daemon, "v0"), "sealed");
    assert_eq!(replication(&daemon), Value::Null);
}

#[test]
fn deleting_frees_space_in_the_bucket_too() {
    let Some(service) = Service::start() else {
        return;
    };
    let mut daemon = service.sprite().idle();
    let random = |seed| trees::noise(&mut fastrand::Rng::with_seed(seed), 300_000);
    for number in 0..3 {
        fs::write(daemon.sprite.fs().join("file"), random(number)).unwrap();
        assert_eq!(durable(&daemon)["type"], "complete");
    }
    let before = service.keys(PACKS);
    assert_eq!(
        daemon
            .client()
            .request("DELETE", "/checkpoints/v1", b"")
            .status,
        204
    );
    assert_eq!(durable(&daemon)["type"], "complete");
    let after = service.keys(PACKS);
    assert!(after.len() < before.len(), "{before:?} {after:?}");
    let here = |daemon: &Daemon| -> Vec<String> {
        let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        let packs = store::packs(&daemon.sprite).into_iter().map(name);
        packs.map(|name| format!("{PACKS}{name}")).collect()
    };
    assert_eq!(here(&daemon), after);
    // What a crash has left in the bucket goes with the next start.
    service.put(&format!("{PACKS}left.pack"), b"left");
    daemon.stop(143);
    let daemon = daemon.into_sprite().idle();
    let swept = || service.keys(PACKS) == here(&daemon);
    wait_until(&daemon, "what was left is gone", swept);
}

#[test]
fn a_pack_that_is_damaged_here_is_taken_from_the_bucket() {
    let Some(service) = Service::start() else {
        return;
    };
    let mut daemon = service.sprite().idle();
    fs::write(daemon.sprite.fs().join("file"), "one").unwrap();
    assert_eq!(durable(&daemon)["type"], "complete");
    fs::write(daemon.sprite.fs().join("file"), "two").unwrap();
    assert_eq!(durable(&daemon)["type"], "complete");
    daemon.stop(143);
    let packs = store::packs(&daemon.sprite);
    for (number, pack) in packs.iter().enumerate() {
        if number == 0 {
            fs::remove_file(pack).unwrap();
        } else {
            fs::write(pack, "no pack at all").unwrap();
        }
    }
    let daemon = daemon.into_sprite().idle();
    for (id, text) in [("v0", "one"), ("v1", "two")] {
        assert_eq!(daemon.client().restore(id)["type"], "complete");
        let restored = fs::read_to_string(daemon.sprite.fs().join("file"));
        assert_eq!(restored.unwrap(), text);
    }
}

#[test]
fn so_it_is_if_only_some_bytes_of_it_are_wrong() {
    let Some(service) = Service::start() else {
        return;
    };
    let daemon = service.sprite().idle();
    let file = daemon.sprite.fs().join("file");
    let mut wanted = vec![0; 100_000];
    fastrand::fill(&mut wanted);
    fs::write(&file, &wanted).unwrap();
    assert_eq!(durable(&daemon)["type"], "complete");
    let pack = store::pack_of(&daemon.sprite, "v0");
    let good = fs::read(&pack).unwrap();
    store::damage(&pack);
    fs::write(&file, "other").unwrap();
    assert_eq!(daemon.client().restore("v0")["type"], "complete");
    assert!(fs::read(&file).unwrap() == wanted);
    daemon.wait_for("the bucket's copy has taken its place");
    assert!(fs::read(&pack).unwrap() == good);
}

#[test]
fn a_pack_that_is_damaged_before_it_was_sent_is_neither_sent_nor_removed() {
    let Some(service) = Service::start() else {
        return;
    };
    let gate = service.gate();
    let daemon = gate.sprite().idle();
    wait_for_phase(&daemon, "idle");
    gate.set(Weather::Closed);
    // It has to connect anew before it reads a pack: one that it had read by now would be sent whole.
    wait_for_phase(&daemon, "waiting");
    let mut noise = vec![0; 100_000];
    fastrand::fill(&mut noise);
    fs::write(daemon.sprite.fs().join("file"), noise).unwrap();
    assert_eq!(daemon.client().checkpoint(), "v0");
    let pack = store::pack_of(&daemon.sprite, "v0");
    let good = fs::read(&pack).unwrap();
    store::damage(&pack);
    gate.set(Weather::Fair);
    let why = || replication(&daemon)["error"].to_string();
    wait_until(&daemon, "what is wrong is told", || {
        why().contains(&pack.display().to_string()) && why().contains("damaged")
    });
    assert_eq!(durability(&daemon, "v0"), "sealed");
    assert_eq!(service.keys(PACKS), Vec::<String>::new());
    // Now nothing of it can be read; it is the only one all the same.
    let spoilt = vec![0; good.len()];
    fs::write(&pack, &spoilt).unwrap();
    let daemon = daemon.crash().idle();
    assert!(fs::read(&pack).unwrap() == spoilt);
    let answer = daemon.client().restore("v0");
    assert_eq!(answer["type"], "error", "{answer}");
    // Somebody has a copy.
    fs::write(&pack, &good).unwrap();
    let daemon = daemon.crash().idle();
    wait_for_phase(&daemon, "idle");
    assert_eq!(durability(&daemon, "v0"), "durable");
    assert_eq!(daemon.client().restore("v0")["type"], "complete");
}

#[test]
fn an_object_that_is_lost_in_the_bucket_is_named() {
    let Some(service) = Service::start() else {
        return;
    };
    lost(&service, 100_000);
    let pack = service.keys(PACKS).remove(0);
    service.delete(&pack);
    let (code, text) = service.sprite().command(&["true"]).run();
    assert_eq!(code, 78, "{text}");
    assert!(text.contains(&pack), "{text}");
}

#[test]
fn keys_are_shown_nowhere() {
    let Some(service) = Service::start() else {
        return;
    };
    let gate = service.gate();
    let mut daemon = gate
        .sprite()
        .arg("-debug")
        .command(&["sleep", "1000"])
        .api()
        .start();
    daemon.wait_running();
    assert_eq!(durable(&daemon)["type"], "complete");
    gate.set(Weather::Error);
    daemon.client().checkpoint();
    let told = wait_for_phase(&daemon, "waiting").to_string();
    assert!(!told.contains(SECRET_KEY), "{told}");
    assert!(!daemon.client().status().to_string().contains(SECRET_KEY));
    gate.set(Weather::Fair);
    daemon.stop(143);
    assert!(!daemon.output.text().contains(SECRET_KEY));
    let none = |dir: &Path| {
        for path in store::files(dir).into_iter().filter(|path| path.is_file()) {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            assert!(!text.contains(SECRET_KEY), "{}", path.display());
        }
    };
    none(&daemon.sprite.path("data/store"));
}

#[test]
fn bad_settings_are_refused() {
    let with = |settings: &Value| {
        let sprite = Sprite::new().storage().config(settings);
        sprite.command(&["true"]).run()
    };
    let keys = json!({"bucket": "b", "access_key": "a", "secret_key": "s"});
    let mut wrong_url = keys.clone();
    wrong_url["endpoint"] = json!("minio:9000");
    let mut with_password = keys.clone();
    with_password["endpoint"] = json!("http://me:secret@minio");
    for (settings, why) in [
        (
            json!({"s3": {"bucket": "b"}}),
            "s3.access_key: missing, and s3.bucket is set",
        ),
        (
            json!({"s3": wrong_url}),
            "s3.endpoint: \"minio:9000\" is no URL",
        ),
        (
            json!({"s3": with_password}),
            "s3.endpoint: has a user name or password",
        ),
        (
            json!({"s3": keys, "checkpoint": {"lease": "maybe"}}),
            "checkpoint.lease: \"maybe\" is none of",
        ),
        (
            json!({"s3": keys, "checkpoint": {"lease_ttl": "1s"}}),
            "checkpoint.lease_ttl: must be at least 3s",
        ),
    ] {
        let (code, text) = with(&settings);
        assert_eq!(code, 78, "{text}");
        assert!(text.contains(why), "{text}");
        assert!(!text.contains("me:secret"), "{text}");
    }
}
