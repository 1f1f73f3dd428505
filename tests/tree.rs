//! Nothing that we started, nor anything started by it, is left behind.

use std::process::Command;

use crate::support::{PATIENCE, Sprite, is_alive, pid_namespaces, wait_for_file};

/// Daemonises: leaves its session and its parent.
const DAEMON: &str = "\
import os, signal, sys, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
def told(number, frame):
    time.sleep(0.3)
    open('told', 'w').write('told and done')
    os._exit(0)
signal.signal(signal.SIGTERM, told)
open('daemon', 'w').write(str(os.getpid()))
while True: signal.pause()
";

fn daemonised_grandchild(sprite: Sprite) {
    std::fs::write(sprite.path("daemon.py"), DAEMON).unwrap();
    let script = "python3 daemon.py; while [ ! -s daemon ]; do sleep 0.01; done; exit 6";
    let mut daemon = sprite.script(script).start();
    assert_eq!(daemon.wait(), 6, "{}", daemon.output.text());
    // It was told, and had the time to finish what it does when told.
    assert_eq!(wait_for_file(&daemon.sprite.path("told")), "told and done");
}

#[test]
fn a_daemonised_grandchild_is_told_and_has_time() {
    daemonised_grandchild(Sprite::new());
}

#[test]
fn a_daemonised_grandchild_of_pid_1_is_told_and_has_time() {
    if pid_namespaces() {
        daemonised_grandchild(Sprite::new().pid_1());
    }
}

#[test]
fn what_ignores_the_stop_is_killed() {
    let script = "setsid sh -c 'trap \"\" TERM; echo $$ >stubborn; while :; do sleep 1; done' & \
                  while [ ! -s stubborn ]; do sleep 0.01; done; exit 6";
    let sprite = Sprite::new()
        .script(script)
        .arg("-graceful-shutdown-timeout")
        .arg("300ms");
    let mut daemon = sprite.start();
    assert_eq!(daemon.wait(), 6);
    let pid = wait_for_file(&daemon.sprite.path("stubborn"))
        .trim()
        .parse()
        .unwrap();
    assert!(!is_alive(pid), "{}", daemon.output.text());
}

/// Makes 10,000 orphans that end at different moments, then waits until none is left, dead or
/// alive.
const ORPHANS: &str = "\
import os, time
total = 10000
for batch in range(total // 100):
    if os.fork() == 0:
        for _ in range(100):
            if os.fork() == 0:
                os._exit(0)
        os._exit(0)
while True:
    try: os.wait()
    except ChildProcessError: break
def left():
    found = 0
    for name in os.listdir('/proc'):
        if name.isdigit() and int(name) != os.getpid():
            try: stat = open(f'/proc/{name}/stat').read().rsplit(')', 1)[1].split()
            except (FileNotFoundError, ProcessLookupError): continue
            if int(stat[1]) == os.getppid(): found += 1
    return found
deadline = time.time() + 60
count = left()
while count and time.time() < deadline:
    time.sleep(0.01)
    count = left()
print('zombies left:', count, flush=True)
";

fn ten_thousand_orphans(sprite: Sprite) {
    let (code, text) = sprite.command(&["python3", "-c", ORPHANS]).run();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("zombies left: 0"), "{text}");
}

#[test]
fn ten_thousand_orphans_leave_no_zombie() {
    ten_thousand_orphans(Sprite::new());
}

#[test]
fn ten_thousand_orphans_of_pid_1_leave_no_zombie() {
    if pid_namespaces() {
        ten_thousand_orphans(Sprite::new().pid_1());
    }
}

#[test]
fn the_script_of_the_readme_proves_reaping() {
    if !pid_namespaces() {
        return;
    }
    let sprite = Sprite::new()
        .command(&["sleep", "1000"])
        .arg("-debug")
        .api()
        .pid_1();
    let mut daemon = sprite.start();
    daemon.wait_running();
    let line = daemon.wait_for("the API listens at ");
    let (_, address) = line.rsplit_once(' ').unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/test_zombie_reaping.sh");
    let output = Command::new(script)
        .env("SPRITE_HTTP_API_TOKEN", crate::support::TOKEN)
        .env("SPRITE_URL", format!("http://{address}"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("running as PID 1"), "{text}");
    daemon.stop(143);
}

#[test]
fn debug_endpoints_exist_only_when_asked_for() {
    let mut daemon = Sprite::new().command(&["sleep", "1000"]).api().start();
    daemon.wait_running();
    let client = daemon.client();
    client
        .get("/debug/check-process?pid=1")
        .assert_problem(404, "there is nothing at");
    daemon.stop(143);
    let mut daemon = Sprite::new()
        .command(&["sleep", "1000"])
        .api()
        .arg("--debug")
        .start();
    daemon.wait_running();
    let client = daemon.client();
    let us = client
        .get(&format!("/debug/check-process?pid={}", daemon.pid()))
        .json();
    assert_eq!(
        (&us["exists"], &us["is_zombie"]),
        (&true.into(), &false.into())
    );
    for bad in ["", "?pid=", "?pid=x", "?pid=0", "?pid=-1"] {
        let answer = client.get(&format!("/debug/check-process{bad}"));
        answer.assert_problem(400, "give the process id");
    }
    daemon.stop(143);
}

#[test]
fn an_exec_session_does_not_outlive_us() {
    let mut daemon = Sprite::new().command(&["sleep", "1000"]).api().start();
    daemon.wait_running();
    let client = daemon.client();
    let script = "echo $$; exec sleep 1000";
    let mut events = client.exec_stream(&serde_json::json!({"command": ["sh", "-c", script]}));
    let pid = events.next().unwrap()["data"]
        .as_str()
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(is_alive(pid));
    daemon.stop(143);
    let start = std::time::Instant::now();
    while is_alive(pid) {
        assert!(start.elapsed() < PATIENCE);
    }
}
