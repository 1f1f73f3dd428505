//! Clones that cannot be made, are cut off, or take too long.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::bucket::wait_until;
use crate::support::juicefs::{fs as tree, image, pid_of, running};
use crate::support::objects::merged;
use crate::support::tracer::{Tracer, can_trace};
use crate::support::{Daemon, json};

/// A daemon to which strace does something when it clones an image: at a `call` when it asks JuiceFS
/// for that, or when it has the kernel do it, since JuiceFS cannot be asked.
fn traced(call: Option<&str>, inject: &str) -> Option<(Daemon, Tracer)> {
    if !can_trace() {
        return None;
    }
    let options: &[&str] = match call {
        Some(_) => &[],
        None => &["--prefix-internal"],
    };
    let more = json!({
        "checkpoint": {"freeze_timeout": "30s"},
        "juicefs": {"mount_options": options}
    });
    let daemon = running(&merged(image()?, &more))?;
    fs::write(tree(&daemon).join("file"), "content").unwrap();
    assert_eq!(daemon.client().checkpoint(), "v0");
    let tracer = if let Some(call) = call {
        let control = daemon.sprite.path("data/juicefs/mnt/.control");
        let inject = format!("inject={call}:{inject}");
        Tracer::attach_to_file(&daemon, &control, call, &inject)
    } else {
        let call = "copy_file_range";
        Tracer::attach(&daemon, call, &format!("inject={call}:{inject}"))
    };
    Some((daemon, tracer))
}

/// The name of the device that the environment's directory is on.
fn device(daemon: &Daemon) -> String {
    let at = fs::canonicalize(tree(daemon)).unwrap();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mut lines = mounts.lines().map(|line| line.split(' '));
    let line = lines.find(|words| words.clone().nth(1) == at.to_str());
    let device = line.and_then(|mut words| words.next()).unwrap();
    device.trim_start_matches("/dev/").to_owned()
}

#[test]
fn a_filesystem_that_was_frozen_when_we_were_killed_is_thawed() {
    for whatever_it_has_begun_too in [false, true] {
        let Some((mut daemon, tracer)) = traced(Some("write"), "signal=KILL") else {
            return;
        };
        // Changes when something else, or nothing, is on the device.
        let block = Path::new("/sys/block").join(device(&daemon));
        let sequence = block.join("diskseq");
        let before = fs::read_to_string(&sequence).unwrap();
        let image = Pid::from_raw(pid_of(&daemon, "juicefs-image")).unwrap();
        if whatever_it_has_begun_too {
            // It would let it go.
            kill_process(image, Signal::STOP).unwrap();
        }
        assert_eq!(daemon.client().attempt_checkpoint(), None);
        assert_eq!(daemon.wait_without_output(), 137);
        drop(tracer);
        if whatever_it_has_begun_too {
            let of_it = daemon.sprite.path("data").display().to_string();
            let mut pkill = Command::new("pkill");
            let killed = pkill.args(["-KILL", "-f", &of_it]).status();
            assert!(killed.unwrap().success());
            // What the kernel knows of the paths ends after a moment.
            let tree = tree(&daemon);
            wait_until(&daemon, "the volume is served", || {
                fs::metadata(&tree).is_err()
            });
        }
        let mut daemon = daemon.into_sprite().api().start();
        daemon.wait_running();
        // Nothing keeps what was frozen.
        wait_until(&daemon, "the device is kept", || {
            fs::read_to_string(&sequence).is_ok_and(|now| now != before)
        });
        fs::write(tree(&daemon).join("file"), "later").unwrap();
        assert_eq!(daemon.client().checkpoint(), "v1");
        daemon.stop(143);
    }
}

#[test]
fn a_clone_that_fails_or_takes_too_long_is_no_checkpoint() {
    let (full, slow) = ("error=ENOSPC", "delay_enter=6s:when=1");
    let (no_space, let_go) = ("No space left on device", "was let go");
    let (failed, thawed) = ("the operation failed", "was frozen for 5s: thawed");
    for (call, inject, said, logged) in [
        (Some("write"), full, no_space, failed),
        (Some("read"), full, no_space, failed),
        (None, full, no_space, failed),
        (Some("write"), slow, let_go, thawed),
        (None, slow, let_go, thawed),
    ] {
        let Some((mut daemon, tracer)) = traced(call, inject) else {
            return;
        };
        let answer = daemon.client().post("/checkpoint", &json!({}));
        let last = answer.lines().last().unwrap().clone();
        assert_eq!(last["type"], "error", "{last}");
        assert!(last.to_string().contains(said), "{last}");
        daemon.wait_for(logged);
        drop(tracer);
        assert_eq!(daemon.client().checkpoint_ids(true), ["v0"]);
        fs::write(tree(&daemon).join("file"), "later").unwrap();
        assert_eq!(daemon.client().checkpoint(), "v2");
        daemon.stop(143);
    }
}

/// Has the filesystem refuse everything from now on, as it does after errors (`EXT4_IOC_SHUTDOWN`).
const SHUT_DOWN: &str = "import fcntl, os, struct, sys\n\
    fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

#[test]
fn an_environment_that_cannot_be_written_any_more_goes_on() {
    let Some(daemon) = image().and_then(|config| running(&config)) else {
        return;
    };
    let client = daemon.client();
    fs::write(tree(&daemon).join("file"), "content").unwrap();
    assert_eq!(client.checkpoint(), "v0");
    let process = client.status()["process"]["pid"].clone();
    let mut python = Command::new("python3");
    let shut_down = python.args(["-c", SHUT_DOWN]).arg(tree(&daemon)).status();
    assert!(shut_down.unwrap().success());
    fs::write(tree(&daemon).join("other"), "").unwrap_err();
    for path in ["/checkpoint", "/checkpoints/v0/restore"] {
        let answer = client.post(path, &json!({}));
        let last = answer.lines().last().unwrap().clone();
        assert_eq!(last["type"], "error", "{last}");
        assert!(last.to_string().contains("cannot flush"), "{last}");
    }
    // Nothing was stopped for it.
    assert_eq!(client.status()["process"]["pid"], process);
    let mut daemon = daemon;
    daemon.stop(143);
    let mut daemon = daemon.into_sprite().api().start();
    daemon.wait_running();
    fs::write(tree(&daemon).join("file"), "later").unwrap();
    assert_eq!(daemon.client().restore("v0")["type"], "complete");
    let file = fs::read_to_string(tree(&daemon).join("file"));
    assert_eq!(file.unwrap(), "content");
    daemon.stop(143);
}
