//! A bucket is one environment's alone.

use std::cell::RefCell;
use std::fs;
use std::process::Command;

use crate::sdks::has;
use crate::support::bucket::{
    LOG, PACKS, Service, Weather, durability, durable, lost, wait_for_phase, wait_until,
};
use crate::support::{Daemon, Value, json};

/// What says how the bucket is to be understood.
const FORMAT: &str = "checkpoints/format.json";

#[test]
fn a_bucket_of_a_newer_format_is_left_untouched() {
    let Some(service) = Service::start() else {
        return;
    };
    let newer = b"{\"format\": 99}";
    service.put(FORMAT, newer);
    let (code, text) = service.sprite().command(&["true"]).run();
    assert_eq!(code, 78, "{text}");
    assert!(text.contains("has format 99, which is newer"), "{text}");
    assert_eq!(service.keys(""), [FORMAT]);
    assert_eq!(service.get(FORMAT), newer);
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

/// Else whoever took the bucket over could not give the lease up when it stops.
#[test]
fn the_lease_of_another_is_left_until_it_no_longer_changes() {
    let Some(service) = Service::start() else {
        return;
    };
    let gate = service.gate();
    let daemon = gate.sprite().idle();
    let (key, written) = ("checkpoints/lease.json", "PUT lease.json");
    // Held right behind its own.
    loop {
        let last = || gate.requests().pop();
        wait_until(&daemon, written, || last().is_some_and(|it| it == written));
        daemon.signal(libc::SIGSTOP);
        if gate.requests().is_empty() {
            break;
        }
        daemon.signal(libc::SIGCONT);
    }
    let lease = json!({"owner": "another", "run": "its", "beat": 1, "ttl": 3});
    service.put(key, lease.to_string().as_bytes());
    daemon.signal(libc::SIGCONT);
    let seen = RefCell::new(Vec::new());
    wait_until(&daemon, "it shows life again", || {
        seen.borrow_mut().extend(gate.requests());
        seen.borrow().iter().any(|it| it == written)
    });
    let looks = seen
        .borrow()
        .iter()
        .filter(|it| *it == "GET lease.json")
        .count();
    assert_eq!(looks, 2, "{seen:?}");
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
fn clocks_that_differ_by_days_change_nothing() {
    let Some(service) = Service::start().filter(|_| has("faketime")) else {
        return;
    };
    let library = Command::new("faketime")
        .args(["-f", "+1d", "printenv", "LD_PRELOAD"])
        .output()
        .unwrap();
    let library = String::from_utf8(library.stdout).unwrap();
    let days_off = |days: &str| {
        let sprite = service.sprite().env("LD_PRELOAD", library.trim());
        let sprite = sprite.env("FAKETIME", days);
        sprite.env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    };
    let made = |daemon: &Daemon, id: &str| {
        fs::write(daemon.sprite.fs().join("file"), id).unwrap();
        assert_eq!(durable(daemon)["checkpoint_id"], id);
        let made = daemon.client().get(&format!("/checkpoints/{id}")).json();
        made["create_time"].as_str().unwrap().to_owned()
    };
    let first = days_off("+3d").idle();
    let time = made(&first, "v0");
    // Somebody who lives in the past sees that the other lives.
    let (code, text) = days_off("-3d").command(&["true"]).run();
    assert_eq!(code, 78, "{text}");
    assert!(text.contains("which is alive"), "{text}");
    drop(first.crash());

    let second = days_off("-3d").idle();
    second.wait_for("waiting up to 3s");
    let restored = fs::read_to_string(second.sprite.fs().join("file"));
    assert_eq!(restored.unwrap(), "v0");
    assert!(made(&second, "v1") < time, "{time} is in the future");
    assert_eq!(second.client().checkpoint_ids(false), ["v1", "v0"]);
    drop(second.crash());

    // What was made last counts, not what has the latest time.
    let third = service.sprite().idle();
    let restored = fs::read_to_string(third.sprite.fs().join("file"));
    assert_eq!(restored.unwrap(), "v1");
    assert_eq!(third.client().checkpoint_ids(false), ["v1", "v0"]);
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
