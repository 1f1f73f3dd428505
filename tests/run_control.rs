//! The main process and the components are started, stopped, restarted and signalled
//! while the rest goes on, over the API and on the command line.

use crate::support::verbs::ask;
use crate::support::{Daemon, Sprite, Value, json, wait_for_file};

fn daemon(main: &str) -> Daemon {
    let config = json!({"components": {
        "db": {"start_command": ["sh", "-c", "trap 'echo hup >>db' HUP; echo up >db-up; while :; do sleep 0.02; done"],
               "on_failure": "restart"},
        "cache": {"start_command": ["sleep", "1000"], "needs": ["db"]},
    }});
    let daemon = Sprite::new().config(&config).script(main).api().start();
    daemon.wait_running();
    daemon
}

fn post(daemon: &Daemon, path: &str) -> Value {
    let answer = daemon
        .client()
        .post(&format!("{path}?wait=60s"), &json!({}));
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    answer.json()
}

fn pid(daemon: &Daemon, pointer: &str) -> i64 {
    let status = daemon.client().status();
    let pid = status.pointer(pointer).and_then(Value::as_i64);
    pid.unwrap_or_else(|| panic!("no {pointer} in {status}"))
}

#[test]
fn the_main_process_is_stopped_and_started_while_the_rest_goes_on() {
    let mut daemon = daemon("echo run >>runs; exec sleep 1000");
    let db = pid(&daemon, "/components/db/pid");
    let first = pid(&daemon, "/process/pid");
    let session = daemon
        .client()
        .exec_stream(&json!({"command": ["sh", "-c", "echo up; sleep 1000"]}));
    let mut session = session;
    assert_eq!(session.next().unwrap()["data"], "up\n");
    let restarted = post(&daemon, "/process/restart");
    assert_eq!(restarted["process"]["starts"], 2);
    assert_ne!(pid(&daemon, "/process/pid"), first);
    post(&daemon, "/process/stop");
    let status = daemon.client().status();
    assert_eq!(status["state"], "Online > Parked");
    assert!(status["process"]["pid"].is_null());
    daemon.client().get("/readyz").assert_problem(503, "Parked");
    // It is down already.
    let again = daemon.client().post("/process/stop", &json!({}));
    again.assert_problem(409, "not possible while the system is Online > Parked");
    post(&daemon, "/process/start");
    assert_eq!(
        pid(&daemon, "/components/db/pid"),
        db,
        "nothing else was touched"
    );
    daemon
        .client()
        .wait_status(|status| status["process"]["starts"] == 3);
    assert_eq!(
        daemon.client().get("/exec").json()["sessions"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    daemon.stop(143);
}

#[test]
fn a_component_is_stopped_started_and_restarted_while_the_rest_goes_on() {
    let mut daemon = daemon("exec sleep 1000");
    let main = pid(&daemon, "/process/pid");
    let cache = pid(&daemon, "/components/cache/pid");
    let db = pid(&daemon, "/components/db/pid");
    let restarted = post(&daemon, "/components/db/restart");
    assert_eq!(restarted["component"]["state"], "Up > Ready");
    assert_ne!(pid(&daemon, "/components/db/pid"), db);
    post(&daemon, "/components/db/stop");
    let status = daemon.client().status();
    assert_eq!(status["state"], "Online > Serving > Degraded");
    assert_eq!(status["components"]["db"]["state"], "Stopped");
    // What needed it goes on, as it does when it dies.
    assert_eq!(pid(&daemon, "/components/cache/pid"), cache);
    post(&daemon, "/components/db/stop");
    post(&daemon, "/components/db/start");
    assert_eq!(
        daemon.client().status()["state"],
        "Online > Serving > Running"
    );
    assert_eq!(pid(&daemon, "/process/pid"), main);
    let one = daemon.client().get("/components/db").json();
    assert_eq!(
        one["pid"],
        daemon.client().get("/components").json()["db"]["pid"]
    );
    post(&daemon, "/components/db/stop");
    daemon.stop(143);
}

#[test]
fn signals_are_sent_to_the_process_and_to_components() {
    let mut daemon =
        daemon("trap 'echo usr1 >main' USR1; echo up >main-up; while :; do sleep 0.02; done");
    wait_for_file(&daemon.sprite.path("main-up"));
    wait_for_file(&daemon.sprite.path("db-up"));
    let send = |path: &str, signal: Value| {
        let answer = daemon.client().post(path, &json!({"signal": signal}));
        assert_eq!(answer.status, 200, "{}", answer.text);
    };
    send("/process/signal", json!("SIGUSR1"));
    assert_eq!(wait_for_file(&daemon.sprite.path("main")), "usr1\n");
    send("/components/db/signal", json!(1));
    assert_eq!(wait_for_file(&daemon.sprite.path("db")), "hup\n");
    daemon.stop(143);
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let daemon = daemon("exec sleep 1000");
    let client = daemon.client();
    let post = |path: &str, body: Value| client.post(path, &body);
    post("/components/dbb/stop", json!({})).assert_problem(404, "there are cache, db");
    post("/components/db/stop?wait=soon", json!({})).assert_problem(400, "a duration such as");
    post("/components/db/signal", json!({"signal": "NOPE"})).assert_problem(400, "is no signal");
    post("/components/db/signal", json!({})).assert_problem(400, "{\"signal\": \"HUP\"}");
    post("/process/start", json!({})).assert_problem(409, "not possible while the system is");
    post("/process/signal", json!({"signal": 99})).assert_problem(400, "is no signal");
    assert_eq!(client.get("/components/db/stop").status, 405);
    post("/components/cache/stop?wait=60s", json!({}));
    let gone = post("/components/cache/signal", json!({"signal": "HUP"}));
    gone.assert_problem(409, "does not run");
    let status = client.status();
    assert_eq!(status["components"]["db"]["starts"], 1);
}

#[test]
fn what_does_not_come_up_is_told() {
    let config = json!({"components": {"c": {
        "start_command": ["sh", "-c", "[ ! -e broken ] && exec sleep 1000; exit 5"],
        "ready": {"command": ["test", "!", "-e", "broken"]},
        "on_failure": "ignore",
    }}});
    let daemon = Sprite::new().config(&config).idle();
    std::fs::write(daemon.sprite.path("broken"), "").unwrap();
    let answer = daemon
        .client()
        .post("/components/c/restart?wait=60s", &json!({}));
    answer.assert_problem(500, "c ended: exit code 5");
    let late = daemon
        .client()
        .post("/components/c/start?wait=1ns", &json!({}));
    assert!([500, 504].contains(&late.status), "{}", late.text);
}

#[test]
fn a_process_that_was_stopped_does_not_hold_up_the_end() {
    let mut daemon = daemon("trap 'exit 5' TERM; echo up >main-up; while :; do sleep 0.02; done");
    wait_for_file(&daemon.sprite.path("main-up"));
    post(&daemon, "/process/stop");
    daemon.stop(5);
}

#[test]
fn the_end_comes_also_to_what_is_being_stopped_on_request() {
    let config = json!({"components": {"stubborn": {
        "start_command": ["sh", "-c", "trap '' TERM; touch up; while :; do sleep 0.02; done"],
        "ready": {"command": ["test", "-e", "up"]}, "stop_timeout": "1000s",
    }}});
    let mut daemon = Sprite::new().config(&config).idle();
    let told = daemon
        .client()
        .post("/components/stubborn/stop", &json!({}));
    assert_eq!(told.status, 200);
    daemon.client().wait_component("stubborn", "Terminating");
    daemon.terminate();
    daemon.wait_for("StoppingComponents");
    daemon.terminate();
    assert_eq!(daemon.wait(), 143);
}

#[test]
fn the_command_line_does_the_same() {
    let daemon = daemon("exec sleep 1000");
    let run = |words: &[&str]| {
        let output = ask(daemon.client().base(), words);
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap(),
            String::from_utf8(text).unwrap(),
        )
    };
    let (code, text) = run(&["components", "list"]);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("db") && text.contains("Up > Ready, pid "),
        "{text}"
    );
    let (code, text) = run(&["components", "restart", "db"]);
    assert!(code == 0 && text.contains("started 2 times"), "{text}");
    let (code, text) = run(&["components", "stop", "db", "--json"]);
    assert!(code == 0 && text.contains("\"Stopped\""), "{text}");
    let (code, text) = run(&["components", "start", "db", "--wait", "0"]);
    assert!(code == 0 && text.contains("is told"), "{text}");
    daemon.client().wait_component("db", "Ready");
    let (code, text) = run(&["components", "signal", "db", "HUP"]);
    assert!(code == 0 && text.contains("Signal 1 is sent"), "{text}");
    let (code, text) = run(&["process", "restart"]);
    assert!(code == 0 && text.contains("Up > Running"), "{text}");
    let (code, text) = run(&["process", "stop"]);
    assert!(code == 0 && text.contains("Down > Stopped"), "{text}");
    let (code, text) = run(&["process", "stop"]);
    assert!(code == 1 && text.contains("not possible while"), "{text}");
    let (code, text) = run(&["process", "start"]);
    assert_eq!(code, 0, "{text}");
    let (code, text) = run(&["components", "stop", "nothing"]);
    assert!(
        code == 1 && text.contains("there is no component"),
        "{text}"
    );
    let (code, _) = run(&["components", "stop"]);
    assert_eq!(code, 64);
    let (code, text) = run(&["process", "stop", "--server", "http://127.0.0.1:1"]);
    assert!(code == 69 && text.contains("no answer"), "{text}");
}
