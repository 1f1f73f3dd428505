//! Checkpoints that nobody asks for but the clock.

use std::fs;

use crate::support::bucket::{Service, wait_until};
use crate::support::refused::refused;
use crate::support::{Daemon, Sprite, Value, json};

const NOTHING: &str = "Nothing has changed since";

fn daemon(checkpoint: &Value) -> Daemon {
    let config = json!({ "checkpoint": checkpoint });
    Sprite::new().storage().config(&config).arg("-debug").idle()
}

#[test]
fn they_are_taken_when_something_has_changed() {
    let daemon = daemon(&json!({"auto": "20ms", "keep_auto": 100}));
    let client = daemon.client();
    let file = daemon.sprite.fs().join("file");
    fs::write(&file, "one").unwrap();
    wait_until(&daemon, "one is kept", || {
        let kept = daemon.client().checkpoint_ids(true).first().cloned();
        kept.is_some_and(|id| {
            client
                .get(&format!("/checkpoints/{id}/files?path=file"))
                .text
                == "one"
        })
    });
    let kept = daemon.client().checkpoint_ids(true);
    assert!(kept.iter().all(|id| id.starts_with("auto-")), "{kept:?}");
    // Whatever they find while nothing changes is no checkpoint.
    let told = daemon.output.text().matches(NOTHING).count();
    daemon.wait_for_times(NOTHING, told + 3);
    assert_eq!(daemon.client().checkpoint_ids(true), kept);
    assert_eq!(client.get("/checkpoints").json(), json!([]), "hidden");
    fs::write(&file, "two").unwrap();
    wait_until(&daemon, "two is kept", || {
        daemon.client().checkpoint_ids(true).len() > kept.len()
    });
    // They take no number.
    let retried = |path: &str| loop {
        // An automatic one may be under way.
        let answer = client.request("POST", path, b"");
        if answer.status != 409 {
            return answer.lines().last().unwrap().clone();
        }
    };
    assert_eq!(retried("/checkpoint")["checkpoint_id"], "v0");
    let restored = retried(&format!("/checkpoints/{}/restore", kept[0]));
    assert_eq!(restored["type"], "complete");
    assert_eq!(fs::read_to_string(&file).unwrap(), "one");
    let told = daemon.output.text().matches(NOTHING).count();
    daemon.wait_for_times(NOTHING, told + 1);
    assert_eq!(client.get("/checkpoints/v0").json()["is_auto"], false);
}

#[test]
fn those_whose_time_is_over_go() {
    let daemon = daemon(&json!({"auto": "20ms", "keep_auto": 2}));
    let mut made = Vec::new();
    for round in 0..5 {
        fs::write(daemon.sprite.fs().join("file"), round.to_string()).unwrap();
        wait_until(&daemon, "a new one", || {
            daemon.client().checkpoint_ids(true).first() != made.last()
                && !daemon.client().checkpoint_ids(true).is_empty()
        });
        made.push(daemon.client().checkpoint_ids(true)[0].clone());
    }
    wait_until(&daemon, "only two are left", || {
        daemon.client().checkpoint_ids(true).len() == 2
    });
}

#[test]
fn what_they_needed_goes_though_the_next_begins_at_once() {
    let daemon = daemon(&json!({"keep_auto": 1}));
    let (client, root) = (daemon.client(), daemon.sprite.fs());
    // What is needed takes a while to find.
    for number in 0..3_000 {
        let dir = root.join(number.to_string());
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("file"), dir.display().to_string()).unwrap();
    }
    let id = client.checkpoint();
    let packs = daemon.sprite.path("data/store/packs");
    let stored = || -> u64 {
        let packs = fs::read_dir(&packs).unwrap().flatten();
        packs
            .filter_map(|pack| Some(pack.metadata().ok()?.len()))
            .sum()
    };
    let before = stored();
    let mut noise = vec![0; 1 << 20];
    for _ in 0..20 {
        fastrand::fill(&mut noise);
        fs::write(root.join("noise"), &noise).unwrap();
        assert_eq!(client.restore(&id)["type"], "complete");
    }
    wait_until(
        &daemon,
        "one automatic checkpoint's content is left",
        || stored() < before + (noise.len() as u64) * 3 / 2,
    );
    assert_eq!(client.checkpoint_ids(true).len(), 2);
}

#[test]
fn the_newest_is_what_a_new_machine_begins_with() {
    let Some(service) = Service::start() else {
        return;
    };
    let config = json!({"checkpoint": {"auto": "20ms"}});
    let daemon = service.sprite_with(&config).idle();
    let client = daemon.client();
    fs::write(daemon.sprite.fs().join("file"), "two").unwrap();
    wait_until(&daemon, "an automatic one is durable", || {
        let listed = client.get("/checkpoints?includeAuto=true").json();
        listed[0]["is_auto"] == true && listed[0]["durability"] == "durable"
    });
    let newest = daemon.client().checkpoint_ids(true)[0].clone();
    drop(daemon.crash());
    let daemon = service.sprite().idle();
    daemon.wait_for(&format!("{newest} of the bucket"));
    let there = fs::read_to_string(daemon.sprite.fs().join("file"));
    assert_eq!(there.unwrap(), "two");
}

#[test]
fn a_pause_that_is_none_is_refused() {
    refused(&json!({"checkpoint": {"auto": "often"}}), "checkpoint.auto");
}
