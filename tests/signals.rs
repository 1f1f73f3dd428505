//! Signals reach the main process; a stop takes as long as it must and no longer.

use std::time::{Duration, Instant};

use crate::support::{Daemon, Sprite, json, pid_namespaces};

/// Says which signals it gets, in order.
const LISTENER: &str = "\
import signal
all = set(range(1, 32)) | set(range(34, 65))
all -= {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}
signal.pthread_sigmask(signal.SIG_BLOCK, all)
print('listening', flush=True)
while True:
    print('got', signal.sigwaitinfo(all).si_signo, flush=True)
";

fn forwards_everything(daemon: &mut Daemon) {
    daemon.wait_for("listening");
    // What means something to us is tested elsewhere: CHLD, TERM, INT, TSTP, TTIN, TTOU.
    let ours = [
        libc::SIGKILL,
        libc::SIGSTOP,
        libc::SIGCHLD,
        libc::SIGTERM,
        libc::SIGINT,
    ];
    let jobs = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
    let signals = (1..=31).chain(34..=64);
    for signal in signals.filter(|s| !ours.contains(s) && !jobs.contains(s)) {
        daemon.signal(signal);
        daemon.wait_for(&format!("got {signal}"));
    }
    daemon.terminate();
    daemon.wait_for("got 15");
    daemon.terminate();
    assert_eq!(daemon.wait(), 137);
}

#[test]
fn every_signal_is_forwarded() {
    let mut daemon = Sprite::new().command(&["python3", "-c", LISTENER]).start();
    forwards_everything(&mut daemon);
}

#[test]
fn every_signal_is_forwarded_by_pid_1() {
    if pid_namespaces() {
        let mut daemon = Sprite::new()
            .command(&["python3", "-c", LISTENER])
            .pid_1()
            .start();
        forwards_everything(&mut daemon);
    }
}

#[test]
fn queued_real_time_signals_are_all_forwarded() {
    let mut daemon = Sprite::new().command(&["python3", "-c", LISTENER]).start();
    daemon.wait_for("listening");
    for _ in 0..20 {
        daemon.signal(40);
    }
    daemon.wait_for_times("got 40", 20);
    daemon.terminate();
    daemon.wait_for("got 15");
    daemon.terminate();
    assert_eq!(daemon.wait(), 137);
}

#[test]
fn signals_can_be_mapped_and_dropped() {
    let config = json!({"signal_map": {"USR1": "USR2", "HUP": null, "TERM": "QUIT"}});
    check_mapping(Sprite::new().config(&config));
    // By a flag, in names and numbers; it replaces what the file says.
    let config = json!({"signal_map": {"TERM": "INT", "USR2": null}});
    let sprite = Sprite::new().config(&config);
    check_mapping(sprite.arg("--signal-map").arg("TERM:QUIT,SIGUSR1:12,1:0"));
}

fn check_mapping(sprite: Sprite) {
    let sprite = sprite.command(&["python3", "-c", LISTENER]);
    let mut daemon = sprite.start();
    daemon.wait_for("listening");
    daemon.signal(libc::SIGHUP);
    daemon.signal(libc::SIGUSR1);
    daemon.wait_for("got 12");
    daemon.terminate();
    daemon.wait_for("got 3");
    daemon.terminate();
    assert_eq!(daemon.wait(), 137);
    let text = daemon.output.text();
    assert!(
        !text.contains("got 10\n") && !text.contains("got 1\n"),
        "{text}"
    );
}

#[test]
fn a_suspended_process_goes_on_when_told() {
    let script = "trap 'echo continued; exit 4' CONT; echo up; while :; do sleep 0.1; done";
    let mut daemon = Sprite::new().script(script).api().start();
    daemon.wait_for("up");
    daemon.wait_running();
    let pid = daemon.client().status()["process"]["pid"].as_i64().unwrap();
    let state = |pid: i64| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
    };
    daemon.signal(libc::SIGTSTP);
    for stopped in [pid, i64::from(daemon.pid())] {
        while state(stopped) != 'T' {
            std::thread::yield_now();
        }
    }
    daemon.signal(libc::SIGCONT);
    daemon.wait_for("continued");
    assert_eq!(daemon.wait(), 4);
}

#[test]
fn a_process_that_ignores_the_stop_is_killed_at_the_grace() {
    let grace = Duration::from_secs(5);
    let script = "trap '' TERM; echo up; while :; do sleep 1; done";
    let sprite = Sprite::new()
        .script(script)
        .arg("-graceful-shutdown-timeout")
        .arg("5s");
    let mut daemon = sprite.start();
    daemon.wait_for("up");
    let start = Instant::now();
    daemon.terminate();
    assert_eq!(daemon.wait(), 137);
    let took = start.elapsed();
    // The issue of this promise names the bound: a fifth of the grace.
    let bound = grace..grace + grace / 5;
    assert!(
        bound.contains(&took),
        "{took:?}:
{}",
        daemon.output.text()
    );
}

#[test]
fn a_process_that_goes_at_once_is_not_waited_for() {
    let sprite = Sprite::new().command(&["sleep", "1000"]);
    let mut daemon = sprite.arg("-graceful-shutdown-timeout").arg("1h").start();
    daemon.wait_running();
    daemon.stop(143);
}

#[test]
fn a_second_signal_hurries_the_stop() {
    let script = "trap 'echo told' TERM; echo up; while :; do sleep 1 & wait $!; done";
    let sprite = Sprite::new()
        .script(script)
        .arg("-graceful-shutdown-timeout")
        .arg("1h");
    let mut daemon = sprite.start();
    daemon.wait_for("up");
    daemon.terminate();
    daemon.wait_for("told");
    daemon.signal(libc::SIGINT);
    assert_eq!(daemon.wait(), 137);
}

#[test]
fn children_get_the_signal_mask_that_we_found() {
    let script = "grep -E '^Sig(Blk|Ign)' /proc/self/status";
    let (code, text) = Sprite::new().script(script).run();
    assert_eq!(code, 0);
    let ours = std::process::Command::new("sh")
        .args(["-c", script])
        .output()
        .unwrap();
    // The two below SIGRTMIN belong to libc.
    let masks = |text: &str| -> Vec<(String, u64)> {
        let lines = text.lines().filter_map(|line| line.split_once(":\t"));
        let masks = lines.filter(|(name, _)| name.starts_with("Sig"));
        masks
            .map(|(name, mask)| {
                (
                    name.to_owned(),
                    u64::from_str_radix(mask, 16).unwrap() & !(3 << 31),
                )
            })
            .collect()
    };
    let ours = masks(&String::from_utf8(ours.stdout).unwrap());
    assert_eq!(ours.len(), 2);
    assert_eq!(masks(&text), ours);
}

#[test]
fn a_signal_can_go_to_the_process_alone() {
    let main = "sh -c 'trap \"echo the child heard it >>heard\" USR1; echo up >child; \
                while :; do sleep 0.01; done' & \
                trap 'echo the process heard it >>heard' USR1; echo up >main; \
                while :; do sleep 0.01; done";
    let heard = |sprite: Sprite, lines: usize| {
        let mut daemon = sprite.script(main).start();
        daemon.wait_running();
        let heard = daemon.sprite.path("heard");
        crate::support::wait_for_file(&daemon.sprite.path("child"));
        crate::support::wait_for_file(&daemon.sprite.path("main"));
        daemon.signal(libc::SIGUSR1);
        while crate::support::wait_for_file(&heard).lines().count() < lines {
            std::thread::yield_now();
        }
        // It takes SIGTERM as the process alone gets it; the sweep comes to the child.
        daemon.stop(143);
        std::fs::read_to_string(heard).unwrap()
    };
    let all = heard(Sprite::new(), 2);
    assert!(
        all.contains("the process heard it") && all.contains("the child heard it"),
        "{all}"
    );
    let alone = heard(Sprite::new().arg("-forward-to=process"), 1);
    assert_eq!(alone, "the process heard it\n");
}

#[test]
fn a_value_that_was_queued_with_a_signal_is_kept() {
    let main = r#"
import signal, os
signal.pthread_sigmask(signal.SIG_BLOCK, {40, signal.SIGUSR1})
open("up", "w").write("up")
import ctypes
class Info(ctypes.Structure):
    _fields_ = [("head", ctypes.c_int * 4), ("pid", ctypes.c_int), ("uid", ctypes.c_uint),
                ("value", ctypes.c_long), ("rest", ctypes.c_char * 96)]
libc, mask, info = ctypes.CDLL(None), (ctypes.c_ulong * 16)(), Info()
for number in (40, signal.SIGUSR1):
    libc.sigaddset(mask, number)
for _ in range(4):
    number = libc.sigwaitinfo(mask, ctypes.byref(info))
    open("values", "a").write("%d %d\n" % (number, info.value))
open("done", "w").write("done")
while True: signal.pause()
"#;
    let mut daemon = Sprite::new().command(&["python3", "-c", main]).start();
    daemon.wait_running();
    crate::support::wait_for_file(&daemon.sprite.path("up"));
    let pid = daemon.pid();
    let queue = format!(
        "import ctypes\nfor number, value in ((40, 7), (40, 2**40), (10, 9), (40, 8)):\n    \
         ctypes.CDLL(None).sigqueue({pid}, number, ctypes.c_void_p(value))"
    );
    let queued = std::process::Command::new("python3")
        .args(["-c", &queue])
        .status();
    assert!(queued.unwrap().success());
    crate::support::wait_for_file(&daemon.sprite.path("done"));
    let values = std::fs::read_to_string(daemon.sprite.path("values")).unwrap();
    let mut values: Vec<_> = values.lines().collect();
    // A standard signal comes before those of real time, whenever it was sent.
    values.sort_unstable();
    let mut wanted = vec![
        "40 7".to_owned(),
        format!("40 {}", 1_u64 << 40),
        "10 9".into(),
        "40 8".into(),
    ];
    wanted.sort_unstable();
    assert_eq!(values, wanted);
    daemon.stop(143);
}

#[test]
fn it_ends_with_its_parent_if_it_is_to() {
    // The parent is a shell that ends when its input does.
    let sprite = Sprite::new()
        .under(&["sh", "-c", "\"$@\" & echo $! >pid; sleep 0.3", "sh"])
        .arg("-parent-death-signal=TERM");
    let mut daemon = sprite.command(&["sleep", "1000"]).start();
    let pid = crate::support::wait_for_file(&daemon.sprite.path("pid"));
    daemon.wait();
    let pid: i32 = pid.trim().parse().unwrap();
    while crate::support::is_alive(pid) {
        std::thread::yield_now();
    }
    daemon.wait_for("signal 15: stopping");
    let (code, text) = Sprite::new()
        .arg("-parent-death-signal=NOPE")
        .script("exit 0")
        .run();
    assert_eq!(code, 78, "{text}");
    assert!(text.contains("\"NOPE\" is no signal"), "{text}");
}
