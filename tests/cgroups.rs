//! What runs is in cgroups of ours, which are held and killed as a whole.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{
    Daemon, Sprite, Value, is_alive, json, pid_namespaces, signal_process, skipped, wait_for_file,
    wait_for_file_to_exist,
};

/// Says so if no cgroup can be made here.
fn can_make_cgroups() -> bool {
    let script = "set -e; at=$(awk '$9 == \"cgroup2\" || $10 == \"cgroup2\" {print $5; exit}' \
                  /proc/self/mountinfo); [ -n \"$at\" ]; \
                  dir=$at$(sed -n 's/^0:://p' /proc/self/cgroup)/test-$$; \
                  mkdir \"$dir\"; test -e \"$dir/cgroup.kill\"; rmdir \"$dir\"";
    let made = Command::new("sh").args(["-c", script]).output().unwrap();
    if !made.status.success() {
        let why = String::from_utf8_lossy(&made.stderr).into_owned();
        skipped(&format!("no cgroup can be made here: {why}"));
    }
    made.status.success()
}

/// The cgroup of a process, below that of the daemon.
fn cgroup_of(pid: &str) -> String {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let (_, below) = group.unwrap().split_once("sprite-env-").unwrap();
    let (_, below) = below.split_once('/').unwrap();
    below.to_owned()
}

/// The directory of the daemon's cgroups, as it says it.
fn dir_of(daemon: &Daemon) -> PathBuf {
    let line = daemon.wait_for("cgroups are used");
    let (_, dir) = line.rsplit_once("dir=").unwrap();
    dir.trim().into()
}

/// A program in Python that leaves a daemon behind, in a session of its own, which hears
/// SIGTERM by `handler` and has written its process id to `left`.
fn leaving_a_daemon(handler: &str) -> String {
    format!(
        "import os, signal, time\n\
         def go(*_): time.sleep(0.2); open('gone', 'w').close(); os._exit(0)\n\
         if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        \
         signal.signal(signal.SIGTERM, {handler})\n        \
         open('left', 'w').write(str(os.getpid()))\n        \
         while True: time.sleep(100)\n    os._exit(0)\n\
         os.wait()\n\
         time.sleep(1000)\n"
    )
}

#[test]
fn each_runs_in_the_cgroup_of_its_kind_and_none_is_left() {
    if !can_make_cgroups() {
        return;
    }
    let config = json!({"components": {"db": {
        "start_command": ["sh", "-c", "cat /proc/self/cgroup; touch up; exec sleep 1000"],
        "ready": {"command": ["sh", "-c", "test -e up && cp /proc/self/cgroup check"]},
    }}});
    let sprite = Sprite::new().config(&config).api().arg("-debug");
    let mut daemon = sprite.script("sleep 1000 & echo $$ >pid; wait").start();
    daemon.wait_running();
    let dir = dir_of(&daemon);
    assert!(dir.join("tree/component-db/cgroup.procs").exists());
    let pid = wait_for_file(&daemon.sprite.path("pid"));
    assert_eq!(cgroup_of(pid.trim()), "tree/process");
    let shown = daemon.client().sh("cat /proc/self/cgroup").stdout;
    assert!(shown.contains("/tree/others\n"), "{shown}");
    daemon.wait_for("/tree/component-db");
    let check = std::fs::read_to_string(daemon.sprite.path("check")).unwrap();
    assert!(check.contains("/tree/others\n"), "{check}");
    daemon.stop(143);
    assert!(!dir.exists(), "{} is left", dir.display());
}

#[test]
fn what_a_component_leaves_behind_goes_with_it() {
    if !can_make_cgroups() {
        return;
    }
    // It takes its time to go, and says so.
    let polite = leaving_a_daemon("go");
    let script = format!("[ -e gone ] && exec sleep 1000; exec python3 -c \"{polite}\"");
    let config = json!({"components": {"c": {
        "start_command": ["sh", "-c", script], "on_failure": "restart",
        "backoff": {"min": "0s"},
    }}});
    let daemon = Sprite::new().config(&config).idle();
    let left = wait_for_file(&daemon.sprite.path("left"));
    let client = daemon.client();
    let pid = client.get("/components/c").json()["pid"].clone();
    signal_process(pid.as_i64().unwrap().try_into().unwrap(), 9);
    let successor = |status: &Value| status["components"]["c"]["starts"] == 2;
    client.wait_status(|status| successor(status) && status["components"]["c"]["pid"] != pid);
    assert!(daemon.sprite.path("gone").exists(), "it was not told to go");
    assert!(!is_alive(left.trim().parse().unwrap()));
}

#[test]
fn what_a_component_leaves_behind_and_does_not_go_is_killed() {
    if !can_make_cgroups() {
        return;
    }
    let stubborn = leaving_a_daemon("signal.SIG_IGN");
    let config = json!({"components": {"c": {
        "start_command": ["python3", "-c", stubborn], "stop_timeout": "200ms",
    }}});
    let daemon = Sprite::new().config(&config).idle();
    let left = wait_for_file(&daemon.sprite.path("left"));
    let answer = daemon
        .client()
        .post("/components/c/stop?wait=60s", &json!({}));
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(!is_alive(left.trim().parse().unwrap()));
}

/// Whether a process that watches its child for stops sees one while checkpoints are taken.
fn sees_a_stop(cgroups: &str) -> bool {
    let watcher = "import os, time\n\
        pid = os.fork()\n\
        while pid == 0: time.sleep(0.001)\n\
        open('watches', 'w').write('1')\n\
        os.waitpid(pid, os.WUNTRACED | os.WCONTINUED)\n\
        open('seen', 'w').write('1')\n\
        time.sleep(1000)\n";
    let sprite = Sprite::new().config(&json!({"cgroups": cgroups})).storage();
    let daemon = sprite.command(&["python3", "-c", watcher]).api().start();
    daemon.wait_running();
    wait_for_file(&daemon.sprite.path("watches"));
    for _ in 0..5 {
        daemon.client().checkpoint();
    }
    if cgroups == "off" {
        wait_for_file_to_exist(&daemon.sprite.path("seen"));
    }
    daemon.sprite.path("seen").exists()
}

#[test]
fn nobody_notices_that_a_checkpoint_holds_them() {
    assert!(sees_a_stop("off"), "without cgroups a stop is seen");
    if can_make_cgroups() {
        assert!(!sees_a_stop("required"));
    }
}

#[test]
fn what_was_held_when_we_were_killed_runs_again() {
    if !can_make_cgroups() {
        return;
    }
    let sprite = Sprite::new()
        .config(&json!({"cgroups": "required"}))
        .arg("-debug");
    let mut daemon = sprite.command(&["sleep", "1000"]).start();
    daemon.wait_running();
    let dir = dir_of(&daemon);
    std::fs::write(dir.join("tree/cgroup.freeze"), "1").unwrap();
    daemon.signal(9);
    let held = std::fs::read_to_string(dir.join("tree/process/cgroup.procs")).unwrap();
    // What is held keeps the daemon's output open.
    daemon.wait_without_output();
    let _next = Sprite::new().config(&json!({"cgroups": "required"})).idle();
    let events = std::fs::read_to_string(dir.join("tree/cgroup.events")).unwrap();
    assert!(events.contains("frozen 0"), "{events}");
    for pid in held.lines() {
        signal_process(pid.parse().unwrap(), 9);
    }
}

#[test]
fn two_with_the_same_process_id_keep_apart() {
    if !can_make_cgroups() || !pid_namespaces() {
        return;
    }
    let start = || {
        let sprite = Sprite::new().config(&json!({"cgroups": "required"}));
        let sprite = sprite.arg("-debug").pid_1();
        let daemon = sprite.command(&["sleep", "1000"]).api().start();
        daemon.wait_running();
        daemon
    };
    let (first, mut second) = (start(), start());
    let dir = dir_of(&first);
    assert_ne!(dir, dir_of(&second));
    second.stop(143);
    assert!(dir.join("tree/process/cgroup.procs").exists());
    assert_eq!(first.client().sh("echo still here").stdout, "still here\n");
}

#[test]
fn limits_that_cannot_be_set_are_refused() {
    let config = json!({"process_limits": {"memory": "64M", "pids": 50}, "cgroups": "off"});
    let (code, text) = Sprite::new().config(&config).command(&["true"]).run();
    assert_eq!(code, 78, "{text}");
    assert!(
        text.contains("cgroups: is \"off\", but limits are given"),
        "{text}"
    );
    for (limits, why) in [
        (
            json!({"memory": "5"}),
            "process_limits.memory: \"5\" is no size of at least 1M",
        ),
        (json!({"cpus": 0}), "process_limits.cpus: must be from 0.01"),
        (
            json!({"pids": 0}),
            "process_limits.pids: must be from 1 to 4194304",
        ),
    ] {
        let config = json!({"process_limits": limits});
        let (code, text) = Sprite::new().config(&config).command(&["true"]).run();
        assert_eq!(code, 78, "{text}");
        assert!(text.contains(why), "{text}");
    }
}

#[test]
fn limits_are_set_or_it_is_said_why_not() {
    let config = json!({"process_limits": {"memory": "64M", "cpus": 0.5, "pids": 50}});
    let sprite = Sprite::new().config(&config).arg("-debug");
    let mut daemon = sprite.command(&["sleep", "1000"]).start();
    if !daemon.wait_running_or_end() {
        assert_eq!(daemon.wait(), 69);
        let text = daemon.output.text();
        let reasons = [
            "limits need the controllers cpu, memory, pids",
            "no cgroup v2 is mounted here",
            "no cgroup can be made in",
            "the controllers for the limits cannot be given to",
        ];
        assert!(reasons.iter().any(|reason| text.contains(reason)), "{text}");
        return skipped("this machine gives cgroup v2 no controllers; they are tested in a VM");
    }
    let dir = dir_of(&daemon).join("tree/process");
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    assert_eq!(read("memory.max").trim(), (64 << 20).to_string());
    assert_eq!(read("cpu.max").trim(), "50000 100000");
    assert_eq!(read("pids.max").trim(), "50");
    daemon.stop(143);
}

#[test]
fn without_cgroups_what_requires_them_does_not_start() {
    let dir = Path::new("/sys/fs/cgroup");
    let unmounted = Command::new("unshare")
        .args(["--mount", "umount", "--recursive"])
        .arg(dir)
        .output();
    if !unmounted.is_ok_and(|output| output.status.success()) {
        return skipped("the cgroups cannot be hidden (unshare --mount, umount)");
    }
    let script = "umount --recursive /sys/fs/cgroup; exec \"$@\"";
    let hidden = ["unshare", "--mount", "sh", "-c", script, "sh"];
    let (code, text) = Sprite::new()
        .config(&json!({"cgroups": "required"}))
        .under(&hidden)
        .command(&["true"])
        .run();
    assert_eq!(code, 69, "{text}");
    assert!(text.contains("no cgroup v2 is mounted here"), "{text}");
    let (code, text) = Sprite::new().under(&hidden).command(&["true"]).run();
    assert_eq!(code, 0, "{text}");
}
