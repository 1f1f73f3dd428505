//! The published SDKs work against sprite-env as they are: only the address and the token
//! are other ones.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Daemon, Sprite, TOKEN, json, skipped};

fn running() -> Daemon {
    let config = json!({"sprite_name": "sdk/test"});
    let sprite = Sprite::new().config(&config).command(&["sleep", "1000"]);
    let daemon = sprite.storage().api().start();
    daemon.wait_running();
    daemon
}

/// A file of the programs that `tests/setup.sh` installs.
pub fn tool(path: &str) -> Option<PathBuf> {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/tools")
        .join(path);
    if tool.exists() {
        return Some(tool);
    }
    skipped(&format!(
        "{} is not there: tests/setup.sh installs it",
        tool.display()
    ));
    None
}

/// Whether a program from Debian is there.
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join(program).exists());
    if !found {
        skipped(&format!(
            "there is no {program}: tests/setup.sh installs it, as root"
        ));
    }
    found
}

pub fn drive(mut command: Command, script: &str, daemon: &mut Daemon) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/sdk")
        .join(script);
    let output = command
        .arg(script)
        .env("BASE", daemon.client().base())
        .env("TOKEN", TOKEN)
        .env("NAME", "sdk/test")
        .env("DIR", daemon.sprite.fs())
        .env("SPRITES_CLIENT_SIGNALS", "0")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success(), "{text}\n{}", daemon.output.text());
    daemon.stop(143);
}

#[test]
fn the_python_sdk_runs_commands() {
    let Some(python) = tool("python/bin/python") else {
        return;
    };
    drive(Command::new(python), "commands.py", &mut running());
}

#[test]
fn the_python_sdk_works_with_files() {
    let Some(python) = tool("python/bin/python") else {
        return;
    };
    drive(Command::new(python), "files.py", &mut running());
}

/// Node, with the SDK. A module is looked for beside the script; this one is elsewhere.
pub fn node() -> Option<Command> {
    let sdk = tool("node_modules/@fly/sprites")?.join("dist/index.js");
    let mut node = Command::new("node");
    node.arg("--experimental-websocket").env("SPRITES_SDK", sdk);
    Some(node)
}

#[test]
fn the_javascript_sdk_works_with_files() {
    let Some(node) = node() else { return };
    drive(node, "files.mjs", &mut running());
}

#[test]
fn the_javascript_sdk_runs_commands() {
    let Some(mut node) = node() else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = connection.read(&mut buffer) {
                    let _ = connection.write_all(&buffer[..read]);
                }
            });
        }
    });
    node.env("ECHO_PORT", port.to_string());
    drive(node, "commands.mjs", &mut running());
}

#[test]
fn the_javascript_sdk_sits_out_a_long_silence() {
    let Some(node) = node() else { return };
    drive(node, "silence.mjs", &mut running());
}

#[test]
fn who_attaches_to_a_program_that_fills_the_screen_sees_that_screen() {
    let Some(python) = tool("python/bin/python") else {
        return;
    };
    if !(has("vim") && has("htop")) {
        return;
    }
    drive(Command::new(python), "screens.py", &mut running());
}
