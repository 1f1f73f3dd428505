//! A checkpoint of a database that is written to is what a crash at that instant would
//! leave, and has every transaction that was committed before.

use std::fs;
use std::process::Command;

use crate::sdks::has;
use crate::support::{Sprite, wait_for_file_to_exist};

/// Commits one row after the other, and tells after each how many there are. The
/// write-ahead log's index is mapped shared, as databases do that map their files.
const WRITER: &str = r#"
import os, sqlite3
db = sqlite3.connect("data/fs/db")
db.execute("pragma journal_mode = wal")
db.execute("pragma mmap_size = 100000000")
db.execute("pragma wal_autocheckpoint = 50")
db.execute("create table if not exists t (n integer primary key, filler blob)")
n = db.execute("select coalesce(max(n), 0) from t").fetchone()[0]
while True:
    n += 1
    db.execute("insert into t values (?, randomblob(700))", (n,))
    db.execute("update t set filler = randomblob(700) where n = ?", (n // 2,))
    db.commit()
    with open("committed.new", "w") as file:
        file.write(str(n))
    os.rename("committed.new", "committed")
"#;

/// Opens what a checkpoint has, as after a crash.
const READER: &str = r#"
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
assert db.execute("pragma integrity_check").fetchone()[0] == "ok"
count, last = db.execute("select count(*), max(n) from t").fetchone()
assert count == last, (count, last)
print(last)
"#;

#[test]
fn a_database_that_is_written_to() {
    if !has("python3") {
        return;
    }
    let sprite = Sprite::new();
    fs::write(sprite.path("writer.py"), WRITER).unwrap();
    let daemon = sprite
        .command(&["python3", "writer.py"])
        .storage()
        .api()
        .start();
    daemon.wait_running();
    let client = daemon.client();
    wait_for_file_to_exist(&daemon.sprite.path("committed"));
    let committed = || {
        fs::read_to_string(daemon.sprite.path("committed"))
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let read = |dir: &std::path::Path| {
        let output = Command::new("python3")
            .args(["-c", READER])
            .arg(dir.join("db"))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout)
            .unwrap()
            .trim()
            .parse::<u64>()
            .unwrap()
    };
    let mut made = Vec::new();
    for _ in 0..100 {
        let before = committed();
        made.push((client.checkpoint(), before, committed()));
    }
    for (id, before, after) in &made {
        let copy = tempfile::tempdir().unwrap();
        for name in ["db", "db-wal"] {
            let file = client.get(&format!("/checkpoints/{id}/files?path={name}"));
            if file.status == 200 {
                fs::write(copy.path().join(name), file.bytes).unwrap();
            }
        }
        let last = read(copy.path());
        // One more may have been committed and not told yet.
        assert!(
            (*before..=after + 1).contains(&last),
            "{id}: {before} {last} {after}"
        );
    }
    // And in place, where the writer goes on from there.
    for (id, before, _) in made.iter().step_by(20) {
        assert_eq!(client.restore(id)["type"], "complete");
        let start = committed();
        while committed() == start {
            std::thread::yield_now();
        }
        assert!(committed() >= *before);
    }
    assert_eq!(client.status()["state"], "Online > Serving > Running");
}

#[test]
fn processes_that_begin_others_all_the_time_can_be_held() {
    // Shells, make and Python begin programs by vfork: they cannot be stopped while the child
    // is not yet another program, and it must not be stopped either.
    let one = "while :; do /bin/true; done";
    let script = format!("{one} & {one} & {one} & {one}");
    let daemon = Sprite::new().script(&script).storage().api().start();
    daemon.wait_running();
    for _ in 0..100 {
        daemon.client().checkpoint();
    }
}
