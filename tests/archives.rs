//! Checkpoints leave and come as archives that other programs understand.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::http::{Answer, step};
use crate::support::{Daemon, Sprite, Value, is_root, json, skipped, store, trees, verbs};

const DB: &str = r#"{"components": {"db": {
    "start_command": ["sleep", "1000"],
    "checkpoint_command": ["sh", "-c", "echo dumped >$CHECKPOINT_DIR/dump"],
    "restore_command": ["sh", "-c", "cp $CHECKPOINT_DIR/dump restored"]
}}}"#;

fn daemon() -> Daemon {
    let config: Value = serde_json::from_str(DB).unwrap();
    Sprite::new().storage().config(&config).idle()
}

/// Runs a verb; returns its exit code and all that it printed.
fn verb(daemon: &Daemon, words: &[&str]) -> (i32, String) {
    let output = verbs::verb(daemon, words);
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    (output.status.code().unwrap(), printed)
}

fn import(daemon: &Daemon, archive: &[u8]) -> Answer {
    let client = daemon.client();
    client.request("POST", "/checkpoints/import", archive)
}

/// An archive made by the system's tar.
fn tar(dir: &Path, options: &[&str], names: &[&str]) -> Vec<u8> {
    let mut command = Command::new("tar");
    command.arg("-c").arg("-C").arg(dir);
    let made = command.args(options).args(names).output().unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    made.stdout
}

#[test]
fn a_checkpoint_moves_to_another_environment() {
    let here = daemon();
    trees::make(&here.sprite.fs(), is_root());
    let long = "n".repeat(200);
    fs::create_dir_all(here.sprite.fs().join(&long)).unwrap();
    fs::write(here.sprite.fs().join(&long).join("old"), "x").unwrap();
    let old = std::time::UNIX_EPOCH - std::time::Duration::from_millis(1_250);
    let file = here.sprite.fs().join(&long).join("old");
    let file = fs::File::options().write(true).open(file).unwrap();
    file.set_modified(old).unwrap();
    std::os::unix::fs::symlink("a//b/./".repeat(40), here.sprite.fs().join("long")).unwrap();
    let body = json!({"comment": "to be moved"});
    assert_eq!(here.client().post("/checkpoint", &body).status, 200);
    let wanted = trees::describe(&here.sprite.fs());
    let archive = here.sprite.path("v0.tar.zst");
    let archive = archive.to_str().unwrap();
    let (code, printed) = verb(&here, &["export", "v0", archive]);
    assert_eq!((code, printed.as_str()), (0, ""));

    let there = daemon();
    fs::write(there.sprite.fs().join("own"), "x").unwrap();
    assert_eq!(there.client().checkpoint(), "v0");
    let (code, printed) = verb(&there, &["import", archive]);
    assert_eq!(code, 0, "{printed}");
    assert!(
        printed.contains("v1") && printed.contains("to be moved"),
        "{printed}"
    );
    assert!(!there.sprite.path("restored").exists());
    assert_eq!(there.client().restore("v1")["type"], "complete");
    assert_eq!(trees::describe(&there.sprite.fs()), wanted);
    let dump = fs::read_to_string(there.sprite.path("restored"));
    assert_eq!(dump.unwrap(), "dumped\n");
    // It was made where it comes from, and nothing here descends from it by itself.
    let made = here.client().get("/checkpoints/v0").json();
    let moved = there.client().get("/checkpoints/v1").json();
    assert_eq!(moved["create_time"], made["create_time"]);
    assert_eq!(moved.get("source_id"), None);
    // The same tree has the same objects.
    let (code, printed) = verb(&here, &["import", archive, "--comment", "again"]);
    assert_eq!(code, 0, "{printed}");
    let diff = here.client().get("/checkpoints/v0/diff/v1").json();
    assert_eq!(diff["differences"], json!([]));
}

#[test]
fn tar_reads_what_is_exported_and_writes_what_is_imported() {
    if !is_root() {
        return skipped("only root can give files away, as the tree under test does");
    }
    let daemon = daemon();
    trees::make(&daemon.sprite.fs(), true);
    let wanted = trees::describe(&daemon.sprite.fs());
    daemon.client().checkpoint();
    let exported = daemon.client().get("/checkpoints/v0/export");
    assert_eq!(
        (exported.status, exported.kind.as_str()),
        (200, "application/zstd")
    );
    let archive = zstd::decode_all(exported.bytes.as_slice()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("archive.tar"), archive).unwrap();
    let mut extract = Command::new("tar");
    extract.args(["-xpf", "archive.tar", "--xattrs", "--xattrs-include=*"]);
    let extracted = extract.current_dir(dir.path()).output().unwrap();
    let complaints = String::from_utf8_lossy(&extracted.stderr);
    assert!(
        extracted.status.success() && complaints.is_empty(),
        "{complaints}"
    );
    // Nothing but holes is lost.
    let all_written = |tree: BTreeMap<PathBuf, String>| -> BTreeMap<_, _> {
        let plain = |text: String| text.replace("sparse true", "sparse false");
        tree.into_iter()
            .map(|(path, text)| (path, plain(text)))
            .collect()
    };
    let extracted = trees::describe(&dir.path().join("fs"));
    assert_eq!(all_written(extracted), all_written(wanted));
    let about = fs::read(dir.path().join("checkpoint.json")).unwrap();
    let about: Value = serde_json::from_slice(&about).unwrap();
    assert_eq!(about["id"], "v0");

    for options in [
        &["--format=posix", "--xattrs", "--xattrs-include=*"][..],
        &["--format=gnu"],
    ] {
        let archive = tar(&daemon.sprite.fs(), options, &["."]);
        let answer = import(&daemon, &zstd::encode_all(archive.as_slice(), 1).unwrap());
        assert_eq!(answer.status, 201, "{options:?}: {}", answer.text);
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        let diff = daemon
            .client()
            .get(&format!("/checkpoints/v0/diff/{id}"))
            .json();
        let found = diff["differences"].as_array().unwrap();
        // This format has whole seconds, and no extended attributes.
        let is_told = |d: &&Value| options[0] == "--format=posix" || d["change"] != "metadata";
        let found: Vec<_> = found.iter().filter(is_told).collect();
        assert!(found.is_empty(), "{options:?}: {found:?}");
    }
}

#[test]
fn what_is_no_archive_changes_nothing() {
    let daemon = daemon();
    fs::write(daemon.sprite.fs().join("file"), vec![7; 200_000]).unwrap();
    daemon.client().checkpoint();
    let sparse = fs::File::create(daemon.sprite.fs().join("sparse")).unwrap();
    sparse.set_len(1 << 20).unwrap();
    let whole = daemon.client().get("/checkpoints/v0/export").bytes;
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    let plain = |name: &str| {
        let options = ["-P", &format!("--transform=s,file,{name},")];
        tar(dir.path(), &options, &["file"])
    };
    let newer = {
        let archive = zstd::decode_all(whole.as_slice()).unwrap();
        let text = b"\"sprite_checkpoint\": 1";
        let at = archive
            .windows(text.len())
            .position(|part| part == text)
            .unwrap();
        let mut archive = archive;
        archive[at + text.len() - 1] = b'9';
        archive
    };
    fs::write(dir.path().join("checkpoint.json"), "{}").unwrap();
    let strange = tar(dir.path(), &[], &["checkpoint.json", "file"]);
    for (archive, why) in [
        (Vec::new(), "it is empty"),
        (b"no archive at all".repeat(100), "it is no tar"),
        (whole[..whole.len() / 2].to_vec(), "it cannot be read"),
        (plain("file")[..300].to_vec(), "it is cut off"),
        (plain("file")[..512].to_vec(), "it cannot be read"),
        (plain("../../file"), "no path may have .."),
        (
            tar(&daemon.sprite.fs(), &["--sparse"], &["sparse"]),
            "without --sparse",
        ),
        (newer, "version 9"),
        (strange, "not with one that tells of a checkpoint"),
    ] {
        import(&daemon, &archive).assert_problem(400, why);
    }
    // Absolute paths are below the root.
    let answer = import(&daemon, &plain("/etc/file"));
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/checkpoints/{id}/files?path=etc/file");
    assert_eq!(daemon.client().get(&path).text, "x");
    let client = daemon.client();
    assert_eq!(
        client
            .request("DELETE", &format!("/checkpoints/{id}"), b"")
            .status,
        204
    );
    assert_eq!(store::checkpoints(&daemon.sprite), ["v0"]);
    assert_eq!(store::packs(&daemon.sprite).len(), 1);
    assert!(store::files(&daemon.sprite.path("data/store/work")).is_empty());
    client
        .get("/checkpoints/v9/export")
        .assert_problem(404, "no checkpoint \"v9\"");
    let (code, printed) = verb(&daemon, &["import", "/nowhere"]);
    assert_eq!(code, 1, "{printed}");
    assert!(printed.contains("/nowhere: No such file"), "{printed}");
}

#[test]
fn an_export_that_fails_leaves_no_file() {
    let daemon = daemon();
    let noise = trees::noise(&mut fastrand::Rng::new(), 3_000_000);
    fs::write(daemon.sprite.fs().join("file"), noise).unwrap();
    daemon.client().checkpoint();
    store::damage(&store::pack_of(&daemon.sprite, "v0"));
    let file = daemon.sprite.path("archive");
    let (code, printed) = verb(&daemon, &["export", "v0", file.to_str().unwrap()]);
    assert_ne!(code, 0, "{printed}");
    assert!(!file.exists() && !daemon.sprite.path("archive.part").exists());
    daemon.wait_for("has other bytes than its hash says");
}

/// One with a file more in the second.
fn with_two_checkpoints() -> Daemon {
    let daemon = daemon();
    for name in ["one", "two"] {
        let noise = trees::noise(&mut fastrand::Rng::new(), 500_000);
        fs::write(daemon.sprite.fs().join(name), noise).unwrap();
        daemon.client().checkpoint();
    }
    daemon
}

#[test]
fn garbage_is_collected_when_asked() {
    let mut daemon = with_two_checkpoints();
    let (code, printed) = verb(&daemon, &["gc"]);
    let nothing = "0 packs were needed no longer; 0 bytes are free\n";
    assert_eq!((code, printed.as_str()), (0, nothing));
    // As long as a part is missing nobody knows what is needed.
    let pack = store::pack_of(&daemon.sprite, "v0");
    let kept = fs::read(&pack).unwrap();
    daemon.stop(143);
    fs::remove_file(&pack).unwrap();
    let mut daemon = daemon.into_sprite().idle();
    let client = daemon.client();
    assert_eq!(client.request("DELETE", "/checkpoints/v1", b"").status, 204);
    let answer = client.request("POST", "/checkpoints/gc", b"");
    answer.assert_problem(500, "no space is freed as long as");
    daemon.stop(143);
    fs::write(&pack, kept).unwrap();
    let daemon = daemon.into_sprite().idle();
    let (code, printed) = verb(&daemon, &["gc", "--json"]);
    assert_eq!(code, 0, "{printed}");
    let freed: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(freed["packs"], 1);
    assert!(freed["bytes"].as_u64().unwrap() > 500_000, "{freed}");
    assert_eq!(store::packs(&daemon.sprite), [pack]);
    assert_eq!(daemon.client().restore("v0")["type"], "complete");
}

#[test]
fn what_is_lost_is_forgotten_once_nothing_needs_it() {
    let mut daemon = with_two_checkpoints();
    let before = store::packs(&daemon.sprite);
    fs::remove_file(daemon.sprite.fs().join("two")).unwrap();
    daemon.client().checkpoint();
    let mut packs = store::packs(&daemon.sprite);
    packs.retain(|pack| !before.contains(pack) || *pack == store::pack_of(&daemon.sprite, "v0"));
    // Only the second checkpoint needs it.
    let lost = before.iter().find(|pack| !packs.contains(pack)).unwrap();
    daemon.stop(143);
    fs::write(lost, "no pack").unwrap();
    let mut daemon = daemon.into_sprite().idle();
    let verify = |daemon: &Daemon| verb(daemon, &["verify"]);
    assert_ne!(verify(&daemon).0, 0);
    let (code, printed) = verb(&daemon, &["gc"]);
    assert_ne!(code, 0, "{printed}");
    let client = daemon.client();
    assert_eq!(client.request("DELETE", "/checkpoints/v1", b"").status, 204);
    assert_eq!(verify(&daemon).0, 0, "{}", verify(&daemon).1);
    assert_eq!(store::packs(&daemon.sprite), packs);
    daemon.stop(143);
    let daemon = daemon.into_sprite().idle();
    assert_eq!(verify(&daemon).0, 0, "{}", verify(&daemon).1);
    for id in ["v0", "v2"] {
        assert_eq!(daemon.client().restore(id)["type"], "complete");
    }
    assert_eq!(verb(&daemon, &["gc"]).0, 0);
}

#[test]
fn how_far_an_operation_is_can_be_told() {
    let daemon = daemon();
    for number in 0..50 {
        fs::write(
            daemon.sprite.fs().join(number.to_string()),
            number.to_string(),
        )
        .unwrap();
    }
    let client = daemon.client();
    let lines = client
        .request("POST", "/checkpoint?progress=true", b"")
        .lines();
    let of = |lines: &[Value], phase: &str| step(lines, phase).unwrap().clone();
    let first = of(&lines, "pre_copy");
    assert_eq!(
        (&first["type"], &first["files_done"]),
        (&json!("progress"), &json!(50))
    );
    assert_eq!(
        (&first["bytes_done"], first.get("files_total")),
        (&json!(90), None)
    );
    let lines = client
        .request("POST", "/checkpoint?progress=true", b"")
        .lines();
    assert_eq!(of(&lines, "pre_copy")["files_total"], 50);
    of(&lines, "seal");
    for number in 0..20 {
        fs::write(daemon.sprite.fs().join(number.to_string()), "changed").unwrap();
    }
    fs::remove_file(daemon.sprite.fs().join("49")).unwrap();
    let lines = client
        .request("POST", "/checkpoints/v0/restore?progress=true", b"")
        .lines();
    let swapped = of(&lines, "swap");
    let done = [&swapped["files_done"], &swapped["files_total"]];
    assert_eq!(done, [&json!(21), &json!(21)], "{swapped}");
    assert_eq!(swapped["bytes_done"], swapped["bytes_total"]);
    assert_eq!(lines.last().unwrap()["type"], "complete");
    // Only those who ask are told.
    let lines = client.request("POST", "/checkpoint", b"").lines();
    assert!(lines.iter().all(|line| line["type"] != "progress"));
}

#[test]
fn a_crash_while_an_import_comes_in_leaves_nothing_of_it() {
    use std::io::Write as _;
    let mut random = fastrand::Rng::with_seed(11);
    let there = tempfile::tempdir().unwrap();
    for name in ["one", "two", "three"] {
        let bytes = trees::noise(&mut random, 3 << 20);
        fs::write(there.path().join(name), bytes).unwrap();
    }
    let archive = tar(there.path(), &[], &["one", "two", "three"]);
    let mut daemon = Sprite::new().storage().idle();
    fs::write(daemon.sprite.fs().join("file"), "here").unwrap();
    let id = daemon.client().checkpoint();
    for round in 1..=8 {
        let base = daemon.client().base().to_owned();
        let mut stream = std::net::TcpStream::connect(base.trim_start_matches("http://")).unwrap();
        let head = format!(
            "POST /checkpoints/import HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {}\r\n\
             Content-Length: {}\r\n\r\n",
            crate::support::TOKEN,
            archive.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // From the fourth round on all of it is sent, and no answer waited for.
        let part = &archive[..archive.len() * round.min(4) / 4];
        stream.write_all(part).unwrap();
        daemon = daemon.crash().idle();
        let listed = daemon.client().get("/checkpoints").json();
        let ids: Vec<_> = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|it| &it["id"])
            .collect();
        assert!(ids.contains(&&json!(id)), "{listed}");
        assert!(round >= 4 || ids.len() == 1, "{listed}");
        let (code, said) = verb(&daemon, &["verify"]);
        assert_eq!(code, 0, "{said}");
    }
    let answer = import(&daemon, &archive);
    assert_eq!(answer.status, 201, "{}", answer.text);
    // What the others had stored is no more than this one needs.
    daemon.client().post("/checkpoints/gc", &json!({}));
    let packs = store::packs(&daemon.sprite);
    let bytes: u64 = packs
        .iter()
        .map(|path| path.metadata().unwrap().len())
        .sum();
    assert!(bytes < 12 << 20, "{bytes}");
    daemon.stop(143);
}
