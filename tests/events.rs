//! What the machines do can be watched as it happens, and had as a journal at any time.

use std::fs;
use std::process::Command;

use crate::support::http::Client;
use crate::support::juicefs::reconfigure;
use crate::support::{BIN, Sprite, Value, json};

/// The next event of a stream: its id, its name, its data.
fn next(lines: &mut impl Iterator<Item = String>) -> (u64, String, Value) {
    let (mut id, mut name, mut data) = (0, String::new(), Value::Null);
    for line in lines {
        match line.split_once(": ").or_else(|| line.split_once(':')) {
            Some(("id", value)) => id = value.parse().unwrap(),
            Some(("event", value)) => value.clone_into(&mut name),
            Some(("data", value)) => data = serde_json::from_str(value).unwrap(),
            // Comments keep the connection alive; an empty line ends the event.
            Some(("", _)) => {}
            None if !name.is_empty() => return (id, name, data),
            other => panic!("{other:?} in {line:?}"),
        }
    }
    panic!("the stream ended");
}

fn follow(client: &Client, last: &str) -> impl Iterator<Item = String> + use<> {
    client.stream("GET", "/events", &[("last-event-id", last)], b"")
}

#[test]
fn machines_of_another_configuration_are_told_of() {
    let config = json!({"process_command": ["sleep", "1000"]});
    let daemon = Sprite::new().config(&config).api().start();
    daemon.wait_running();
    let client = daemon.client();
    let mut events = follow(&client, "0");
    reconfigure(&daemon.sprite, |config| {
        config["components"] = json!({"other": {"start_command": ["sleep", "1000"]}});
    });
    let reloaded = client.post("/config/reload", &json!({}));
    assert_eq!(reloaded.status, 200, "{}", reloaded.text);
    let anew = std::iter::from_fn(|| Some(next(&mut events))).find(|it| it.1 == "anew");
    let after = anew.unwrap().2["after"].as_u64().unwrap();
    assert_eq!(client.get("/journal").lines()[0]["after"], after);
    let (number, name, step) = next(&mut events);
    assert_eq!((number, name.as_str()), (after + 1, "step"), "{step}");
}

#[test]
fn steps_are_streamed_from_where_a_client_left_off() {
    let mut daemon = Sprite::new().idle();
    let client = daemon.client();
    let mut events = follow(&client, "0");
    let (id, name, first) = next(&mut events);
    assert_eq!((id, name.as_str()), (1, "step"));
    assert_eq!(first["input"]["System"], "Boot");
    let (id, _, second) = next(&mut events);
    assert_eq!(id, 2);
    assert_eq!(second["input"]["Process"], "Launched");
    assert_eq!(second["steps"][1]["to"], "Running");
    // Another client leaves off after the first and goes on with the second.
    let mut again = follow(&client, "1");
    assert_eq!(next(&mut again).2, second);
    // What happens now comes now.
    let refused = client.request("POST", "/process/start", b"");
    assert_eq!(refused.status, 409);
    for stream in [&mut events as &mut dyn Iterator<Item = String>, &mut again] {
        let (id, _, step) = next(&mut { stream });
        assert_eq!(id, 3);
        assert_eq!(step["input"]["System"], "StartProcess");
    }
    // A number of an earlier run of the daemon: everything is new.
    assert_eq!(next(&mut follow(&client, "900")).0, 1);
    for bad in ["one", "-1", "1.5"] {
        let headers = [
            ("last-event-id", bad),
            ("authorization", "Bearer test-token"),
        ];
        let answer = client.send("GET", "/events", &headers, b"");
        answer.assert_problem(400, "Last-Event-ID must be the number of a step");
    }
    daemon.stop(143);
}

#[test]
fn a_client_that_was_away_too_long_is_told_what_it_missed() {
    let mut daemon = Sprite::new().idle();
    let client = daemon.client();
    // Each refused request is a step.
    for _ in 0..2_000 {
        client.request("POST", "/process/start", b"");
    }
    let mut events = follow(&client, "1");
    let (_, name, gap) = next(&mut events);
    assert_eq!((name.as_str(), &gap["first"]), ("gap", &Value::from(2)));
    let (id, _, _) = next(&mut events);
    assert_eq!(gap["last"], id - 1);
    daemon.stop(143);
}

#[test]
fn the_last_steps_can_be_had_as_a_journal_that_replays() {
    let mut daemon = Sprite::new().idle();
    let client = daemon.client();
    for _ in 0..2_000 {
        client.request("POST", "/process/start", b"");
    }
    let journal = client.get("/journal");
    assert_eq!(
        (journal.status, journal.kind.as_str()),
        (200, "application/x-ndjson")
    );
    assert!(journal.text.len() < 400_000, "{}", journal.text.len());
    let path = daemon.sprite.path("had");
    fs::write(&path, journal.text).unwrap();
    let output = Command::new(BIN).arg("replay").arg(&path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("no divergence, ends Online > Serving > Running"),
        "{text}"
    );
    daemon.stop(143);
}
