//! A bucket on bad days: nothing waits for it that need not, and nothing is lost.

use std::fs;

use crate::support::bucket::{
    Service, Weather, durability, durable, lost, replication, tree, wait_for_phase, wait_until,
};
use crate::support::{is_root, json, trees};

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
