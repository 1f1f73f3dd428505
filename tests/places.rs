//! It runs as any user, on a read-only root, as PID 1 or not.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, XattrFlags};

use crate::support::unprivileged::unprivileged;
use crate::support::{BIN, Sprite, is_root, json, pid_namespaces, skipped, trees};

/// The binary where any user can reach it.
fn reachable(sprite: &Sprite) -> std::path::PathBuf {
    let dir = sprite.dir.path();
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = dir.join("sprite-env");
    std::fs::copy(BIN, &copy).unwrap();
    copy
}

#[test]
fn as_another_user_than_root() {
    if !is_root() {
        skipped("only root can become another user; the other tests run as a non-root user now");
        return;
    }
    let sprite = Sprite::new().script("id -u; exit 3");
    let program = reachable(&sprite);
    let sprite = sprite.under(&[
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ]);
    let (code, text) = sprite.program(&program).run();
    assert_eq!(code, 3, "{text}");
    assert!(text.lines().any(|line| line == "65534"), "{text}");
}

#[test]
fn the_main_process_runs_as_its_user() {
    if !is_root() {
        let config = json!({"process_user": "0"});
        let (code, text) = Sprite::new().config(&config).script("exit 0").run();
        assert_eq!(code, 78);
        assert!(text.contains("only root can run something as"), "{text}");
        return;
    }
    let config = json!({
        "process_user": "nobody",
        "process_working_dir": "/",
        "process_environment": {"EXTRA": "yes"},
    });
    let script = "id -un; id -G; echo $EXTRA $HOME; pwd";
    let (code, text) = Sprite::new().config(&config).script(script).run();
    assert_eq!(code, 0, "{text}");
    let nobody = Command::new("sh")
        .args(["-c", "id -G nobody"])
        .output()
        .unwrap();
    let groups = String::from_utf8(nobody.stdout).unwrap();
    for line in ["nobody", groups.trim(), "yes /nonexistent", "/"] {
        assert!(text.lines().any(|l| l == line), "{line:?} not in {text}");
    }
}

#[test]
fn on_a_read_only_root() {
    if !is_root() {
        skipped("only root can make a read-only root");
        return;
    }
    let possible = Command::new("unshare").args(["--mount", "true"]).status();
    if !possible.is_ok_and(|status| status.success()) {
        skipped("mount namespaces cannot be made here");
        return;
    }
    let script = "touch /tmp/x 2>/dev/null && echo WRITABLE; exit 4";
    let remount = "mount --make-rprivate / && for m in $(findmnt -rno TARGET); do \
                   mount -o remount,bind,ro $m 2>/dev/null; done; exec \"$@\"";
    let sprite = Sprite::new().script(script).api();
    let (code, text) = sprite
        .under(&["unshare", "--mount", "sh", "-c", remount, "sh"])
        .run();
    assert_eq!(code, 4, "{text}");
    assert!(!text.contains("WRITABLE"), "{text}");
}

#[test]
fn as_pid_1_it_says_so_and_ends_as_its_process() {
    if pid_namespaces() {
        let (code, text) = Sprite::new()
            .script("echo \"parent $PPID\"; exit 42")
            .pid_1()
            .run();
        assert_eq!(code, 42, "{text}");
        assert!(
            text.contains("parent 1") && text.contains("pid_1=true"),
            "{text}"
        );
    }
}

#[test]
fn without_proc() {
    if !pid_namespaces() || !is_root() {
        skipped("this needs root and PID namespaces");
        return;
    }
    // A stray that ignores SIGTERM: found and killed without /proc to look at.
    let script = "setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' & exit 9";
    let hide = "umount -l /proc; exec \"$@\"";
    let sprite = Sprite::new()
        .script(script)
        .arg("-graceful-shutdown-timeout")
        .arg("100ms");
    let sprite = sprite.pid_1().under(&["sh", "-c", hide, "sh"]);
    let (code, text) = sprite.run();
    assert_eq!(code, 9, "{text}");
}

#[test]
fn the_binary_needs_no_files_of_its_own() {
    assert!(Path::new(BIN).metadata().unwrap().len() > 0);
    let output = Command::new(BIN)
        .env_clear()
        .args(["--", "/bin/true"])
        .current_dir("/")
        .output();
    assert_eq!(output.unwrap().status.code(), Some(0));
}

#[test]
fn what_only_root_may_restore_is_told_and_the_rest_is_restored() {
    if !is_root() {
        skipped("only root can make what only root can restore");
        return;
    }
    let daemon = unprivileged(Sprite::new().storage()).idle();
    let at = |name: &str| daemon.sprite.fs().join(name);
    fs::write(at("file"), "one").unwrap();
    chown(at("file"), Some(65534), Some(65534)).unwrap();
    // By name, security is before user.
    let set = |name: &str, value: &[u8]| {
        rustix::fs::setxattr(at("file"), name, value, XattrFlags::empty())
    };
    let null = rustix::fs::makedev(1, 3);
    let mode = Mode::RUSR | Mode::WUSR;
    let done = set("security.capability", &trees::capability(0))
        .and_then(|()| set("user.note", b"kept"))
        .and_then(|()| rustix::fs::mknodat(CWD, at("null"), FileType::CharacterDevice, mode, null));
    if let Err(error) = done {
        skipped(&format!(
            "capabilities, attributes or devices cannot be made here: {error}"
        ));
        return;
    }
    fs::create_dir(at("roots")).unwrap();
    assert_eq!(daemon.client().checkpoint(), "v0");
    for name in ["file", "null"] {
        fs::remove_file(at(name)).unwrap();
    }
    fs::set_permissions(at("roots"), fs::Permissions::from_mode(0o775)).unwrap();
    let last = daemon.client().restore("v0");
    assert_eq!(last["type"], "complete", "{last}");
    for what in ["extended attributes", "device", "mode", "times"] {
        daemon.wait_for(&format!("its {what} could not be restored"));
    }
    assert_eq!(fs::read_to_string(at("file")).unwrap(), "one");
    let mut note = [0; 4];
    rustix::fs::getxattr(at("file"), "user.note", &mut note).unwrap();
    assert_eq!(&note, b"kept");
    assert!(!at("null").exists());
}
