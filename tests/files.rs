//! Files over the API: whole or not at all, below one root, errors with their names.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::support::http::{Answer, Client};
use crate::support::socket::Came;
use crate::support::{Daemon, Sprite, TOKEN, Value, is_root, json};

/// A daemon whose clients see `root` in the test's directory as `/`.
fn rooted() -> Daemon {
    let sprite = Sprite::new();
    fs::create_dir(sprite.path("root")).unwrap();
    let root = sprite.path("root");
    let config = json!({"fs": {"root": root.to_str().unwrap()}});
    sprite.config(&config).idle()
}

fn put(client: &Client, query: &str, body: &[u8]) -> Answer {
    client.request("PUT", &format!("/fs/write?{query}"), body)
}

/// That this is an error of a file, with that status, code and path.
fn assert_failure(answer: &Answer, status: u16, code: &str, path: &str) {
    assert_eq!(answer.status, status, "{}", answer.text);
    let error = answer.json();
    assert_eq!(
        (error["code"].as_str(), error["path"].as_str()),
        (Some(code), Some(path))
    );
    assert!(
        error["error"].as_str().unwrap().contains("cannot "),
        "{error}"
    );
}

#[test]
fn no_path_leads_out_of_the_root() {
    let mut daemon = rooted();
    let client = daemon.client();
    let (root, outside) = (daemon.sprite.path("root"), daemon.sprite.path("secret"));
    fs::write(&outside, "secret").unwrap();
    symlink(&outside, root.join("absolute")).unwrap();
    symlink("../secret", root.join("relative")).unwrap();
    symlink("..", root.join("up")).unwrap();
    symlink("/", root.join("top")).unwrap();
    fs::write(root.join("inside"), "inside").unwrap();
    let escapes = [
        "/../secret",
        "/absolute",
        "/relative",
        "/up/secret",
        "../../secret",
    ];
    for path in escapes {
        let read = client.get(&format!("/fs/read?path={path}&workingDir=/"));
        assert_eq!(read.status, 404, "{path}: {}", read.text);
        assert_ne!(read.text, "secret");
    }
    // Links lead where they would if the root were the root.
    assert_eq!(client.get("/fs/read?path=/top/inside").text, "inside");
    assert_eq!(client.get("/fs/read?path=/up/up/inside").text, "inside");
    for path in escapes {
        put(
            &client,
            &format!("path={path}&mkdirParents=true"),
            b"overwritten",
        );
        client.request("DELETE", &format!("/fs/delete?path={path}"), b"");
    }
    assert_eq!(fs::read_to_string(&outside).unwrap(), "secret");
    let body = json!({"source": "/absolute", "dest": "/stolen"});
    client.post("/fs/copy", &body);
    assert!(
        !root.join("stolen").is_file()
            || !fs::read_to_string(root.join("stolen"))
                .unwrap()
                .contains("secret")
    );
    daemon.stop(143);
}

#[test]
fn a_write_is_whole_or_not_at_all() {
    use std::io::{Read as _, Write as _};
    let mut daemon = rooted();
    let client = daemon.client();
    let root = daemon.sprite.path("root");
    let written = put(&client, "path=/file&mode=0600", b"first").json();
    assert_eq!(written, json!({"path": "/file", "size": 5, "mode": "0600"}));
    // A client that vanishes in the middle of a body.
    let address = client.base().strip_prefix("http://").unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let head = format!(
        "PUT /fs/write?path=/file HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Length: 1000000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&[b'x'; 5000]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert_eq!(fs::read_to_string(root.join("file")).unwrap(), "first");
    let names: Vec<_> = fs::read_dir(&root)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, ["file"], "nothing is left behind");
    // Permissions stay unless others are given, and a link is written through.
    symlink("file", root.join("link")).unwrap();
    put(&client, "path=/link", b"second");
    assert!(root.join("link").is_symlink());
    let meta = fs::metadata(root.join("file")).unwrap();
    assert_eq!((meta.len(), meta.permissions().mode() & 0o777), (6, 0o600));
    daemon.stop(143);
}

#[test]
fn what_is_wrong_is_said_by_its_name() {
    let mut daemon = rooted();
    let client = daemon.client();
    let root = daemon.sprite.path("root");
    fs::create_dir_all(root.join("dir/sub")).unwrap();
    fs::write(root.join("file"), "").unwrap();
    let get = |path: &str| client.get(&format!("/fs/{path}"));
    assert_failure(&get("read?path=/none"), 404, "ENOENT", "/none");
    assert_failure(&get("read?path=/dir"), 400, "EISDIR", "/dir");
    assert_failure(&get("read?path=/file/x"), 400, "ENOTDIR", "/file/x");
    assert_failure(&get("read"), 400, "EINVAL", "");
    assert_failure(&get("list?path=/none&workingDir=/"), 404, "ENOENT", "/none");
    assert_eq!(get("read?path=/a%00b").status, 400);
    assert_failure(&put(&client, "path=/dir", b""), 400, "EISDIR", "/dir");
    assert_failure(
        &put(&client, "path=/no/dir/file", b""),
        404,
        "ENOENT",
        "/no/dir/file",
    );
    assert_failure(&put(&client, "path=/x&mode=rw", b""), 400, "EINVAL", "/x");
    let delete = client.request("DELETE", "/fs/delete?path=/dir", b"");
    assert_failure(&delete, 409, "ENOTEMPTY", "/dir");
    assert_eq!(
        client.request("DELETE", "/fs/delete?path=/", b"").status,
        400
    );
    for (verb, body, status) in [
        ("copy", json!({"source": "/dir", "dest": "/else"}), 400),
        (
            "copy",
            json!({"source": "/dir", "dest": "/dir/sub", "recursive": true}),
            400,
        ),
        ("copy", json!({"source": "/none", "dest": "/else"}), 404),
        ("rename", json!({"source": "/none", "dest": "/else"}), 404),
        ("chmod", json!({"path": "/file", "mode": "rwx"}), 400),
        ("chmod", json!({"path": "/none", "mode": "0644"}), 404),
        (
            "chown",
            json!({"path": "/file", "uid": "nobody-of-that-name"}),
            400,
        ),
        ("chown", json!({"path": "/file"}), 400),
    ] {
        let answer = client.post(&format!("/fs/{verb}"), &body);
        assert_eq!(answer.status, status, "{verb} {body}: {}", answer.text);
        assert!(answer.json()["code"].is_string());
    }
    assert!(root.join("dir/sub").exists() && !root.join("else").exists());
    daemon.stop(143);
}

#[test]
fn lists_and_ranges() {
    let mut daemon = rooted();
    let client = daemon.client();
    let root = daemon.sprite.path("root");
    fs::create_dir_all(root.join("z/inner")).unwrap();
    fs::write(root.join("a.txt"), "0123456789").unwrap();
    fs::write(root.join("z/inner/b.txt"), "").unwrap();
    symlink("a.txt", root.join("link")).unwrap();
    let names = |query: &str| {
        let list = client.get(&format!("/fs/list?{query}")).json();
        let entries = list["entries"].as_array().unwrap().clone();
        assert_eq!(list["count"], entries.len());
        let names = entries
            .iter()
            .map(|entry| entry["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names("path=/"), ["z", "a.txt", "link"]);
    assert_eq!(
        names("path=/&recursive=true"),
        ["z", "inner", "a.txt", "link", "b.txt"]
    );
    assert_eq!(
        names("path=/&recursive=true&pattern=*.txt"),
        ["a.txt", "b.txt"]
    );
    assert!(names("path=z/inner/../inner&pattern=none").is_empty());
    let one = client.get("/fs/list?path=a.txt").json()["entries"][0].clone();
    assert_eq!(
        (&one["type"], &one["size"], &one["isDir"]),
        (&json!("file"), &json!(10), &json!(false))
    );
    assert_eq!(
        (&one["path"], &one["mode"]),
        (&json!("/a.txt"), &json!("0644"))
    );
    assert!(one["modTime"].as_str().unwrap().ends_with('Z'));
    let bearer = format!("Bearer {TOKEN}");
    let range = |range: &str| {
        let headers = [("authorization", bearer.as_str()), ("range", range)];
        let answer = client.send("GET", "/fs/read?path=/a.txt", &headers, b"");
        (answer.status, answer.text)
    };
    assert_eq!(range("bytes=2-4"), (206, "234".to_owned()));
    assert_eq!(range("bytes=-1"), (206, "9".to_owned()));
    assert_eq!(range("bytes=10-"), (416, String::new()));
    assert_eq!(range("lines=1"), (200, "0123456789".to_owned()));
    daemon.stop(143);
}

#[test]
fn large_files_stream_in_constant_memory() {
    let mut daemon = rooted();
    let client = daemon.client();
    let file = fs::File::create(daemon.sprite.path("root/large")).unwrap();
    file.set_len(1 << 30).unwrap();
    let script = "curl -sS -H \"Authorization: Bearer $T\" \"$B/fs/read?path=/large\" \
                  | curl -sS -H \"Authorization: Bearer $T\" -T - \"$B/fs/write?path=/copy\"";
    let output = std::process::Command::new("sh")
        .args(["-c", script])
        .env("B", client.base())
        .env("T", TOKEN)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        fs::metadata(daemon.sprite.path("root/copy")).unwrap().len(),
        1 << 30
    );
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    let kilobytes: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kilobytes < 60_000, "{peak}");
    daemon.stop(143);
}

#[test]
fn what_is_made_belongs_to_the_environments_user() {
    use std::os::unix::fs::MetadataExt as _;
    if !is_root() {
        crate::support::skipped("only root can give files away");
        return;
    }
    let sprite = Sprite::new();
    let config = json!({"process_user": "65534:65534"});
    let mut daemon = sprite.config(&config).idle();
    let client = daemon.client();
    let dir = daemon.sprite.path("made/deep");
    let query = format!("path={}/file&mkdirParents=true", dir.display());
    assert_eq!(put(&client, &query, b"").status, 200);
    for path in [dir.clone(), dir.join("file")] {
        assert_eq!(fs::metadata(path).unwrap().uid(), 65534);
    }
    put(
        &client,
        &format!("path={}/roots&asRoot=true", dir.display()),
        b"",
    );
    assert_eq!(fs::metadata(dir.join("roots")).unwrap().uid(), 0);
    daemon.stop(143);
}

#[test]
fn changes_are_told_and_bad_subscriptions_refused() {
    let mut daemon = rooted();
    let client = daemon.client();
    let root = daemon.sprite.path("root");
    fs::create_dir(root.join("dir")).unwrap();
    let mut socket = client.socket("/fs/watch").unwrap();
    for (bad, needle) in [
        ("no json", "no subscription"),
        ("{\"type\": \"subscribe\"}", "send {"),
        (
            "{\"type\": \"subscribe\", \"paths\": [\"/none\"]}",
            "no such file",
        ),
    ] {
        socket.text(bad);
        match socket.next() {
            Came::Text(error) if error["type"] == "error" => {
                assert!(
                    error["message"].as_str().unwrap().contains(needle),
                    "{error}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
    socket.json(&json!({"type": "subscribe", "paths": ["dir"], "recursive": true}));
    let subscribed = json!({"type": "subscribed", "paths": ["dir"]});
    assert_eq!(socket.next(), Came::Text(subscribed));
    fs::write(root.join("dir/new"), "x").unwrap();
    fs::remove_file(root.join("dir/new")).unwrap();
    let mut seen: Vec<Value> = Vec::new();
    while !seen.iter().any(|event| event["event"] == "remove") {
        match socket.next() {
            Came::Text(event) => seen.push(event),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        (&seen[0]["event"], &seen[0]["path"]),
        (&json!("create"), &json!("/dir/new"))
    );
    assert!(seen.iter().any(|event| event["event"] == "write"));
    daemon.stop(143);
}

#[test]
fn a_copy_takes_nothing_away() {
    let mut daemon = rooted();
    let client = daemon.client();
    let root = daemon.sprite.path("root");
    fs::create_dir(root.join("dir")).unwrap();
    fs::write(root.join("dir/file"), "kept").unwrap();
    symlink("dir/file", root.join("link")).unwrap();
    fs::hard_link(root.join("dir/file"), root.join("same")).unwrap();
    for (source, dest) in [
        ("/dir/file", "/dir/file"),
        ("/dir/file", "/dir"),
        ("/link", "/dir/file"),
        ("/dir/file", "/link"),
        ("/same", "/dir/file"),
    ] {
        client.post("/fs/copy", &json!({"source": source, "dest": dest}));
        for name in ["dir/file", "same"] {
            assert_eq!(
                fs::read_to_string(root.join(name)).unwrap(),
                "kept",
                "{source} {dest}"
            );
        }
    }
    // A pipe has no end to wait for.
    let made = std::process::Command::new("mkfifo")
        .arg(root.join("pipe"))
        .status();
    assert!(made.unwrap().success());
    let body = json!({"source": "/same", "dest": "/pipe"});
    assert_eq!(client.post("/fs/copy", &body).status, 400);
    assert_eq!(client.get("/fs/read?path=/pipe").status, 400);
    daemon.stop(143);
}

#[test]
fn what_the_kernel_makes_up_is_read_to_its_end() {
    let daemon = Sprite::new().idle();
    let client = daemon.client();
    for path in [
        "/proc/self/comm",
        "/sys/kernel/mm/transparent_hugepage/enabled",
    ] {
        if let Ok(text) = fs::read_to_string(path) {
            let read = client.get(&format!("/fs/read?path={path}"));
            assert_eq!(
                (read.status, read.text.is_empty()),
                (200, text.is_empty()),
                "{path}"
            );
        }
    }
}

#[test]
fn a_recursive_watch_follows_no_link() {
    let mut daemon = rooted();
    let client = daemon.client();
    let (root, outside) = (daemon.sprite.path("root"), daemon.sprite.path("outside"));
    fs::create_dir(&outside).unwrap();
    fs::create_dir(root.join("inside")).unwrap();
    symlink(&outside, root.join("escape")).unwrap();
    let mut socket = client.socket("/fs/watch").unwrap();
    socket.json(&json!({"type": "subscribe", "paths": ["/"], "recursive": true}));
    assert!(matches!(socket.next(), Came::Text(text) if text["type"] == "subscribed"));
    fs::write(outside.join("secret"), "").unwrap();
    fs::write(root.join("inside/seen"), "").unwrap();
    match socket.next() {
        Came::Text(event) => assert_eq!(event["path"], "/inside/seen"),
        other => panic!("{other:?}"),
    }
    daemon.stop(143);
}
