//! Reloads that are refused, or that something else comes between.

use crate::reload::{actions, config, pids, reload, start, write};
use crate::support::{Sprite, json, wait_for_file_to_exist, wait_for_text};

#[test]
fn a_configuration_that_is_wrong_changes_nothing() {
    let mut daemon = start(&config());
    let before = (
        pids(&daemon, &["db", "old", "web"]),
        daemon.client().status(),
    );
    let client = daemon.client();
    let mut misspelt = config();
    misspelt["components"]["db"]["restart"] = json!(true);
    let mut circle = config();
    circle["components"]["db"]["needs"] = json!(["web"]);
    let mut nothing = config();
    nothing.as_object_mut().unwrap().remove("process_command");
    let mut taken = config();
    taken["components"]["db"]["listen"] = json!(["127.0.0.1:0"]);
    let mut limited = config();
    limited["components"]["db"]["limits"] = json!({"pids": 50});
    for (wrong, why) in [
        (limited.to_string(), "start of sprite-env"),
        (misspelt.to_string(), "restart"),
        (circle.to_string(), "circle"),
        (nothing.to_string(), "no process_command"),
        (taken.to_string(), "start it again"),
        ("{\"process_command\": [".to_owned(), "config.json:1:"),
    ] {
        std::fs::write(daemon.sprite.path("config.json"), wrong).unwrap();
        let answer = client.post("/config/reload?wait=60s", &json!({}));
        answer.assert_problem(422, why);
    }
    for (query, why) in [
        ("dryrun=1", "unknown field"),
        ("dry_run=maybe", "neither 1 nor 0"),
        ("wait=soon", "wait"),
    ] {
        let answer = client.post(&format!("/config/reload?{query}"), &json!({}));
        answer.assert_problem(400, why);
    }
    std::fs::remove_file(daemon.sprite.path("config.json")).unwrap();
    let answer = client.post("/config/reload", &json!({}));
    answer.assert_problem(422, "cannot read the configuration");
    let now = daemon.client().status();
    assert_eq!(pids(&daemon, &["db", "old", "web"]), before.0);
    assert_eq!(now["state"], before.1["state"]);
    // What is as it was is nothing to do, and the token is still known.
    write(&daemon.sprite, &config());
    let done = reload(&daemon, "wait=60s");
    assert!(actions(&done).values().all(|action| action == "unchanged"));
    assert_eq!(done["changes"]["not_taken_over"], json!([]));
    daemon.stop(143);
}

#[test]
fn what_cannot_reload_is_refused_at_once() {
    let sprite = Sprite::new().command(&["true"]).arg("-signal-map");
    let (code, said) = sprite.arg("TERM:reload").run();
    assert_eq!(code, 64);
    assert!(said.contains("take another, such as HUP"), "{said}");
}

#[test]
fn one_that_is_started_again_while_it_is_to_go_goes_in_the_end() {
    let slow = |what: &str| {
        let script = format!(
            "echo {what} >>starts; trap 'sleep 0.3; exit 0' TERM; while :; do sleep 0.02; done"
        );
        json!({"start_command": ["sh", "-c", script]})
    };
    let mut two = config();
    two["components"]["db"] = slow("db-one");
    let mut daemon = start(&two);
    two["components"]["db"] = slow("db-two");
    write(&daemon.sprite, &two);
    let client = daemon.client();
    let answer = std::thread::scope(|scope| {
        let reloading = scope.spawn(|| reload(&daemon, "wait=60s"));
        client.wait_status(|status| {
            let state = status["components"]["db"]["state"].as_str().unwrap();
            state.starts_with("Stopping") || status["components"]["db"]["starts"] == 2
        });
        client.post("/components/db/restart", &json!({}));
        reloading.join().unwrap()
    });
    assert_eq!(actions(&answer)["db"], "restarted");
    // It has said so only once it runs.
    let starts = daemon.sprite.path("starts");
    wait_for_text(&starts, |text| text.ends_with("db-two\n"));
    reload(&daemon, "wait=60s");
    daemon.stop(143);
}

#[test]
fn nobody_waits_for_what_is_not_needed_any_more() {
    let mut daemon = start(&config());
    let client = daemon.client();
    client.post("/components/db/stop?wait=60s", &json!({}));
    client.post("/components/web/restart", &json!({}));
    client.wait_component("web", "Waiting");
    let mut new = config();
    new["components"]["web"]["needs"] = json!([]);
    write(&daemon.sprite, &new);
    assert_eq!(actions(&reload(&daemon, ""))["web"], "adjusted");
    client.wait_component("web", "Up > Ready");
    daemon.stop(143);
}

#[test]
fn nothing_is_reloaded_while_something_else_is_under_way() {
    let mut stubborn = config();
    stubborn["process_command"] = json!([
        "sh",
        "-c",
        "trap : TERM; echo ready; while :; do sleep 0.02; done"
    ]);
    stubborn["signal_map"] = json!({"HUP": "reload"});
    let mut daemon = start(&stubborn);
    daemon.wait_for("ready");
    let client = daemon.client();
    client.post("/process/stop", &json!({}));
    let refused = client.post("/config/reload", &json!({}));
    refused.assert_problem(409, "the system is Online > Halting > Parking");
    // A signal's waits until it is possible.
    stubborn["components"]
        .as_object_mut()
        .unwrap()
        .remove("old");
    write(&daemon.sprite, &stubborn);
    daemon.signal(libc::SIGHUP);
    client.post("/process/signal", &json!({"signal": "KILL"}));
    daemon.wait_for("the configuration is reloaded: old removed");
    assert_eq!(client.status()["state"], "Online > Parked");
    daemon.stop(137);
}

#[test]
fn what_is_refused_cuts_off_nobody() {
    let mut own = config();
    own["components"]["db"] = json!({"start_command": ["python3", "-c",
        "import socket; s = socket.socket(socket.AF_UNIX); s.bind('own.socket'); s.listen()\n\
         while True: s.accept()[0].sendall(b'here')"]});
    let mut daemon = start(&own);
    let path = daemon.sprite.path("own.socket");
    wait_for_file_to_exist(&path);
    own["components"]["db"]["listen"] = json!(["unix:own.socket"]);
    own["components"]["db"]["limits"] = json!({"pids": 50});
    write(&daemon.sprite, &own);
    for query in ["", "dry_run=1"] {
        let path = format!("/config/reload?{query}");
        let answer = daemon.client().post(&path, &json!({}));
        answer.assert_problem(422, "start");
    }
    let client = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let mut said = [0; 4];
    std::io::Read::read_exact(&mut &client, &mut said).unwrap();
    assert_eq!(&said, b"here");
    daemon.stop(143);
}

#[test]
fn a_stop_that_takes_longer_than_the_wait_is_told() {
    let mut slow = config();
    slow["components"]["old"] = json!({"start_command": ["sh", "-c",
        "trap 'until test -e go; do sleep 0.02; done; exit 0' TERM; echo trapped; \
         while :; do sleep 0.02; done"]});
    let mut daemon = start(&slow);
    daemon.wait_for("trapped");
    slow["components"].as_object_mut().unwrap().remove("old");
    write(&daemon.sprite, &slow);
    let client = daemon.client();
    let late = client.post("/config/reload?wait=1ms", &json!({}));
    late.assert_problem(504, "the reload goes on");
    let again = client.post("/config/reload", &json!({}));
    again.assert_problem(409, "being reloaded already");
    std::fs::write(daemon.sprite.path("go"), "").unwrap();
    client.wait_status(|status| status["components"].get("old").is_none());
    daemon.stop(143);
}
