//! What once went wrong, named by what happened.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::support::unprivileged::unprivileged;
use crate::support::{Daemon, Sprite, TOKEN, is_root, json, skipped};

fn start(sprite: Sprite) -> Daemon {
    let daemon = sprite.api().start();
    daemon.wait_for("the system is Online > Serving > Running");
    daemon
}

#[test]
fn a_command_that_does_not_read_its_input_killed_the_main_process() {
    let mut daemon = start(Sprite::new().command(&["sleep", "1000"]));
    let client = daemon.client();
    for _ in 0..100 {
        let body = json!({"command": ["true"], "stdin": "x"});
        assert_eq!(client.exec(&body).code, 0);
    }
    assert_eq!(client.status()["process"]["restarts"], 0);
    daemon.stop(143);
}

#[test]
fn a_freeze_while_commands_start_hung_everything() {
    let daemon = start(Sprite::new().command(&["sleep", "1000"]).storage());
    let client = daemon.client();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (client, done) = (client.clone(), &done);
            scope.spawn(move || {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let timeout = format!("{}ms", 1 + worker * 5);
                    client.exec(&json!({"command": ["sleep", "1"], "timeout": timeout}));
                }
            });
        }
        for _ in 0..30 {
            client.checkpoint();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(client.status()["state"], "Online > Serving > Running");
}

#[test]
fn without_root_unreadable_files_and_read_only_directories_spoilt_checkpoints() {
    if !is_root() {
        skipped("only root can make a file that another user cannot read");
        return;
    }
    let sprite = Sprite::new().command(&["sleep", "1000"]).storage();
    let data = sprite.path("data");
    fs::create_dir_all(data.join("fs/read-only")).unwrap();
    fs::write(data.join("fs/read-only/file"), "x").unwrap();
    fs::write(data.join("fs/unreadable"), "x").unwrap();
    fs::write(data.join("fs/plain"), "one").unwrap();
    fs::set_permissions(data.join("fs/read-only"), fs::Permissions::from_mode(0o555)).unwrap();
    fs::set_permissions(
        data.join("fs/unreadable"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    for path in ["", "fs", "fs/read-only", "fs/read-only/file", "fs/plain"] {
        std::os::unix::fs::chown(data.join(path), Some(65534), Some(65534)).unwrap();
    }
    let mut daemon = start(unprivileged(sprite));
    let client = daemon.client();
    let answer = client.post("/checkpoint", &json!({}));
    let lines = answer.lines();
    assert_eq!(lines.last().unwrap()["type"], "complete", "{}", answer.text);
    assert!(
        answer.text.contains("Not captured: unreadable"),
        "{}",
        answer.text
    );
    fs::write(data.join("fs/plain"), "two").unwrap();
    client.checkpoint();
    assert_eq!(client.restore("v0")["type"], "complete");
    assert_eq!(fs::read_to_string(data.join("fs/plain")).unwrap(), "one");
    client.checkpoint();
    assert_eq!(client.request("DELETE", "/checkpoints/v1", b"").status, 204);
    daemon.stop(143);
}

#[test]
fn started_inside_the_directory_it_went_on_in_the_old_tree() {
    let sprite = Sprite::new().storage();
    fs::create_dir_all(sprite.fs()).unwrap();
    let cd = format!("cd {} && exec \"$@\"", sprite.fs().display());
    let sprite = sprite.script("pwd >main-cwd; exec sleep 1000");
    let mut daemon = start(sprite.under(&["sh", "-c", &cd, "sh"]));
    let client = daemon.client();
    let id = client.checkpoint();
    assert_eq!(client.restore(&id)["type"], "complete");
    let fs_dir = fs::canonicalize(daemon.sprite.fs()).unwrap();
    let physical = client.sh("pwd -P").stdout;
    assert_eq!(physical.trim(), fs_dir.to_str().unwrap());
    client.sh("echo here >written");
    assert!(fs_dir.join("written").exists());
    daemon.stop(143);
}

#[test]
fn a_link_to_the_directory_was_swapped_away() {
    let sprite = Sprite::new().command(&["sleep", "1000"]).storage();
    fs::create_dir_all(sprite.path("data/real/sub")).unwrap();
    fs::write(sprite.path("data/real/sub/file"), "one").unwrap();
    symlink("real", sprite.fs()).unwrap();
    let mut daemon = start(sprite);
    let client = daemon.client();
    let id = client.checkpoint();
    fs::write(daemon.sprite.path("data/real/sub/file"), "two").unwrap();
    assert_eq!(client.restore(&id)["type"], "complete");
    assert!(daemon.sprite.fs().is_symlink());
    let text = fs::read_to_string(daemon.sprite.path("data/real/sub/file")).unwrap();
    assert_eq!(text, "one");
    daemon.stop(143);
}

#[test]
fn a_process_that_left_its_group_was_never_stopped() {
    let script = "\
import os, time
child = os.fork()
if child == 0:
    os.setpgid(0, 0)
    time.sleep(1000)
time.sleep(0.1)
os.setpgid(0, child)
print('moved', flush=True)
time.sleep(1000)
";
    let mut daemon = start(Sprite::new().command(&["python3", "-c", script]));
    daemon.wait_for("moved");
    daemon.stop(143);
}

#[test]
fn a_stop_waited_for_a_hanging_checkpoint_command() {
    let config = json!({"components": {"db": {
        "start_command": ["sleep", "1000"],
        "checkpoint_command": ["sh", "-c", "touch begun; exec sleep 1000"],
    }}});
    let sprite = Sprite::new()
        .config(&config)
        .command(&["sleep", "1000"])
        .storage();
    let mut daemon = start(sprite);
    let client = daemon.client();
    std::thread::spawn(move || client.attempt_checkpoint());
    crate::support::wait_for_file_to_exist(&daemon.sprite.path("begun"));
    // A minute (command_timeout) is shorter than the patience of these tests, so look
    // at what was done, not at how long it took.
    daemon.stop(143);
    assert!(!daemon.output.text().contains("did not end within"));
}

#[test]
fn many_things_not_captured_hid_the_end() {
    let sprite = Sprite::new().command(&["sleep", "1000"]).storage();
    fs::create_dir_all(sprite.fs()).unwrap();
    for n in 0..300 {
        std::os::unix::net::UnixListener::bind(sprite.fs().join(format!("s{n}"))).unwrap();
    }
    let mut daemon = start(sprite);
    let answer = daemon.client().post("/checkpoint", &json!({}));
    assert_eq!(answer.lines().last().unwrap()["type"], "complete");
    assert!(answer.text.contains("200 more"), "{}", answer.text);
    daemon.stop(143);
}

#[test]
fn each_readiness_check_kept_a_descriptor_open() {
    let config = json!({"components": {"c": {
        "start_command": ["sleep", "1000"],
        "ready_command": ["sh", "-c", "echo x >>tries; [ $(wc -l <tries) -ge 4 ]"],
    }}});
    let mut daemon = start(Sprite::new().config(&config).command(&["sleep", "1000"]));
    let pipes = |pid: &str| -> Vec<_> {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let links = fds.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
        links
            .filter(|link| link.to_string_lossy().starts_with("pipe:"))
            .collect()
    };
    // Those that we have too are its own output, and what was inherited from us.
    let own = || {
        let ours = pipes("self");
        let theirs = pipes(&daemon.pid().to_string());
        theirs.iter().filter(|pipe| !ours.contains(pipe)).count()
    };
    // The component's two outputs; the rest goes when its task does.
    while own() > 2 {
        std::thread::yield_now();
    }
    daemon.stop(143);
}

#[test]
fn children_could_read_the_token_in_our_environment() {
    let mut daemon = start(Sprite::new().command(&["sleep", "1000"]));
    let environ = fs::read(format!("/proc/{}/environ", daemon.pid())).unwrap();
    let environ = String::from_utf8_lossy(&environ);
    assert!(environ.contains("SPRITE_HTTP_API_TOKEN="));
    assert!(!environ.contains(TOKEN));
    daemon.stop(143);
}

#[test]
fn a_path_that_is_no_text_got_an_error_of_another_kind() {
    let mut daemon = start(Sprite::new().command(&["sleep", "1000"]).storage());
    let client = daemon.client();
    client.get("/checkpoints/%ff").assert_problem(400, "UTF-8");
    let twice = client.get("/checkpoints?includeAuto=true&includeAuto=x");
    twice.assert_problem(400, "duplicate field");
    daemon.stop(143);
}
