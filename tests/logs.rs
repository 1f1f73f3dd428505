//! What components write: for clients that ask and follow, and in files that do not grow for
//! ever.

use std::fs;

use crate::support::disk::Disk;
use crate::support::verbs::ask;
use crate::support::{Daemon, PATIENCE, Sprite, Value, json, wait_for_file_to_exist};

fn lines(daemon: &Daemon, query: &str) -> Vec<Value> {
    let answer = daemon.client().get(&format!("/logs?{query}"));
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.lines()
}

fn texts(lines: &[Value]) -> Vec<&str> {
    let texts = lines.iter().map(|line| line["line"].as_str().unwrap());
    texts.collect()
}

/// Two that talk when told to.
fn talkers() -> Value {
    let talker = |name: &str| {
        let script = format!(
            "echo {name} is up; mkfifo {name}; exec 3<>{name}; \
             while read -r line <&3; do echo \"$line\"; done"
        );
        json!({"start_command": ["sh", "-c", script]})
    };
    json!({"components": {"one": talker("one"), "two": talker("two")}})
}

fn say(daemon: &Daemon, name: &str, line: &str) {
    let path = daemon.sprite.path(name);
    wait_for_file_to_exist(&path);
    fs::write(path, format!("{line}\n")).unwrap();
}

#[test]
fn clients_read_what_was_written_and_follow_what_is() {
    let mut daemon = Sprite::new().config(&talkers()).idle();
    daemon.wait_for("[one] one is up");
    daemon.wait_for("[two] two is up");
    let all = lines(&daemon, "");
    assert_eq!(all.len(), 2);
    let mut ones = daemon
        .client()
        .stream("GET", "/logs?component=one&follow=true", &[], b"");
    let mut next = || {
        let line: Value = serde_json::from_str(&ones.next().unwrap()).unwrap();
        line["line"].as_str().unwrap().to_owned()
    };
    assert_eq!(next(), "one is up");
    say(&daemon, "two", "not for them");
    say(&daemon, "one", "for them");
    assert_eq!(next(), "for them");
    daemon.wait_for("[two] not for them");
    assert_eq!(
        texts(&lines(&daemon, "component=two&tail=1")),
        ["not for them"]
    );
    assert_eq!(lines(&daemon, "component=one&component=two").len(), 4);
    let line = &lines(&daemon, "component=two&tail=1")[0];
    assert_eq!(
        (&line["component"], &line["stream"]),
        (&json!("two"), &json!("stdout"))
    );
    let client = daemon.client();
    client
        .get("/logs?component=three")
        .assert_problem(404, "no component \"three\"");
    client
        .get("/logs?tail=few")
        .assert_problem(400, "is no number");
    client
        .get("/logs?last=1")
        .assert_problem(400, "there are component, tail and follow");
    // The command line prints them as the daemon does.
    let told = ask(client.base(), &["logs", "two", "--tail", "1"]);
    assert_eq!(
        String::from_utf8_lossy(&told.stdout),
        "[two] not for them\n"
    );
    let told = ask(client.base(), &["logs", "three"]);
    assert_eq!(told.status.code(), Some(1));
    daemon.stop(143);
}

#[test]
fn files_are_renamed_when_they_are_large_and_the_oldest_go() {
    let mut config = talkers();
    config["logs"] = json!({"dir": "logs", "size": "64K", "keep": 2});
    let mut daemon = Sprite::new().config(&config).idle();
    let long = "x".repeat(1000);
    for number in 0..400 {
        say(&daemon, "one", &format!("{number} {long}"));
    }
    say(&daemon, "one", "the last");
    daemon.wait_for("[one] the last");
    daemon.stop(143);
    let dir = daemon.sprite.path("logs");
    let mut names: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["one.log", "one.log.1", "one.log.2", "two.log"]);
    let text: String = ["one.log.2", "one.log.1", "one.log"]
        .map(|name| fs::read_to_string(dir.join(name)).unwrap())
        .concat();
    assert!(text.len() <= 3 * 64 * 1024);
    assert!(text.trim_end().ends_with("the last"));
    // None is missing between the oldest that is kept and the last.
    let numbers = text
        .lines()
        .filter_map(|line| line.split(' ').nth(1)?.parse::<u32>().ok());
    let numbers: Vec<_> = numbers.collect();
    assert!(numbers.len() > 100, "{}", numbers.len());
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
    assert_eq!(numbers.last(), Some(&399));
}

#[test]
fn a_full_disk_costs_lines_in_files_and_nothing_else() {
    let sprite = Sprite::new();
    let at = sprite.path("logs");
    fs::create_dir(&at).unwrap();
    let Some(disk) = Disk::in_memory(&at) else {
        return;
    };
    let mut config = talkers();
    config["logs"] = json!({"dir": "logs"});
    let mut daemon = sprite.config(&config).idle();
    say(&daemon, "one", "before");
    daemon.wait_for("[one] before");
    disk.leave(0);
    let long = "x".repeat(5000);
    for _ in 0..4 {
        say(&daemon, "one", &long);
    }
    daemon.wait_for("one.log: No space left on device");
    say(&daemon, "one", "meanwhile");
    daemon.wait_for("[one] meanwhile");
    disk.empty_again();
    let start = std::time::Instant::now();
    while !daemon.output.text().contains("is written again") {
        assert!(start.elapsed() < PATIENCE);
        say(&daemon, "one", "again");
    }
    daemon.stop(143);
    let text = fs::read_to_string(daemon.sprite.path("logs/one.log")).unwrap();
    assert!(
        text.contains("before") && text.trim_end().ends_with("again"),
        "{text}"
    );
}

#[test]
fn a_directory_that_cannot_be_made_is_told_at_the_start() {
    let sprite = Sprite::new();
    fs::write(sprite.path("file"), "").unwrap();
    let config = json!({"logs": {"dir": "file/logs"}});
    let (code, said) = sprite.config(&config).command(&["true"]).run();
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("logs.dir: cannot make"), "{said}");
    let config = json!({"logs": {"dir": "x", "size": "1K"}});
    let (code, said) = Sprite::new().config(&config).command(&["true"]).run();
    assert_eq!(code, 78);
    assert!(
        said.contains("logs.size: \"1K\" is no size of at least 64K"),
        "{said}"
    );
}
