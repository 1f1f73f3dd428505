//! What the environment's directory is on comes first, and stays up while a checkpoint is
//! restored. The real thing is in `juicefs`.

use crate::support::objects::with;
use crate::support::{Sprite, Value, json, wait_for_file_to_exist, wait_for_text};

/// A component that brings the directory `disk`, and says in `order` when it comes and goes.
fn disk() -> Value {
    let script = "sleep 0.2; mkdir -p disk/fs; echo disk up >>order; touch disk/ready; \
                  trap 'echo disk down >>order; exit 0' TERM; while :; do sleep 0.02; done";
    json!({
        "start_command": ["sh", "-c", script], "storage": true,
        "ready_command": ["test", "-e", "disk/ready"],
    })
}

/// Another, that does not.
fn helper() -> Value {
    let script = "trap 'echo helper down >>order; exit 0' TERM; echo helper up >>order; \
                  echo up; while :; do sleep 0.02; done";
    json!({
        "start_command": ["sh", "-c", script], "needs": ["disk"], "ready": {"log": "up"},
    })
}

fn config(sprite: &Sprite, more: &Value) -> Value {
    let config = json!({
        "process_command": ["sh", "-c", "echo process up >>order; exec sleep 1000"],
        "components": {"disk": disk(), "helper": helper()},
        "storage": {"dir": sprite.path("disk/fs")},
        "checkpoint": {"dir": sprite.path("store")},
    });
    with(config, more)
}

/// With a configuration that needs the test's directory.
fn sprite(more: &Value) -> Sprite {
    let sprite = Sprite::new().api();
    let config = config(&sprite, more);
    sprite.config(&config)
}

#[test]
fn what_carries_the_storage_is_up_before_it_is_opened_and_stays_through_a_restore() {
    for cgroups in ["auto", "off"] {
        let sprite = sprite(&json!({"cgroups": cgroups}));
        let order = sprite.path("order");
        let wait = |wanted: &str| wait_for_text(&order, |text| text == wanted);
        let mut daemon = sprite.start();
        daemon.wait_running();
        let client = daemon.client();
        wait("disk up\nhelper up\nprocess up\n");
        let pid = |name: &str| client.status()["components"][name]["pid"].clone();
        let before = (pid("disk"), pid("helper"));
        let file = daemon.sprite.path("disk/fs/file");
        std::fs::write(&file, "one").unwrap();
        let first = client.checkpoint();
        std::fs::write(&file, "two").unwrap();
        // Something that nobody knows of goes with the rest of the tree.
        client.sh("setsid sleep 1000 >/dev/null 2>&1 & echo started");
        client.restore(&first);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "one");
        assert_eq!(pid("disk"), before.0, "it was not stopped");
        assert_ne!(pid("helper"), before.1);
        let up = "disk up\nhelper up\nprocess up\nhelper down\nhelper up\nprocess up\n";
        wait(up);
        daemon.stop(143);
        wait(&format!("{up}helper down\ndisk down\n"));
    }
}

#[test]
fn a_restore_that_a_crash_has_cut_off_waits_for_the_storage() {
    let hook = "test -e ../armed && { touch ../hanging; sleep 1000; }; exit 0";
    let mut helper = helper();
    helper["restore_command"] = json!(["sh", "-c", hook]);
    helper["working_dir"] = json!("disk");
    let sprite = sprite(&json!({"components": {"disk": disk(), "helper": helper}}));
    let daemon = sprite.start();
    daemon.wait_running();
    let client = daemon.client();
    let file = daemon.sprite.path("disk/fs/file");
    std::fs::write(&file, "one").unwrap();
    let first = client.checkpoint();
    std::fs::write(&file, "two").unwrap();
    std::fs::write(daemon.sprite.path("armed"), "").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| client.attempt_restore(&first));
        wait_for_file_to_exist(&daemon.sprite.path("hanging"));
        daemon.signal(libc::SIGKILL);
    });
    let sprite = daemon.crash();
    std::fs::remove_file(sprite.path("armed")).unwrap();
    std::fs::remove_file(sprite.path("disk/ready")).unwrap();
    let mut daemon = sprite.start();
    daemon.wait_running();
    let states = daemon.output.text();
    let at = |state: &str| {
        states
            .find(state)
            .unwrap_or_else(|| panic!("{state}: {states}"))
    };
    assert!(at("Starting > Mounting") < at("Starting > Opening"));
    assert!(at("Starting > Opening") < at("Restoring > Swapping"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "one");
    daemon.stop(143);
}

#[test]
fn a_storage_that_is_not_there_ends_the_start() {
    let nothing = json!({"start_command": ["sleep", "1000"], "storage": true});
    let (code, said) = sprite(&json!({"components": {"disk": nothing}})).run();
    assert_eq!(code, 78);
    assert!(said.contains("the checkpoints cannot be opened"), "{said}");
    assert!(said.contains("disk/fs"), "{said}");
    assert!(!said.contains("process up"), "{said}");
    let mut broken = disk();
    broken["start_command"] = json!(["sh", "-c", "echo no disk; exit 3"]);
    let (code, said) = sprite(&json!({"components": {"disk": broken}})).run();
    assert_eq!(code, 70);
    assert!(said.contains("disk ended: exit code 3"), "{said}");
}

#[test]
fn a_stop_while_the_storage_comes_up_stops_it() {
    let slow = json!({
        "start_command": ["sh", "-c", "trap 'exit 0' TERM; touch begun; while :; do sleep 0.02; done"],
        "storage": true, "ready_command": ["false"],
    });
    let mut daemon = sprite(&json!({"components": {"disk": slow}})).start();
    wait_for_file_to_exist(&daemon.sprite.path("begun"));
    assert_eq!(
        daemon.client().status()["state"],
        "Online > Starting > Mounting"
    );
    daemon.stop(0);
}

#[test]
fn a_component_that_cannot_carry_the_storage_is_refused() {
    let mut needy = disk();
    needy["needs"] = json!(["helper"]);
    let alone = json!({"start_command": ["true"]});
    let mut timed = disk();
    timed.as_object_mut().unwrap().remove("ready_command");
    timed["schedule"] = json!("@daily");
    let mut ignored = disk();
    ignored["on_failure"] = json!("ignore");
    for (disk, why) in [
        (needy, "\"storage\": true too"),
        (timed, "runs at its times cannot carry the storage"),
        (ignored, "nothing goes on without the storage"),
    ] {
        let components = json!({"disk": disk, "helper": alone});
        let (code, said) = sprite(&json!({"components": components})).run();
        assert_eq!(code, 78, "{said}");
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn a_reload_does_not_take_the_storage_away() {
    let mut daemon = sprite(&json!({})).start();
    daemon.wait_running();
    let client = daemon.client();
    let before = client.status()["components"]["disk"]["pid"].clone();
    let mut components = json!({"disk": disk(), "helper": helper()});
    components["disk"]["stop_timeout"] = json!("3s");
    for components in [components, json!({})] {
        let config = config(&daemon.sprite, &json!({"components": components}));
        std::fs::write(daemon.sprite.path("config.json"), config.to_string()).unwrap();
        let answer = client.post("/config/reload?wait=60s", &json!({}));
        answer.assert_problem(422, "disk: the storage is on it");
    }
    assert_eq!(client.status()["components"]["disk"]["pid"], before);
    daemon.stop(143);
}
