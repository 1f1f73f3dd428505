//! Checkpoints in a bucket: durable, back on an empty disk, and one environment's alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::bucket::{SECRET_KEY, Service, Weather};
use crate::support::{Daemon, Sprite, Value, is_root, json, store, trees};

const LOG: &str = "checkpoints/log/";
const PACKS: &str = "checkpoints/packs/";

fn durable(daemon: &Daemon) -> Value {
    let answer = daemon
        .client()
        .post("/checkpoint", &json!({"wait": "durable"}));
    answer.lines().last().unwrap().clone()
}

fn durability(daemon: &Daemon, id: &str) -> String {
    let checkpoint = daemon.client().get(&format!("/checkpoints/{id}")).json();
    checkpoint["durability"].as_str().unwrap().to_owned()
}

fn replication(daemon: &Daemon) -> Value {
    daemon.client().status()["replication"].clone()
}

/// Waits until this is true.
fn wait_until(daemon: &Daemon, what: &str, is_true: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !is_true() {
        assert!(
            begun.elapsed() < crate::support::PATIENCE,
            "{what}: {}\n{}",
            replication(daemon),
            daemon.output.text()
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Waits until replication is in this phase; returns all that is told of it.
fn wait_for_phase(daemon: &Daemon, phase: &str) -> Value {
    wait_until(daemon, phase, || replication(daemon)["phase"] == phase);
    replication(daemon)
}

fn tree(daemon: &Daemon) -> BTreeMap<PathBuf, String> {
    trees::describe(&daemon.sprite.fs())
}

#[test]
fn what_is_durable_survives_the_loss_of_the_machine() {
    let Some(service) = Service::start() else {
        return;
    };
    let daemon = service.sprite().idle();
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

    let mut daemon = service.sprite().idle();
    daemon.wait_for("v1 of the bucket");
    assert_eq!(tree(&daemon), second);
    assert_eq!(durability(&daemon, "v0"), "durable");
    // Nobody has needed the packs of the first until now.
    assert_eq!(daemon.client().restore("v0")["type"], "complete");
    assert_eq!(tree(&daemon), first);
    assert_eq!(durable(&daemon)["checkpoint_id"], "v2");
    daemon.stop(143);

    // What was restored last is what comes back, and an orderly stop gives up the lease.
    let daemon = service.sprite().idle();
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
    let random = |seed: u64| {
        let mut random = fastrand::Rng::with_seed(seed);
        std::iter::repeat_with(|| random.u8(..))
            .take(300_000)
            .collect::<Vec<_>>()
    };
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

/// A service that is away: nothing waits for it, and nothing is lost.
fn away(weather: Weather) {
    let Some(service) = Service::start() else {
        return;
    };
    let gate = service.gate();
    let daemon = gate.sprite().idle();
    wait_for_phase(&daemon, "idle");
    gate.set(weather);
    fs::write(daemon.sprite.fs().join("file"), "one").unwrap();
    assert_eq!(daemon.client().checkpoint(), "v0");
    wait_until(&daemon, "a checkpoint that waits", || {
        let told = replication(&daemon);
        told["phase"] == "waiting" && told["checkpoints_left"] == 1 && told["bytes_left"] != 0
    });
    let told = replication(&daemon);
    assert!(told["error"].as_str().unwrap().contains("cannot "));
    assert_eq!(durability(&daemon, "v0"), "sealed");
    gate.set(Weather::Fair);
    let told = wait_for_phase(&daemon, "idle");
    assert_eq!(told.get("error"), None);
    assert_eq!(durability(&daemon, "v0"), "durable");
    drop(daemon.crash());
    let daemon = service.sprite().idle();
    let restored = fs::read_to_string(daemon.sprite.fs().join("file"));
    assert_eq!(restored.unwrap(), "one");
}

#[test]
fn a_service_that_closes_connections_is_waited_for() {
    away(Weather::Closed);
}

#[test]
fn a_service_that_fails_is_waited_for() {
    away(Weather::Error);
}

#[test]
fn a_service_that_has_no_time_is_waited_for() {
    away(Weather::Unavailable);
}

#[test]
fn a_service_whose_answers_are_cut_off_is_waited_for() {
    away(Weather::CutOff);
}

#[test]
fn a_slow_service_delays_only_durability() {
    let Some(service) = Service::start() else {
        return;
    };
    let gate = service.gate();
    gate.set(Weather::Slow);
    let daemon = gate.sprite().idle();
    trees::make(&daemon.sprite.fs(), is_root());
    assert_eq!(durable(&daemon)["type"], "complete");
}

#[test]
fn an_environment_with_a_disk_starts_without_its_bucket() {
    let Some(service) = Service::start() else {
        return;
    };
    let gate = service.gate();
    let mut daemon = gate.sprite().idle();
    assert_eq!(durable(&daemon)["type"], "complete");
    daemon.stop(143);
    gate.set(Weather::Closed);
    let mut daemon = daemon.into_sprite().idle();
    daemon.wait_for("checkpoints stay on this machine meanwhile");
    assert_eq!(daemon.client().checkpoint(), "v1");
    daemon.stop(143);
    daemon.wait_for("1 checkpoints with");
    gate.set(Weather::Fair);
    let daemon = daemon.into_sprite().idle();
    wait_for_phase(&daemon, "idle");
    assert_eq!(durability(&daemon, "v1"), "durable");
}

#[test]
fn an_empty_disk_does_not_start_without_its_bucket() {
    let Some(service) = Service::start() else {
        return;
    };
    let gate = service.gate();
    gate.set(Weather::Closed);
    let (code, text) = gate.sprite().command(&["true"]).run();
    assert_eq!(code, 78, "{text}");
    assert!(text.contains("the bucket is needed to start"), "{text}");
    assert!(text.contains("SPRITE_LOCAL_MODE=true"), "{text}");
}

#[test]
fn a_stop_does_not_wait_for_a_bucket_that_does_not_answer() {
    let Some(service) = Service::start() else {
        return;
    };
    let gate = service.gate();
    gate.set(Weather::Closed);
    let mut daemon = gate.sprite().command(&["sleep", "1000"]).start();
    daemon.wait_for("trying again");
    daemon.stop(143);
}

#[test]
fn a_stop_ends_a_wait_for_durability_and_says_so() {
    let Some(service) = Service::start() else {
        return;
    };
    let gate = service.gate();
    let mut daemon = gate.sprite().idle();
    wait_for_phase(&daemon, "idle");
    gate.set(Weather::Closed);
    let client = daemon.client();
    let waiting =
        std::thread::spawn(move || client.post("/checkpoint", &json!({"wait": "durable"})));
    wait_until(&daemon, "a checkpoint that waits", || {
        replication(&daemon)["checkpoints_left"] == 1
    });
    daemon.stop(143);
    let last = waiting.join().unwrap().lines().last().unwrap().clone();
    assert_eq!(last["type"], "error", "{last}");
    let why = last["error"].as_str().unwrap();
    assert!(why.contains("v0 is sealed, but not durable"), "{why}");
    gate.set(Weather::Fair);
    let daemon = daemon.into_sprite().idle();
    wait_for_phase(&daemon, "idle");
    assert_eq!(durability(&daemon, "v0"), "durable");
}

/// A daemon whose bucket has one durable checkpoint of a file of this many bytes that
/// cannot be compressed; then its disk is lost.
fn lost(service: &Service, bytes: usize) -> BTreeMap<PathBuf, String> {
    let daemon = service.sprite().idle();
    let mut random = fastrand::Rng::with_seed(1);
    let content: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
        .take(bytes)
        .collect();
    fs::write(daemon.sprite.fs().join("file"), content).unwrap();
    assert_eq!(durable(&daemon)["type"], "complete");
    let found = tree(&daemon);
    drop(daemon.crash());
    found
}

#[test]
fn wrong_bytes_from_the_bucket_are_never_restored() {
    let Some(service) = Service::start() else {
        return;
    };
    let gate = service.gate();
    let wanted = lost(&service, 3_000_000);
    gate.set(Weather::Garbled);
    let mut daemon = gate.sprite().command(&["sleep", "1000"]).api().start();
    assert_ne!(daemon.wait(), 0);
    let text = daemon.output.text();
    assert!(text.contains("damaged"), "{text}");
    gate.set(Weather::Fair);
    let sprite = daemon.into_sprite();
    let daemon = sprite.idle();
    assert_eq!(tree(&daemon), wanted);
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
fn a_bucket_of_a_newer_format_is_left_untouched() {
    let Some(service) = Service::start() else {
        return;
    };
    service.put("checkpoints/format.json", b"{\"format\": 99}");
    let (code, text) = service.sprite().command(&["true"]).run();
    assert_eq!(code, 78, "{text}");
    assert!(text.contains("has format 99, which is newer"), "{text}");
    assert_eq!(service.keys(LOG), Vec::<String>::new());
}

#[test]
fn a_bucket_in_use_is_refused_and_an_abandoned_one_taken_over() {
    let Some(service) = Service::start() else {
        return;
    };
    let first = service.sprite().idle();
    fs::write(first.sprite.fs().join("file"), "one").unwrap();
    assert_eq!(durable(&first)["type"], "complete");
    let (code, text) = service.sprite().command(&["true"]).run();
    assert_eq!(code, 78, "{text}");
    assert!(
        text.contains("in use by another sprite-env, which is alive"),
        "{text}"
    );

    // Held, as a machine that has lost its network: it renews nothing.
    first.signal(libc::SIGSTOP);
    let second = service.sprite().idle();
    second.wait_for("waiting up to 3s");
    let restored = fs::read_to_string(second.sprite.fs().join("file"));
    assert_eq!(restored.unwrap(), "one");
    assert_eq!(durable(&second)["checkpoint_id"], "v1");

    // It comes back, and finds itself out.
    first.signal(libc::SIGCONT);
    let told = wait_for_phase(&first, "fenced");
    let why = told["error"].as_str().unwrap();
    assert!(why.contains("was written by another sprite-env"), "{why}");
    let answer = first.client().post("/checkpoint", &json!({}));
    let last = answer.lines().last().unwrap().clone();
    assert_eq!(last["type"], "error", "{last}");
    assert!(
        last["error"]
            .as_str()
            .unwrap()
            .contains("another sprite-env")
    );
    assert_eq!(durable(&second)["checkpoint_id"], "v2");
    let log = service.keys(LOG);
    drop(first.crash());
    assert_eq!(service.keys(LOG), log, "nothing more came of it");
}

#[test]
fn a_disk_that_somebody_has_taken_over_from_does_not_go_on() {
    let Some(service) = Service::start() else {
        return;
    };
    let mut first = service.sprite().idle();
    assert_eq!(durable(&first)["type"], "complete");
    first.stop(143);
    let second = service.sprite().idle();
    assert_eq!(durable(&second)["type"], "complete");
    let (code, text) = first.into_sprite().command(&["true"]).run();
    assert_eq!(code, 78, "{text}");
    assert!(text.contains("was written by another sprite-env"), "{text}");
}

#[test]
fn of_many_that_take_a_bucket_at_once_one_keeps_it() {
    const MANY: usize = 8;
    let Some(service) = Service::start() else {
        return;
    };
    lost(&service, 100_000);
    service.delete("checkpoints/lease.json");
    let off = json!({"checkpoint": {"lease": "off"}});
    let mut daemons: Vec<Daemon> = (0..MANY)
        .map(|_| {
            let sprite = service.sprite_with(&off);
            sprite.command(&["sleep", "1000"]).api().start()
        })
        .collect();
    // Whoever comes later takes over from whoever was there: all must have come.
    let running: Vec<&Daemon> = daemons
        .iter_mut()
        .filter_map(|daemon| daemon.wait_running_or_end().then_some(&*daemon))
        .collect();
    let winners = running
        .iter()
        .filter(|daemon| durable(daemon)["type"] == "complete");
    assert_eq!(winners.count(), 1);
    // Every record is there once, and names what is there.
    let packs = service.keys(PACKS);
    for (number, key) in service.keys(LOG).iter().enumerate() {
        assert_eq!(*key, format!("{LOG}{number:012}.json"));
        let record: Value = serde_json::from_slice(&service.get(key)).unwrap();
        for pack in record["packs"].as_array().into_iter().flatten() {
            let pack = format!("{PACKS}{}.pack", pack.as_str().unwrap());
            assert!(packs.contains(&pack), "{key} names {pack}");
        }
    }
}

#[test]
fn a_service_that_ignores_conditions_is_refused() {
    let Some(service) = Service::start() else {
        return;
    };
    let gate = service.gate();
    gate.set(Weather::Unconditional);
    let (code, text) = gate.sprite().command(&["true"]).run();
    assert_eq!(code, 78, "{text}");
    assert!(text.contains("ignores the condition of a write"), "{text}");
    let config = json!({"checkpoint": {"lease": "best-effort"}});
    let daemon = gate.sprite_with(&config).idle();
    daemon.wait_for("make sure that nobody else uses it");
    assert_eq!(durable(&daemon)["type"], "complete");
    drop(daemon.crash());
    let daemon = gate.sprite_with(&config).idle();
    assert_eq!(durability(&daemon, "v0"), "durable");
}

#[test]
fn a_kill_at_any_moment_leaves_the_bucket_whole() {
    let Some(service) = Service::start() else {
        return;
    };
    let gate = service.gate();
    // Each request takes a while, so that the kills meet all of them.
    gate.set(Weather::Slow);
    let mut sprite = gate.sprite();
    let mut states = Vec::new();
    for round in 0..12_u8 {
        let daemon = sprite.idle();
        let dir = daemon.sprite.fs();
        fs::write(dir.join(format!("file-{round}")), vec![round; 70_000]).unwrap();
        states.push((daemon.client().checkpoint(), tree(&daemon)));
        if round % 3 == 2 {
            daemon
                .client()
                .request("DELETE", &format!("/checkpoints/{}", states[0].0), b"");
            states.remove(0);
        }
        std::thread::sleep(std::time::Duration::from_millis(13 * u64::from(round)));
        sprite = daemon.crash();
    }
    let daemon = sprite.idle();
    assert_eq!(durable(&daemon)["type"], "complete");
    drop(daemon.crash());
    gate.set(Weather::Fair);
    let daemon = service.sprite().idle();
    for (id, wanted) in &states {
        assert_eq!(daemon.client().restore(id)["type"], "complete", "{id}");
        assert_eq!(tree(&daemon), *wanted, "{id}");
    }
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
