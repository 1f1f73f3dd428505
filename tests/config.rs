//! Configuration: all spellings, where each value comes from, and what is said of every
//! mistake before anything is started.

use std::process::Command;

use crate::support::{BIN, Sprite, Value, json};

/// `sprite-env config VERB` on a file with this text: exit code, output, error output.
fn config(verb: &[&str], text: &str, variables: &[(&str, &str)]) -> (i32, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.json");
    std::fs::write(&path, text).unwrap();
    let output = Command::new(BIN)
        .arg("config")
        .args(verb)
        .args(["-config", path.to_str().unwrap()])
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap())
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let shown = dir.path().display().to_string();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr).replace(&format!("{shown}/"), ""),
    )
}

#[test]
fn every_mistake_is_named_with_its_place() {
    let mut wrong = Vec::new();
    for (text, expected) in [
        ("{", "c.json:1:1: EOF while parsing an object"),
        ("{}\n x", "c.json:2:2: trailing characters"),
        (
            "[]",
            "c.json:1:1: invalid type: sequence, expected an object of settings",
        ),
        (
            "{\n  \"proces_command\": []\n}",
            "c.json:2:18: proces_command: unknown key \"proces_command\"; did you mean \"process_command\"?",
        ),
        (
            "{\"components\": {\"db\": {\"start_comand\": [\"x\"]}}}",
            "components.db.start_comand: unknown key \"start_comand\"; did you mean \"start_command\"?",
        ),
        (
            "{\"zzz\": 1}",
            "unknown key \"zzz\"; expected $schema, log_level",
        ),
        (
            "{\"process_command\": \"ls -l\"}",
            "process_command: invalid type: string \"ls -l\", expected a sequence",
        ),
        (
            "{\"log_json\": \"yes\"}",
            "log_json: invalid type: string \"yes\", expected a boolean",
        ),
        (
            "{\"log_json\": []}",
            "log_json: invalid type: sequence, expected true or false, or {\"$env\": \"NAME\"}",
        ),
        (
            "{\"process_graceful_shutdown_timeout\": \"30\"}",
            "expected a duration such as \"30s\", \"1m30s\" or \"500ms\"",
        ),
        (
            "{\"process_restart_max_retries\": 300}",
            "process_restart_max_retries: invalid value: integer `300`, expected u8",
        ),
        (
            "{\"s3\": {\"access_key\": {\"$env\": \"NO_SUCH\"}}}",
            "s3.access_key: the environment variable NO_SUCH is not set",
        ),
        (
            "{\"s3\": {\"access_key\": {\"$var\": \"X\"}}}",
            "s3.access_key: unknown key \"$var\"; expected $env, default",
        ),
        (
            "{\"components\": {\"c\": {\"start_command\": [\"x\"], \"on_failure\": \"retry\"}}}",
            "components.c.on_failure: unknown variant `retry`, expected one of `shutdown`, `restart`, `ignore`",
        ),
        (
            "{\"log_level\": \"inof\"}",
            "log_level: \"inof\" is not one of error, warn, info, debug, trace; did you mean \"info\"?",
        ),
        (
            "{\"api_listen_addr\": \"nonsense\"}",
            "api_listen_addr: \"nonsense\" is not host:port, :port or unix:/path",
        ),
        (
            "{\"api_listen_addr\": \":99999\"}",
            "has no port from 0 to 65535",
        ),
        (
            "{\"process_user\": \"no-such-user\"}",
            "process_user: there is no user \"no-such-user\"",
        ),
        (
            "{\"process_environment\": [\"NOVALUE\"]}",
            "process_environment: each entry must be NAME=VALUE",
        ),
        (
            "{\"process_environment\": 3}",
            "expected a list of \"K=V\" or an object",
        ),
        (
            "{\"signal_map\": {\"TREM\": \"QUIT\"}}",
            "signal_map.TREM: \"TREM\" is no signal",
        ),
        (
            "{\"signal_map\": {\"TERM\": \"QUTI\"}}",
            "signal_map.TERM: \"QUTI\" is no signal",
        ),
        (
            "{\"exit_code_map\": {\"x\": 0}}",
            "exit_code_map.x: an exit code is a whole number",
        ),
        (
            "{\"components\": {\"c\": {}}}",
            "components.c.start_command: missing",
        ),
        (
            "{\"components\": {\"c\": {\"start_command\": []}}}",
            "components.c.start_command: must name a program",
        ),
        (
            "{\"components\": {\"a/b\": {\"start_command\": [\"x\"]}}}",
            "components.a/b: a component's name",
        ),
        (
            "{\"components\": {\"cache\": {\"start_command\": [\"x\"]}, \"b\": {\"start_command\": [\"x\"], \"needs\": [\"cahe\"]}}}",
            "components.b.needs: there is no component \"cahe\"; did you mean \"cache\"?",
        ),
        (
            "{\"components\": {\"a\": {\"start_command\": [\"x\"], \"needs\": [\"a\"]}}}",
            "cannot need itself",
        ),
        (
            "{\"components\": {\"a\": {\"start_command\": [\"x\"], \"needs\": [\"b\"]}, \"b\": {\"start_command\": [\"x\"], \"needs\": [\"a\"]}}}",
            "components: these components need each other in a circle: a, b",
        ),
        (
            "{\"components\": {\"a\": {\"start_command\": [\"x\"], \"stop_signal\": \"STP\"}}}",
            "\"STP\" is no signal",
        ),
        (
            "{\"components\": {\"a\": {\"start_command\": [\"x\"], \"backoff\": {\"factor\": 0.5}}}}",
            "backoff.factor: must be 1 or more",
        ),
        (
            "{\"components\": {\"a\": {\"start_command\": [\"x\"], \"backoff\": {\"jitter\": 2}}}}",
            "backoff.jitter: must be from 0 to 1",
        ),
        (
            "{\"components\": {\"a\": {\"start_command\": [\"x\"], \"backoff\": {\"min\": \"1m\"}}}}",
            "backoff.max: must not be less than",
        ),
        (
            "{\"checkpoint\": {\"quiesce\": \"pause\"}}",
            "checkpoint.quiesce: \"pause\" is none of",
        ),
        (
            "{\"s3\": {\"bucket\": \"a\"}, \"s3_bucket\": \"b\"}",
            "s3.bucket: is given twice, also as s3_bucket",
        ),
        (
            "{\"exec\": {\"wrapper_command\": [\"a\"]}, \"exec_wrapper_command\": [\"b\"]}",
            "exec.wrapper_command: is given twice",
        ),
    ] {
        let (code, _, errors) = config(&["check"], text, &[]);
        if code != 78 || !errors.contains(expected) {
            wrong.push(format!("{text}\n  says     {errors}  expected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_bad_file_or_flag_starts_nothing() {
    let (code, text) = Sprite::new()
        .arg("-config")
        .arg("/no/such.json")
        .script("echo RAN")
        .run();
    assert_eq!(code, 78);
    assert!(
        text.contains("cannot read the configuration /no/such.json"),
        "{text}"
    );
    assert!(!text.contains("RAN"));
    let usage: &[&[&str]] = &[
        &["-bogus"],
        &["-graceful-shutdown-timeout", "soon"],
        &["-config"],
        &["-signal-map", "TERM"],
        &["-signal-map", "TERM:QUTI"],
        &["-signal-map", ""],
        &["-exit-code-map", "143:256"],
        &["-exit-code-map", "x:0"],
        &["config", "chekc"],
    ];
    for arguments in usage {
        let output = Command::new(BIN)
            .args(*arguments)
            .args(["--", "echo", "RAN"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty());
    }
    let (code, text) = Sprite::new().run();
    assert_eq!(code, 64);
    assert!(text.contains("there is nothing to run"), "{text}");
    let (code, text) = Sprite::new()
        .arg("-listen")
        .arg("127.0.0.1:0")
        .script("echo RAN")
        .run();
    assert_eq!(code, 64);
    assert!(
        text.contains("SPRITE_HTTP_API_TOKEN is not set") && !text.contains("RAN"),
        "{text}"
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let sprite = Sprite::new()
        .arg("-listen")
        .arg(&address)
        .script("echo RAN");
    let (code, text) = sprite.env("SPRITE_HTTP_API_TOKEN", "x").run();
    assert_eq!(code, 69);
    assert!(
        text.contains("cannot listen at") && !text.contains("RAN\n"),
        "{text}"
    );
}

fn printed(text: &str, variables: &[(&str, &str)]) -> Value {
    let (code, out, errors) = config(&["print", "--json"], text, variables);
    assert_eq!(code, 0, "{errors}");
    serde_json::from_str(&out).unwrap()
}

#[test]
fn both_spellings_mean_the_same() {
    let nested = json!({
        "s3": {"access_key": "AK", "secret_key": "SK", "endpoint": "http://e", "bucket": "b", "region": "r"},
        "exec": {"wrapper_command": ["w"], "tty_wrapper_command": ["t"]},
    });
    let flat = json!({
        "s3_access_key": "AK", "s3_secret_access_key": "SK", "s3_endpoint_url": "http://e",
        "s3_bucket": "b", "s3_region": "r",
        "exec_wrapper_command": ["w"], "exec_tty_wrapper_command": ["t"],
    });
    let nested = printed(&nested.to_string(), &[]);
    assert_eq!(nested, printed(&flat.to_string(), &[]));
    assert_eq!(nested["s3.bucket"]["value"], "b");
    assert_eq!(nested["exec.wrapper_command"]["value"], json!(["w"]));
}

#[test]
fn secrets_are_masked_and_origins_are_told() {
    let text = json!({
        "s3": {
            "access_key": {"$env": "MY_KEY"},
            "secret_key": "in-the-file",
            "bucket": {"$env": "NO_SUCH", "default": "fallback"},
        },
        "api_listen_addr": ":0",
        "process_environment": {"PASSWORD": "hidden"},
    });
    let variables = [
        ("MY_KEY", "from-env"),
        ("SPRITE_HTTP_API_TOKEN", "the-token"),
        ("SPRITE_S3_BUCKET", "from-variable"),
        ("SPRITE_WRITE_DIR", "/data"),
    ];
    let (code, out, _) = config(&["print"], &text.to_string(), &variables);
    assert_eq!(code, 0);
    for secret in ["from-env", "in-the-file", "the-token", "hidden"] {
        assert!(!out.contains(secret), "{secret} in {out}");
    }
    let printed = printed(&text.to_string(), &variables);
    let origin = |key: &str| printed[key]["origin"].as_str().unwrap();
    assert_eq!(origin("s3.access_key"), "file, from $MY_KEY");
    assert_eq!(origin("s3.secret_key"), "file");
    // The environment wins over the file.
    assert_eq!(printed["s3.bucket"]["value"], "from-variable");
    assert_eq!(origin("s3.bucket"), "environment $SPRITE_S3_BUCKET");
    assert_eq!(origin("s3.region"), "default");
    assert_eq!(origin("api_listen_addr"), "file");
    assert_eq!(printed["storage.dir"]["value"], "/data/fs");
}

#[test]
fn flags_win_over_environment_and_file() {
    let sprite = Sprite::new().config(&json!({
        "process_command": ["sh", "-c", "exit 1"],
        "process_graceful_shutdown_timeout": "1s",
    }));
    let (code, _) = sprite.script("exit 2").run();
    assert_eq!(code, 2);
    let sprite = Sprite::new().config(&json!({"process_command": ["sh", "-c", "exit 1"]}));
    assert_eq!(sprite.run().0, 1);
}

#[test]
fn the_schema_knows_every_key_and_takes_the_example() {
    let output = Command::new(BIN)
        .args(["config", "schema"])
        .output()
        .unwrap();
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    let example = include_str!("../config.example.json");
    let example: Value = serde_json::from_str(example).unwrap();
    for key in example.as_object().unwrap().keys() {
        let property = &schema["properties"][key];
        assert!(property["description"].is_string(), "{key}: {property}");
    }
}

#[test]
fn the_example_can_be_used_with_a_bucket() {
    let (code, text) = Sprite::new()
        .storage()
        .env("SPRITE_S3_BUCKET", "bucket")
        .env("SPRITE_S3_ACCESS_KEY", "key")
        .env("SPRITE_S3_SECRET_ACCESS_KEY", "secret")
        .env("SPRITE_HTTP_API_TOKEN", "token")
        .arg("config")
        .arg("check")
        .arg("--config")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/config.example.json"))
        .run();
    assert_eq!(code, 0, "{text}");
}

#[test]
fn components_are_found_in_a_directory() {
    let sprite = Sprite::new();
    let make = |name: &str, text: &str, mode: u32| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = sprite.path(&format!("components/{name}"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    make(
        "db/start.sh",
        "echo from the directory; exec sleep 1000",
        0o755,
    );
    make(
        "db/ready",
        "read line && test \"$line\" = 'from the directory'",
        0o755,
    );
    // A program in the directory wins over the file; the rest of the file counts.
    let config = json!({"components": {"db": {
        "start_command": ["sh", "-c", "echo from the file; exec sleep 1000"],
        "ready_timeout": "20s", "environment": {"X": "1"},
    }}});
    let sprite = sprite
        .config(&config)
        .arg("-components-dir")
        .arg("components");
    let (code, text) = sprite.script("echo main ran").run();
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("[db] from the directory") && text.contains("main ran"),
        "{text}"
    );

    let refused = |needle: &str, make: &dyn Fn(&Sprite)| {
        let sprite = Sprite::new();
        std::fs::create_dir_all(sprite.path("components/x")).unwrap();
        make(&sprite);
        let sprite = sprite
            .arg("-components-dir")
            .arg("components")
            .script("echo RAN");
        let (code, text) = sprite.run();
        assert_eq!(code, 78, "{text}");
        assert!(text.contains(needle) && !text.contains("RAN"), "{text}");
    };
    refused("has no program named \"start\"", &|_| {});
    refused("is not executable", &|s| {
        std::fs::write(s.path("components/x/start"), "").unwrap();
    });
    refused("has both", &|s| {
        for name in ["start", "start.sh"] {
            std::fs::write(s.path("components/x").join(name), "").unwrap();
        }
    });
    refused("cannot read the configuration components", &|s| {
        std::fs::remove_dir_all(s.path("components")).unwrap();
    });
}
