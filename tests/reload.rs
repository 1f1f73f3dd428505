//! The configuration is read again while everything runs: what has changed is changed, and
//! the rest is not touched.

use std::collections::BTreeMap;

use crate::support::verbs::{ask, verb};
use crate::support::{
    Daemon, Sprite, Value, json, wait_for_file, wait_for_file_to_exist, wait_for_text,
};

/// Two services, one of which needs the other, and one beside them.
pub fn config() -> Value {
    json!({
        "process_command": ["sh", "-c", "echo $ROLE >>runs; exec sleep 1000"],
        "process_environment": {"ROLE": "first"},
        "components": {
            "db": {"start_command": ["sh", "-c", "echo db-one >>starts; exec sleep 1000"]},
            "old": {"start_command": ["sleep", "1000"]},
            "web": {"start_command": ["sleep", "1000"], "needs": ["db"]},
        },
        // Where a new start would look for it is not where we are once we run.
        "fs": {"root": "."},
    })
}

pub fn start(config: &Value) -> Daemon {
    let daemon = begin(Sprite::new(), config);
    daemon.wait_running();
    daemon
}

fn begin(sprite: Sprite, config: &Value) -> Daemon {
    write(&sprite, config);
    sprite.arg("-config").arg("config.json").api().start()
}

pub fn write(sprite: &Sprite, config: &Value) {
    std::fs::write(sprite.path("config.json"), config.to_string()).unwrap();
}

pub fn reload(daemon: &Daemon, query: &str) -> Value {
    let answer = daemon
        .client()
        .post(&format!("/config/reload?{query}"), &json!({}));
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// What is done with each, by name.
pub fn actions(answer: &Value) -> BTreeMap<String, String> {
    let components = answer["changes"]["components"].as_object().unwrap();
    let action = |change: &Value| change["action"].as_str().unwrap().to_owned();
    let mut all: BTreeMap<_, _> = components
        .iter()
        .map(|(name, change)| (name.clone(), action(change)))
        .collect();
    all.insert("process".to_owned(), action(&answer["changes"]["process"]));
    all
}

fn named(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, action)| ((*name).to_owned(), (*action).to_owned()))
        .collect()
}

pub fn pids(daemon: &Daemon, names: &[&str]) -> Vec<i64> {
    let status = daemon.client().status();
    let components = names.iter().map(|name| &status["components"][name]);
    let parts = components.chain([&status["process"]]);
    parts.map(|part| part["pid"].as_i64().unwrap()).collect()
}

#[test]
fn what_has_changed_is_changed_and_the_rest_goes_on() {
    let mut daemon = start(&config());
    let before = pids(&daemon, &["web"]);
    let mut new = config();
    let components = new["components"].as_object_mut().unwrap();
    components.remove("old");
    // It comes before all others: every place changes.
    components.insert(
        "aa".to_owned(),
        json!({"start_command": ["sleep", "1000"], "needs": ["db"]}),
    );
    components["db"]["start_command"][2] = json!("echo db-two >>starts; exec sleep 1000");
    components["web"]["stop_timeout"] = json!("3s");
    write(&daemon.sprite, &new);
    let expected = named(&[
        ("aa", "added"),
        ("db", "restarted"),
        ("old", "removed"),
        ("process", "unchanged"),
        ("web", "adjusted"),
    ]);
    let planned = reload(&daemon, "dry_run=1");
    assert_eq!(planned["status"], "planned");
    assert_eq!(actions(&planned), expected);
    let names = |daemon: &Daemon| {
        let status = daemon.client().status();
        let components = status["components"].as_object().unwrap();
        components.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(names(&daemon), ["db", "old", "web"], "nothing was done");
    let done = reload(&daemon, "wait=60s");
    assert_eq!(
        (&done["status"], actions(&done)),
        (&json!("done"), expected)
    );
    let changes = &done["changes"]["components"];
    assert_eq!(changes["db"]["changed"], json!(["start_command"]));
    assert_eq!(changes["web"]["changed"], json!(["stop_timeout"]));
    assert_eq!(names(&daemon), ["aa", "db", "web"]);
    let status = daemon.client().status();
    assert_eq!(status["state"], "Online > Serving > Running");
    assert_eq!(status["components"]["db"]["starts"], 2);
    assert_eq!(pids(&daemon, &["web"]), before, "they were not touched");
    let starts = daemon.sprite.path("starts");
    wait_for_text(&starts, |text| text == "db-one\ndb-two\n");
    // Those whose places have changed are still the same to whoever asks for them.
    let stopped = daemon
        .client()
        .post("/components/web/stop?wait=60s", &json!({}));
    assert_eq!(stopped.json()["component"]["state"], "Stopped");
    let gone = daemon.client().post("/components/old/stop", &json!({}));
    gone.assert_problem(404, "there are aa, db, web");
    // The journal of what came since can be replayed: that is done when it has ended.
    daemon.stop(143);
}

#[test]
fn the_main_process_is_restarted_if_it_would_run_otherwise() {
    let mut daemon = start(&config());
    assert!(wait_for_file(&daemon.sprite.path("runs")).starts_with("first"));
    let components = pids(&daemon, &["db", "old", "web"]);
    let mut new = config();
    new["process_environment"]["ROLE"] = json!("second");
    new["exec"] = json!({"wrapper_command": ["env", "WRAPPED=yes"]});
    write(&daemon.sprite, &new);
    let done = reload(&daemon, "wait=60s");
    assert_eq!(actions(&done)["process"], "restarted");
    let changed = &done["changes"]["process"]["changed"];
    assert_eq!(changed, &json!(["process_environment"]));
    let taken_over = &done["changes"]["taken_over"];
    assert_eq!(taken_over, &json!(["exec.wrapper_command"]));
    let now = pids(&daemon, &["db", "old", "web"]);
    assert_eq!(now[..3], components[..3]);
    assert_ne!(now[3], components[3]);
    // Commands run as it does now.
    let told = daemon.client().sh("echo $ROLE $WRAPPED");
    assert_eq!(told.stdout, "second yes\n");
    daemon.stop(143);
}

#[test]
fn a_signal_that_is_mapped_to_it_reloads() {
    let mut with_map = config();
    with_map["signal_map"] = json!({"HUP": "reload"});
    let mut daemon = start(&with_map);
    let mut new = with_map.clone();
    new["components"].as_object_mut().unwrap().remove("old");
    new["sprite_name"] = json!("another");
    write(&daemon.sprite, &new);
    daemon.signal(libc::SIGHUP);
    daemon.wait_for("the configuration is reloaded: old removed");
    daemon.wait_for("sprite_name has changed: that needs a new start");
    // One that is wrong is told where people look.
    std::fs::write(daemon.sprite.path("config.json"), "nonsense").unwrap();
    daemon.signal(libc::SIGHUP);
    let status = daemon.client().wait_status(|status| {
        let why = status["last_failure"].as_str();
        why.is_some_and(|why| why.contains("is not reloaded"))
    });
    assert_eq!(status["state"], "Online > Serving > Running");
    // From now on it is the main process's: the map is reloaded too.
    write(&daemon.sprite, &config());
    reload(&daemon, "wait=60s");
    daemon.signal(libc::SIGHUP);
    assert_eq!(daemon.wait(), 129);
}

#[test]
fn the_command_line_shows_what_is_planned_and_done() {
    let mut daemon = start(&config());
    let server = daemon.client().base().to_owned();
    let mut new = config();
    new["components"]["web"]["environment"] = json!({"SECRET": "hidden"});
    new["api_listen_addr"] = json!("127.0.0.1:1");
    write(&daemon.sprite, &new);
    let told = |words: &[&str]| {
        let output = ask(&server, words);
        let text = String::from_utf8(output.stdout).unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), text, error)
    };
    let (code, plan, _) = told(&["config", "reload", "--dry-run"]);
    assert_eq!(code, 0);
    let line = plan.lines().find(|line| line.starts_with("web")).unwrap();
    assert!(line.ends_with("restarted: environment"), "{plan}");
    assert!(!plan.contains("hidden"));
    let web = pids(&daemon, &["web"]);
    let (code, done, _) = told(&["config", "reload"]);
    assert_eq!((code, &done), (0, &plan));
    assert_ne!(pids(&daemon, &["web"])[0], web[0]);
    std::fs::write(daemon.sprite.path("config.json"), "{}").unwrap();
    let (code, _, error) = told(&["config", "reload"]);
    assert_eq!(code, 1);
    assert!(error.contains("no process_command"), "{error}");
    let (code, _, error) = told(&["config", "reload", "--server", "unix:/nowhere"]);
    assert_eq!(code, 69, "{error}");
    let (code, _, error) = told(&["config", "reload", "--dry"]);
    assert_eq!(code, 64, "{error}");
    daemon.stop(143);
}

#[test]
fn a_component_that_had_given_up_is_tried_by_its_new_rules() {
    let mut broken = config();
    broken["components"]["old"] = json!({
        "start_command": ["sh", "-c", "echo try >>tries; test -e mended && exec sleep 1000"],
        "on_failure": "ignore",
    });
    let mut daemon = begin(Sprite::new(), &broken);
    daemon.wait_for("the system is Online > Serving > Degraded");
    daemon.client().wait_component("old", "Failed");
    let db = pids(&daemon, &["db"]);
    // Nothing about it has changed: it stays as it is.
    reload(&daemon, "wait=60s");
    daemon.client().wait_component("old", "Failed");
    broken["components"]["old"]["on_failure"] = json!("restart");
    broken["components"]["old"]["backoff"] =
        json!({"min": "1ms", "max": "1ms", "max_restarts": 200});
    write(&daemon.sprite, &broken);
    let answer = reload(&daemon, "");
    assert_eq!(actions(&answer)["old"], "adjusted");
    std::fs::write(daemon.sprite.path("mended"), "").unwrap();
    daemon.client().wait_component("old", "Up > Ready");
    let status = daemon
        .client()
        .wait_status(|status| status["state"] == "Online > Serving > Running");
    assert_eq!(status["components"]["db"]["pid"], db[0]);
    daemon.stop(143);
}

#[test]
fn sockets_stay_open_while_their_component_changes() {
    let mut with_socket = config();
    with_socket["components"]["db"]["listen"] = json!(["unix:db.socket"]);
    let mut daemon = start(&with_socket);
    wait_for_file_to_exist(&daemon.sprite.path("starts"));
    // It takes nobody in; whoever comes waits for the next that has the socket.
    let path = daemon.sprite.path("db.socket");
    let client = std::os::unix::net::UnixStream::connect(&path).unwrap();
    with_socket["components"]["db"]["start_command"] = json!([
        "python3",
        "-c",
        "import socket, os\n\
         s = socket.socket(fileno=3); c, _ = s.accept(); c.sendall(os.environ['LISTEN_FDS'].encode())\n\
         c.close(); s.accept()"
    ]);
    with_socket["components"]["db"]["listen"] = json!(["unix:db.socket", "unix:more.socket"]);
    write(&daemon.sprite, &with_socket);
    reload(&daemon, "wait=60s");
    let mut said = String::new();
    std::io::Read::read_to_string(&mut &client, &mut said).unwrap();
    assert_eq!(said, "2");
    daemon.stop(143);
}

#[test]
fn checkpoints_and_restores_know_the_components_of_now() {
    let mut config = config();
    config["components"]["db"]["checkpoint_command"] =
        json!(["sh", "-c", "echo one >\"$CHECKPOINT_DIR/dump\""]);
    let mut daemon = begin(Sprite::new().storage(), &config);
    daemon.wait_running();
    config["components"]["db"]["checkpoint_command"][2] =
        json!("echo two >\"$CHECKPOINT_DIR/dump\"");
    config["components"]["db"]["restore_command"] =
        json!(["sh", "-c", "cp \"$CHECKPOINT_DIR/dump\" restored"]);
    config["components"]["db"]["working_dir"] = json!(daemon.sprite.path(""));
    write(&daemon.sprite, &config);
    assert_eq!(actions(&reload(&daemon, "wait=60s"))["db"], "restarted");
    let id = daemon.client().checkpoint();
    daemon.client().restore(&id);
    assert_eq!(wait_for_file(&daemon.sprite.path("restored")), "two\n");
    let listed = verb(&daemon, &["list"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains(&id));
    let status = daemon.client().status();
    assert_eq!(status["components"].as_object().unwrap().len(), 3);
    daemon.stop(143);
}

#[test]
fn secrets_are_still_hidden_from_everybody_and_known_to_us() {
    let mut daemon = start(&config());
    let pid = daemon.pid();
    let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    assert!(!String::from_utf8_lossy(&environ).contains("test-token"));
    let told = daemon.client().sh("env; cat /proc/self/environ");
    assert!(!told.stdout.contains("test-token"));
    reload(&daemon, "wait=60s");
    daemon.stop(143);
}

#[test]
fn one_that_had_failed_is_started_when_it_was_mended() {
    let mut broken = config();
    broken["components"]["old"] = json!({"start_command": ["false"], "on_failure": "ignore"});
    let mut daemon = begin(Sprite::new(), &broken);
    daemon.wait_for("the system is Online > Serving > Degraded");
    broken["components"]["old"]["start_command"] = json!(["sleep", "1000"]);
    // What somebody has stopped stays so.
    broken["components"]["web"]["start_command"] = json!(["sleep", "2000"]);
    let client = daemon.client();
    client.post("/components/web/stop?wait=60s", &json!({}));
    write(&daemon.sprite, &broken);
    let done = reload(&daemon, "wait=60s");
    assert_eq!(actions(&done)["old"], "restarted");
    let components = &client.status()["components"];
    assert_eq!(components["old"]["state"], "Up > Ready");
    assert_eq!(components["web"]["state"], "Stopped");
    daemon.stop(143);
}

#[test]
fn what_needs_a_new_start_is_told_until_then() {
    let mut daemon = start(&config());
    let journal = || daemon.client().get("/journal").text.lines().count();
    let before = journal();
    reload(&daemon, "");
    assert_eq!(
        journal(),
        before,
        "nothing has changed, so it is not begun anew"
    );
    let mut new = config();
    new["sprite_name"] = json!("another");
    new["components"]["web"]["stop_timeout"] = json!("3s");
    write(&daemon.sprite, &new);
    let listed = json!(["sprite_name"]);
    assert_eq!(reload(&daemon, "")["changes"]["not_taken_over"], listed);
    assert_eq!(reload(&daemon, "")["changes"]["not_taken_over"], listed);
    new.as_object_mut().unwrap().remove("sprite_name");
    write(&daemon.sprite, &new);
    assert_eq!(reload(&daemon, "")["changes"]["not_taken_over"], json!([]));
    daemon.stop(143);
}
