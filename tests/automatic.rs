//! Checkpoints that nobody asks for but the clock.

use std::fs;

use crate::support::bucket::{Service, wait_until};
use crate::support::refused::refused;
use crate::support::{Daemon, Sprite, Value, json, store};

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
    let client = daemon.client();
    make_many_directories(&daemon);
    let id = client.checkpoint();
    let before = stored(&daemon);
    for _ in 0..20 {
        write_noise(&daemon);
        assert_eq!(client.restore(&id)["type"], "complete");
    }
    wait_until(
        &daemon,
        "one automatic checkpoint's content is left",
        || stored(&daemon) < before + NOISE * 3 / 2,
    );
    assert_eq!(client.checkpoint_ids(true).len(), 2);
}

/// How much of it is in each checkpoint.
const NOISE: u64 = 1 << 20;

fn write_noise(daemon: &Daemon) {
    let mut noise = vec![0; usize::try_from(NOISE).unwrap()];
    fastrand::fill(&mut noise);
    fs::write(daemon.sprite.fs().join("noise"), &noise).unwrap();
}

/// So many that it takes a while to find what is needed.
fn make_many_directories(daemon: &Daemon) {
    for number in 0..3_000 {
        let dir = daemon.sprite.fs().join(number.to_string());
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("file"), dir.display().to_string()).unwrap();
    }
}

/// How many bytes the store's packs have.
fn stored(daemon: &Daemon) -> u64 {
    let packs = store::packs(&daemon.sprite);
    let lengths = packs.iter().filter_map(|pack| fs::metadata(pack).ok());
    lengths.map(|looks| looks.len()).sum()
}

#[test]
fn what_a_deleted_one_needed_goes_though_the_next_begins_meanwhile() {
    let daemon = Sprite::new().storage().idle();
    let client = daemon.client();
    make_many_directories(&daemon);
    client.checkpoint();
    let before = stored(&daemon);
    for _ in 0..20 {
        write_noise(&daemon);
        let id = client.checkpoint();
        let path = format!("/checkpoints/{id}");
        let client = daemon.client();
        let deleting = std::thread::spawn(move || client.request("DELETE", &path, b"").status);
        // Its record goes first.
        wait_until(&daemon, "it is gone", || {
            !daemon.client().checkpoint_ids(false).contains(&id)
        });
        fs::remove_file(daemon.sprite.fs().join("noise")).unwrap();
        daemon.client().checkpoint();
        assert_eq!(deleting.join().unwrap(), 204);
    }
    wait_until(&daemon, "nothing of them is left", || {
        stored(&daemon) < before + NOISE / 2
    });
}

#[test]
fn so_it_does_though_the_next_fails() {
    let hook = json!(["sh", "-c", "test ! -e failing"]);
    let helper = json!({"start_command": ["sleep", "infinity"], "checkpoint_command": hook});
    let config = json!({"components": {"helper": helper}});
    let daemon = Sprite::new().storage().config(&config).idle();
    let client = daemon.client();
    make_many_directories(&daemon);
    client.checkpoint();
    let before = stored(&daemon);
    write_noise(&daemon);
    let id = client.checkpoint();
    fs::remove_file(daemon.sprite.fs().join("noise")).unwrap();
    client.checkpoint();
    fs::write(daemon.sprite.path("failing"), "").unwrap();
    let path = format!("/checkpoints/{id}");
    let deleting = std::thread::spawn(move || client.request("DELETE", &path, b"").status);
    wait_until(&daemon, "it is gone", || {
        !daemon.client().checkpoint_ids(false).contains(&id)
    });
    let failed = daemon.client().request("POST", "/checkpoint", b"");
    assert_eq!(failed.lines().last().unwrap()["type"], "error");
    assert_eq!(deleting.join().unwrap(), 204);
    wait_until(&daemon, "nothing of it is left", || {
        stored(&daemon) < before + NOISE / 2
    });
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
