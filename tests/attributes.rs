//! What the main process and components may do and use is as configured.

use crate::support::{Sprite, is_root, json, pid_namespaces, skipped};

/// What the main process prints, run with these attributes.
fn with(attributes: &serde_json::Value, script: &str) -> String {
    let config = json!({"process_attributes": attributes});
    let (code, text) = Sprite::new().config(&config).script(script).run();
    assert_eq!(code, 0, "{text}");
    text
}

#[test]
fn umask_nice_and_limits() {
    let attributes = json!({
        "umask": "027", "nice": 7, "oom_score_adj": 500, "no_new_privs": true,
        "rlimits": {"nofile": "64:128", "core": "0"},
    });
    let script = "echo is $(umask) $(nice) $(ulimit -Sn) $(ulimit -Hn) $(ulimit -c) \
                  $(cat /proc/self/oom_score_adj) $(grep NoNewPrivs /proc/self/status)";
    let text = with(&attributes, script);
    assert!(
        text.contains("is 0027 7 64 128 0 500 NoNewPrivs: 1"),
        "{text}"
    );
}

#[test]
fn a_component_and_commands_have_them_too() {
    let config = json!({
        "process_attributes": {"umask": "077"},
        "components": {"c": {
            "attributes": {"umask": "007", "nice": 3},
            "start_command": ["sh", "-c", "umask >c.umask; nice >c.nice; exec sleep 1000"],
            "ready": {"command": ["sh", "-c", "umask >ready.umask; test -s c.nice"]},
        }},
    });
    let daemon = Sprite::new().config(&config).idle();
    let read = |name: &str| std::fs::read_to_string(daemon.sprite.path(name)).unwrap();
    assert_eq!(
        (read("c.umask").as_str(), read("c.nice").as_str()),
        ("0007\n", "3\n")
    );
    assert_eq!(read("ready.umask"), "0007\n");
    assert_eq!(daemon.client().sh("umask").stdout, "0077\n");
}

#[test]
fn capabilities_that_are_not_kept_are_gone_for_good() {
    if !is_root() {
        return skipped("needs root, to have capabilities at all");
    }
    let show = "grep -E '^Cap(Prm|Eff|Bnd|Amb)' /proc/self/status | tr -s '\\t\\n' '  '";
    let text = with(&json!({"capabilities": []}), show);
    let none = "CapPrm: 0000000000000000 CapEff: 0000000000000000 CapBnd: 0000000000000000";
    assert!(text.contains(none), "{text}");
    let text = with(
        &json!({"capabilities": ["NET_BIND_SERVICE", "cap_chown"]}),
        show,
    );
    let two = "0000000000000401";
    let wanted = format!("CapPrm: {two} CapEff: {two} CapBnd: {two} CapAmb: {two}");
    assert!(text.contains(&wanted), "{text}");
    // Another user keeps what is to be kept.
    let config = json!({"process_user": "nobody",
                        "process_attributes": {"capabilities": ["NET_BIND_SERVICE"]}});
    let (code, text) = Sprite::new().config(&config).script(show).run();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("CapEff: 0000000000000400"), "{text}");
}

#[test]
fn groups_are_those_that_are_named() {
    if !is_root() {
        return skipped("needs root, to set groups");
    }
    let config = json!({"process_user": "nobody",
                        "process_attributes": {"groups": ["daemon", "4711"]}});
    let (code, text) = Sprite::new()
        .config(&config)
        .script("echo groups: $(id -G)")
        .run();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("groups: 65534 1 4711"), "{text}");
}

#[test]
fn the_environment_is_inherited_in_part_and_read_from_a_file() {
    let sprite = Sprite::new();
    std::fs::write(
        sprite.path("file.env"),
        "# what it is for\nFROM_FILE=\"two words\"\nexport BOTH=file\n",
    )
    .unwrap();
    let path = sprite.path("file.env");
    let config = json!({
        "process_environment": {"BOTH": "configuration"},
        "process_attributes": {
            "env_file": path, "env_allow": ["PATH", "KEEP_*"], "env_deny": ["KEEP_NOT"],
        },
    });
    let sprite = sprite
        .config(&config)
        .env("KEEP_THIS", "1")
        .env("KEEP_NOT", "1")
        .env("OTHER", "1");
    let (code, text) = sprite.command(&["env"]).run();
    assert_eq!(code, 0, "{text}");
    let has = |line: &str| text.lines().any(|found| found == line);
    assert!(
        has("FROM_FILE=two words") && has("BOTH=configuration") && has("KEEP_THIS=1"),
        "{text}"
    );
    assert!(
        !has("KEEP_NOT=1") && !has("OTHER=1") && !text.contains("HOME="),
        "{text}"
    );
}

#[test]
fn the_init_of_a_container_is_the_last_to_be_killed_for_memory() {
    if !pid_namespaces() {
        return;
    }
    let before = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let daemon = Sprite::new().pid_1().idle();
    let said = daemon
        .client()
        .sh("cat /proc/1/oom_score_adj /proc/self/oom_score_adj")
        .stdout;
    if !said.starts_with("-1000\n") {
        return skipped("needs the capability SYS_RESOURCE");
    }
    assert_eq!(said, format!("-1000\n{before}"));
}

#[test]
fn attributes_that_cannot_be_are_refused() {
    for (attributes, why) in [
        (json!({"umask": "888"}), "is no umask"),
        (json!({"umask": "1777"}), "is no umask"),
        (json!({"nice": 20}), "must be from -20 to 19"),
        (
            json!({"oom_score_adj": -1001}),
            "must be from -1000 to 1000",
        ),
        (
            json!({"rlimits": {"files": "1"}}),
            "no such limit; there are as, core",
        ),
        (json!({"rlimits": {"nofile": "2:1"}}), "is no limit"),
        (
            json!({"capabilities": ["NET"]}),
            "there is no capability \"NET\"",
        ),
        (json!({"groups": ["no-such-group"]}), "there is no group"),
        (
            json!({"env_file": "/no/such/file"}),
            "cannot read /no/such/file",
        ),
        (json!({"umaks": "022"}), "did you mean"),
    ] {
        let config = json!({"process_attributes": attributes});
        let (code, text) = Sprite::new().config(&config).script("exit 0").run();
        assert_eq!(code, 78, "{attributes}: {text}");
        assert!(text.contains(why), "{attributes}: {text}");
    }
    let sprite = Sprite::new();
    let file = sprite.path("file.env");
    std::fs::write(&file, "a secret that is no line\n").unwrap();
    let config = json!({"process_attributes": {"env_file": file}});
    let (code, text) = sprite.config(&config).script("exit 0").run();
    assert_eq!(code, 78, "{text}");
    assert!(!text.contains("secret"), "{text}");
}
