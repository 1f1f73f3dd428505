//! Ways for processes to be left behind, and that nothing survives us in any of them.

use std::fs;

use crate::support::{Daemon, Sprite, Value, is_root, json, pid_namespaces, skipped};

/// A variable that all of them have, by which they are found.
const MARK: &str = "LEFT_BEHIND_BY";

/// Runs in the background until somebody ends it.
const STAY: &str = "while :; do sleep 0.05; done";

/// It forks each time it is told to go, and its child goes on.
const COMES_BACK: &str = r"
import os, signal, time
def again(*_):
    if os.fork(): os._exit(0)
    os.setsid()
signal.signal(signal.SIGTERM, again)
up()
while True: time.sleep(0.01)
";

/// Each of two forks anew when the other is gone.
const TWINS: &str = r"
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
def watch(pid):
    while True:
        try:
            os.kill(pid, 0)
        except OSError:
            pid = twin()
        time.sleep(0.005)
def twin():
    me = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        up()
        watch(me)
    return pid
watch(twin())
";

/// Another thread goes on, in a session that the group's signal does not reach.
const FIRST_THREAD_ENDED: &str = r"
import ctypes, os, threading, time
os.setsid()
def stay():
    while open('/proc/self/stat').read().split()[2] != 'Z': time.sleep(0.01)
    up()
    while True: time.sleep(0.01)
threading.Thread(target=stay).start()
ctypes.CDLL(None).pthread_exit(None)
";

/// The orphan's parent now is a subreaper, and not we.
const TAKEN_IN: &str = r"
import ctypes, os, signal, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    parent = os.getpid()
    if os.fork() == 0:
        os.setsid()
        while os.getppid() == parent: time.sleep(0.01)
        up()
        time.sleep(1000)
    os._exit(0)
os.wait()
while True: time.sleep(0.01)
";

/// The tracer ignores it that it is told to go.
const TRACED: &str = r"
import ctypes, os, signal, time
libc = ctypes.CDLL(None)
pid = os.fork()
if pid == 0:
    libc.ptrace(0, 0, 0, 0)
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(1000)
os.waitpid(pid, os.WUNTRACED)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
up()
time.sleep(1000)
";

/// What the main process does before it says `ready`, by the way in which something is left.
fn ways() -> Vec<(&'static str, String)> {
    // Each says when it is as it is meant to be.
    let python = |code: &str| {
        format!(
            "cat >way.py <<'END'\ndef up(): open('up', 'w').close()\n{code}\nEND\n\
             python3 way.py &\nuntil [ -e up ]; do sleep 0.01; done"
        )
    };
    vec![
        ("a child", format!("({STAY}) &")),
        (
            "a child that a hang-up does not end",
            format!("nohup sh -c '{STAY}' >/dev/null 2>&1 &"),
        ),
        (
            "a child in a session of its own",
            format!("setsid sh -c '{STAY}' &"),
        ),
        ("a daemon", format!("(setsid sh -c '({STAY}) & exit' &)")),
        (
            "a process group of its own",
            format!("set -m; ({STAY}) & set +m"),
        ),
        (
            "a child that ignores TERM",
            format!("(trap '' TERM; {STAY}) &"),
        ),
        (
            "a daemon that ignores everything",
            format!("setsid sh -c 'trap \"\" TERM INT HUP QUIT USR1 USR2 ALRM PIPE; {STAY}' &"),
        ),
        ("a stopped child", format!("({STAY}) & kill -STOP $!")),
        (
            "a stopped daemon",
            format!("setsid sh -c 'kill -STOP $$; {STAY}' &"),
        ),
        (
            "a member of a group whose leader ended first",
            format!("setsid sh -c '(trap \"\" TERM; {STAY}) & exit 0' &"),
        ),
        (
            "the last of a row of parents that end",
            format!("((((({STAY}) &) &) &) &) &"),
        ),
        (
            "a process that starts another when it is told to go",
            format!("(trap 'setsid sh -c \"{STAY}\" & exit' TERM; {STAY}) &"),
        ),
        (
            "a process that comes back each time it is told to go",
            python(COMES_BACK),
        ),
        ("two that bring each other back", python(TWINS)),
        (
            "a child that holds our output open",
            format!("(trap '' TERM; {STAY}) 2>&1 &"),
        ),
        (
            "a child that has closed everything",
            format!("(exec <&- >&- 2>&-; trap '' TERM HUP; {STAY}) &"),
        ),
        (
            "a process whose first thread has ended",
            python(FIRST_THREAD_ENDED),
        ),
        ("an orphan that another took in", python(TAKEN_IN)),
        (
            "a process under another name",
            "cp /bin/sleep './] ) Z 1'; './] ) Z 1' 1000 & setsid './] ) Z 1' 1000 &".to_owned(),
        ),
        (
            "two hundred daemons",
            "for i in $(seq 200); do setsid sleep 1000 & done".to_owned(),
        ),
        ("a process that is traced", python(TRACED)),
        (
            "another user's process",
            "setpriv --reuid=65534 --clear-groups sleep 1000 & ".to_owned(),
        ),
        (
            "a PID namespace of its own",
            "unshare --pid --fork setsid sh -c 'trap \"\" TERM; sleep 1000' &".to_owned(),
        ),
    ]
}

/// The living processes that have our mark.
fn survivors(mark: &str) -> Vec<String> {
    let wanted = format!("{MARK}={mark}");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let marked = processes.filter(|process| {
        // Of each thread: the first may have ended while others go on.
        let tasks = fs::read_dir(process.path().join("task"));
        tasks.into_iter().flatten().flatten().any(|task| {
            let environment = fs::read(task.path().join("environ")).unwrap_or_default();
            let mut variables = environment.split(|byte| *byte == 0);
            variables.any(|variable| variable == wanted.as_bytes())
        })
    });
    let alive = marked.filter_map(|process| {
        let command = fs::read(process.path().join("cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        Some(format!("{} {command}", process.file_name().display()))
    });
    // A process that is just ending has no environment any more, a zombie has none either.
    alive.collect()
}

fn check(way: &str, sprite: Sprite, script: &str) {
    // Its own: other tests have the same ways at the same time.
    let mark = sprite.dir.path().display().to_string();
    let main = format!("{script}\necho left something; exec sleep 1000");
    let config = json!({"process_graceful_shutdown_timeout": "300ms"});
    let mut daemon = sprite
        .config(&config)
        .env(MARK, &mark)
        .script(&main)
        .start();
    daemon.wait_for("left something");
    // The way has begun when more than the daemon and its process are there.
    while survivors(&mark).len() < 3 {
        std::thread::yield_now();
    }
    daemon.terminate();
    daemon.wait_without_output();
    let left = survivors(&mark);
    assert!(
        left.is_empty(),
        "{way}: {left:#?}\n{}",
        daemon.output.text()
    );
}

fn check_all(sprite: impl Fn() -> Sprite) {
    for (way, script) in ways() {
        if !is_root() && (script.contains("setpriv") || script.contains("unshare")) {
            skipped(&format!("{way}: needs root"));
            continue;
        }
        check(way, sprite(), &script);
    }
}

#[test]
fn nothing_of_the_main_process_survives_us() {
    check_all(Sprite::new);
}

#[test]
fn nothing_of_the_main_process_survives_the_init() {
    if pid_namespaces() {
        check_all(|| Sprite::new().pid_1());
    }
}

/// Stops a daemon below which something runs that is no part of the main process.
fn stop(mut daemon: Daemon, mark: &str) {
    assert!(survivors(mark).len() >= 3, "{:?}", survivors(mark));
    daemon.terminate();
    daemon.wait_without_output();
    let left = survivors(mark);
    assert!(left.is_empty(), "{mark}: {left:#?}");
}

/// A shell command that leaves a daemon behind that does not go when it is told.
fn leaving() -> Value {
    let script = format!(
        "setsid sh -c 'trap \"\" TERM; touch left; {STAY}' & \
                          while [ ! -e left ]; do sleep 0.01; done"
    );
    json!(["sh", "-c", script])
}

#[test]
fn nothing_of_commands_components_and_hooks_survives_us() {
    let mark = |what: &str| format!("{}-{what}", std::process::id());
    let config = |component: Value| {
        json!({
            "process_graceful_shutdown_timeout": "300ms",
            "components": {"c": component},
        })
    };
    let sprite = |what: &str, component: Value| {
        Sprite::new()
            .storage()
            .config(&config(component))
            .env(MARK, &mark(what))
    };
    let quiet = json!({"start_command": ["sleep", "1000"]});

    let daemon = sprite("session", quiet.clone()).idle();
    let ended = daemon
        .client()
        .exec(&json!({"command": leaving(), "dir": daemon.sprite.dir.path()}));
    assert_eq!(ended.code, 0);
    stop(daemon, &mark("session"));

    let mut hook = quiet.clone();
    hook["checkpoint_command"] = leaving();
    let daemon = sprite("hook", hook).idle();
    daemon.client().checkpoint();
    stop(daemon, &mark("hook"));

    let mut check = quiet;
    check["ready_command"] = leaving();
    stop(sprite("check", check).idle(), &mark("check"));

    let words = leaving();
    let script = format!("{}; exec sleep 1000", words[2].as_str().unwrap());
    let component = json!({"start_command": ["sh", "-c", script],
                           "ready": {"command": ["test", "-e", "left"]}});
    stop(sprite("component", component).idle(), &mark("component"));
}
