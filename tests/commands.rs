//! Every example line of the README runs as written.

use std::os::unix::fs::symlink;
use std::process::Command;

use crate::support::{BIN, SPRITECTL, Sprite, TOKEN, json};

/// A directory with `sprite-env`, `spritectl` and the programs that the examples name.
fn shell(script: &str, variables: &[(&str, &str)]) -> (i32, String) {
    let sprite = Sprite::new();
    let bin = sprite.path("bin");
    std::fs::create_dir_all(sprite.path("components/db")).unwrap();
    std::fs::create_dir(&bin).unwrap();
    symlink(BIN, bin.join("sprite-env")).unwrap();
    symlink(BIN, sprite.path("sprite-env")).unwrap();
    symlink(SPRITECTL, bin.join("spritectl")).unwrap();
    let program = |path: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = sprite.path(path);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    for name in [
        "bin/node",
        "bin/python",
        "bin/myapp",
        "my-app",
        "problematic-app",
    ] {
        program(name, &format!("echo ran {name} \"$@\""));
    }
    program("components/db/start.sh", "exec sleep 1000");
    let config = json!({"process_command": ["myapp", "from config"]});
    for name in ["config.json", "c.json"] {
        std::fs::write(sprite.path(name), config.to_string()).unwrap();
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let output = Command::new("sh")
        .args(["-c", script])
        .current_dir(sprite.dir.path())
        .env("PATH", path)
        .env("SPRITE_HTTP_API_TOKEN", TOKEN)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(text).unwrap(),
    )
}

#[test]
fn example_lines_run_as_written() {
    for (line, ran) in [
        ("spritectl -- node app.js", "ran bin/node app.js"),
        ("spritectl -debug -- ./my-app", "ran my-app"),
        ("SPRITE_LOCAL_MODE=true spritectl -- ./my-app", "ran my-app"),
        (
            "./sprite-env -config config.json",
            "ran bin/myapp from config",
        ),
        (
            "./sprite-env --config config.json",
            "ran bin/myapp from config",
        ),
        (
            "./sprite-env -config config.json -components-dir ./components -- myapp",
            "ran bin/myapp",
        ),
        (
            "sprite-env -config c.json -components-dir ./components -- myapp",
            "ran bin/myapp",
        ),
        (
            "spritectl -log-json -graceful-shutdown-timeout 5s -juicefs-dir ./data -- ./my-app",
            "ran my-app",
        ),
    ] {
        let (code, text) = shell(line, &[]);
        assert_eq!(code, 0, "{line}: {text}");
        assert!(text.lines().any(|l| l.trim_end() == ran), "{line}: {text}");
    }
}

// These name a port, so they are run one after the other.
#[test]
fn example_lines_with_a_port_run_as_written() {
    for (line, ran) in [
        (
            "spritectl -listen :8080 -- python server.py",
            "ran bin/python server.py",
        ),
        (
            "./sprite-env -components-dir ./components -listen :8080 -- ./my-app",
            "ran my-app",
        ),
    ] {
        if std::net::TcpListener::bind("0.0.0.0:8080").is_err() {
            crate::support::skipped("port 8080 is in use here");
            return;
        }
        let (code, text) = shell(line, &[]);
        assert_eq!(code, 0, "{line}: {text}");
        assert!(text.lines().any(|l| l.trim_end() == ran), "{line}: {text}");
    }
}

#[test]
fn keep_alive_keeps_alive() {
    let line = "printf '#!/bin/sh\\nexit 5\\n' >problematic-app; \
                SPRITE_KEEP_ALIVE_ON_ERROR=true spritectl -- ./problematic-app 2>log & \
                until grep -q Parked log; do sleep 0.01; done; kill $!; wait $!";
    let (code, text) = shell(line, &[]);
    assert_eq!(code, 5, "{text}");
}

#[test]
fn versions_and_help() {
    for program in [BIN, SPRITECTL] {
        for flag in ["-version", "--version", "-V"] {
            let output = Command::new(program).arg(flag).output().unwrap();
            assert!(output.status.success());
            assert!(output.stdout.starts_with(b"sprite-env "), "{output:?}");
        }
        let output = Command::new(program).arg("-help").output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        for flag in [
            "config",
            "components-dir",
            "listen",
            "debug",
            "log-json",
            "graceful-shutdown-timeout",
            "juicefs-dir",
            "subreaper",
        ] {
            assert!(help.contains(&format!("--{flag}")), "{flag}: {help}");
        }
    }
}

#[test]
fn the_readmes_configuration_is_accepted() {
    let config = json!({
        "log_level": "info",
        "api_listen_addr": ":0",
        "process_command": ["sh", "-c", "exit 0"],
        "process_graceful_shutdown_timeout": "30s",
        "components": {"db": {"start_command": ["sleep", "1000"], "ready_command": ["true"]}},
        "s3": {
            "access_key": {"$env": "SPRITE_S3_ACCESS_KEY"},
            "secret_key": {"$env": "SPRITE_S3_SECRET_ACCESS_KEY"},
            "endpoint": {"$env": "SPRITE_S3_ENDPOINT_URL"},
        },
        "exec": {
            "wrapper_command": ["crun", "exec", "app"],
            "tty_wrapper_command": ["crun", "exec", "-t", "app"],
        },
    });
    let sprite = Sprite::new()
        .config(&config)
        .env("SPRITE_HTTP_API_TOKEN", TOKEN);
    let sprite = sprite
        .env("SPRITE_S3_ACCESS_KEY", "a")
        .env("SPRITE_S3_SECRET_ACCESS_KEY", "b");
    let (code, text) = sprite
        .env("SPRITE_S3_ENDPOINT_URL", "http://localhost")
        .run();
    assert_eq!(code, 0, "{text}");
}

#[test]
fn the_example_configuration_runs_as_it_is() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(BIN)
        .args(["-config", "config.example.json", "-listen", "127.0.0.1:0"])
        .current_dir(root)
        .env("SPRITE_HTTP_API_TOKEN", TOKEN)
        .env("SPRITE_WRITE_DIR", dir.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    crate::support::wait_for_file(&dir.path().join("fs/count"));
    crate::support::signal_process(child.id().try_into().unwrap(), libc::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
