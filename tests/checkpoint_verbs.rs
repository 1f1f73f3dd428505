//! `sprite-env checkpoints …` does what the API does.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Output;

use crate::support::unprivileged::unprivileged;
use crate::support::verbs::{verb, verb_at};
use crate::support::{Sprite, Value, json, store, trees};

/// What it printed; it went well.
fn printed(output: &Output) -> String {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What it complained of, and its exit code.
fn refused(output: &Output) -> (i32, String) {
    let complaint = String::from_utf8(output.stderr.clone()).unwrap();
    (output.status.code().unwrap(), complaint)
}

#[test]
fn everything_can_be_done_on_the_command_line() {
    let daemon = Sprite::new().storage().idle();
    let at = |name: &str| daemon.sprite.fs().join(name);
    fs::create_dir(at("dir")).unwrap();
    fs::write(at("dir/file"), "one\n").unwrap();
    fs::write(at("noise"), trees::noise(&mut fastrand::Rng::new(), 50_000)).unwrap();
    let text = printed(&verb(&daemon, &["create", "--comment", "the first"]));
    assert!(
        text.contains("Checkpoint v0 created successfully"),
        "{text}"
    );
    fs::write(at("dir/file"), "two\n").unwrap();
    fs::write(at("more"), "x").unwrap();
    let text = printed(&verb(&daemon, &["create", "--json"]));
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["checkpoint_id"], "v1");

    let text = printed(&verb(&daemon, &["list"]));
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("v1 ") && lines[0].ends_with("sealed"),
        "{text}"
    );
    assert!(
        lines[1].starts_with("v0 ") && lines[1].ends_with("the first"),
        "{text}"
    );
    let info = printed(&verb(&daemon, &["info", "v1"]));
    assert!(info.contains("history:     v0"), "{info}");
    let diff = printed(&verb(&daemon, &["diff", "v0", "v1"]));
    assert!(
        diff.contains("M dir/file\n") && diff.contains("+ more\n"),
        "{diff}"
    );
    let listed = printed(&verb(&daemon, &["ls", "v0", "dir"]));
    assert!(
        listed.starts_with("file ") && listed.ends_with(" file\n"),
        "{listed}"
    );
    assert_eq!(printed(&verb(&daemon, &["cat", "v0", "dir/file"])), "one\n");

    let text = printed(&verb(&daemon, &["restore", "v0"]));
    assert!(text.contains("Restore from v0 complete"), "{text}");
    assert_eq!(fs::read_to_string(at("dir/file")).unwrap(), "one\n");
    assert!(printed(&verb(&daemon, &["list", "--all"])).contains("auto-"));
    printed(&verb(&daemon, &["delete", "v1"]));
    let left: Value = serde_json::from_str(&printed(&verb(&daemon, &["list", "--json"]))).unwrap();
    assert_eq!(left.as_array().unwrap().len(), 1);
    let text = printed(&verb(&daemon, &["verify", "--read-data"]));
    assert!(text.ends_with("all whole\n"), "{text}");

    for pack in store::packs(&daemon.sprite) {
        store::damage(&pack);
    }
    let output = verb(&daemon, &["verify", "--read-data"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("NOT WHOLE") && text.contains("v0: "),
        "{text}"
    );
}

#[test]
fn what_is_refused_is_told_with_the_reason() {
    let daemon = Sprite::new().storage().idle();
    fs::create_dir(daemon.sprite.fs().join("dir")).unwrap();
    fs::write(daemon.sprite.fs().join("file"), "x").unwrap();
    assert_eq!(daemon.client().checkpoint(), "v0");
    for (words, why) in [
        (&["info", "v9"][..], "there is no checkpoint \"v9\""),
        (&["restore", "../v0"], "there is no checkpoint"),
        (&["cat", "v0", "dir"], "that is no file; ls lists it"),
        (&["ls", "v0", "file"], "that is a file; cat writes"),
        (&["cat", "v0", "nothing"], "has nothing at \"nothing\""),
        (&["create", "--wait", "durable"], "there is no bucket"),
    ] {
        let (code, complaint) = refused(&verb(&daemon, words));
        assert_eq!(code, 1, "{complaint}");
        assert!(complaint.contains(why), "{words:?}: {complaint}");
    }
    let (code, complaint) = refused(&verb(&daemon, &["create", "--wait", "soon"]));
    assert_eq!(code, 64, "{complaint}");
    let (code, complaint) = refused(&verb_at("nowhere", &["list"]));
    assert_eq!(code, 64, "{complaint}");
    assert!(
        complaint.contains("\"nowhere\" is no address"),
        "{complaint}"
    );
    let (code, complaint) = refused(&verb_at("http://127.0.0.1:1", &["list"]));
    assert_eq!(code, 69, "{complaint}");
    assert!(
        complaint.contains("--server or SPRITE_SERVER"),
        "{complaint}"
    );
    assert!(complaint.contains("refused"), "{complaint}");
}

#[test]
fn a_failed_operation_fails_the_command() {
    let config = json!({"components": {"db": {
        "start_command": ["sleep", "1000"],
        "checkpoint_command": ["sh", "-c", "echo no >&2; exit 3"],
    }}});
    let daemon = Sprite::new().storage().config(&config).idle();
    let (code, complaint) = refused(&verb(&daemon, &["create"]));
    assert_eq!(code, 1);
    assert!(complaint.contains("db"), "{complaint}");
}

#[test]
fn it_works_over_a_unix_socket() {
    let sprite = Sprite::new().storage();
    let socket = format!("unix:{}", sprite.path("api.sock").display());
    let daemon = sprite.arg("-listen").arg(&socket);
    let daemon = daemon.command(&["sleep", "1000"]).start();
    daemon.wait_running();
    printed(&verb_at(&socket, &["create"]));
    assert!(printed(&verb_at(&socket, &["list"])).starts_with("v0 "));
    // One that does not ask for a stream may be about to end with the environment.
    fs::write(daemon.sprite.fs().join("new"), "").unwrap();
    let accepted = ask(
        &daemon.sprite.path("api.sock"),
        "POST /v1/checkpoints/v0/restore",
    );
    assert!(accepted.starts_with("HTTP/1.1 202 "), "{accepted}");
    assert!(accepted.contains(r#""status":"accepted""#), "{accepted}");
    assert!(accepted.contains(r#""checkpoint_id":"v0""#), "{accepted}");
    daemon.wait_for("Restore from v0 complete");
    assert!(!daemon.sprite.fs().join("new").exists());
    let unknown = ask(
        &daemon.sprite.path("api.sock"),
        "POST /v1/checkpoints/v9/restore",
    );
    assert!(unknown.starts_with("HTTP/1.1 404 "), "{unknown}");
    // The command line does.
    let told = printed(&verb_at(&socket, &["restore", "v0"]));
    assert!(told.contains("Restore from v0 complete"), "{told}");
}

/// What is answered on a unix socket.
fn ask(path: &Path, request: &str) -> String {
    let mut socket = UnixStream::connect(path).unwrap();
    let head = "HTTP/1.1\r\nHost: sprite\r\nConnection: close\r\nContent-Length: 0";
    write!(socket, "{request} {head}\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn what_could_not_be_read_shows_in_the_exit_code() {
    use std::os::unix::fs::PermissionsExt as _;
    let sprite = unprivileged(Sprite::new().storage());
    let daemon = sprite.idle();
    let file = daemon.sprite.fs().join("file");
    fs::write(&file, "x").unwrap();
    let socket = daemon.sprite.fs().join("socket");
    let _socket = std::os::unix::net::UnixListener::bind(socket).unwrap();
    let output = verb(&daemon, &["create"]);
    // A socket has nothing that could be read.
    assert_eq!(output.status.code(), Some(0));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o0)).unwrap();
    let output = verb(&daemon, &["create"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(
        told.contains("Not captured: file: it may not be read"),
        "{told}"
    );
    let client = daemon.client();
    let [whole, not] = ["v0", "v1"].map(|id| client.get(&format!("/checkpoints/{id}")).json());
    assert_eq!(whole["skipped"].as_array().unwrap().len(), 1, "{whole}");
    assert_eq!(whole["incomplete"], Value::Null);
    let skipped = not["skipped"].as_array().unwrap();
    assert!(
        skipped.contains(&json!("file: it may not be read")),
        "{not}"
    );
    assert_eq!(not["incomplete"], true);
    let listed = client.get("/checkpoints").json();
    assert_eq!(listed[0]["incomplete"], true, "{listed}");
    assert!(printed(&verb(&daemon, &["info", "v1"])).contains("file: it may not be read"));
}
