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

/// Writes a number to one file after the other, again and again, and tells after each which it
/// was. Between them are others that only have to be read.
const RING: &str = r#"
import os, sys
ring, others = int(sys.argv[1]), 20_000 - int(sys.argv[1])
for number in range(ring + others):
    os.makedirs(f"data/fs/{number // 10}", exist_ok=True)
    with open(f"data/fs/{number // 10}/{number}", "w") as file:
        file.write(f"0 {number} " * 300 if number >= ring else "0")
n = 0
while True:
    n += 1
    with open(f"data/fs/{n % ring // 10}/{n % ring}", "w") as file:
        file.write(str(n))
    with open("data/fs/new", "w") as file:
        file.write(str(n))
    os.rename("data/fs/new", "data/fs/told")
"#;

/// Whether a first checkpoint has of each of so many files what was written last.
fn first_checkpoint_is_one_instant(ring: u64) {
    if !has("python3") {
        return;
    }
    let sprite = Sprite::new();
    fs::write(sprite.path("ring.py"), RING).unwrap();
    let daemon = sprite
        .command(&["python3", "ring.py", &ring.to_string()])
        .storage()
        .api()
        .start();
    daemon.wait_running();
    wait_for_file_to_exist(&daemon.sprite.fs().join("told"));
    let client = daemon.client();
    let id = client.checkpoint();
    let read = |path: &str| {
        let file = client.get(&format!("/checkpoints/{id}/files?path={path}"));
        assert_eq!(file.status, 200, "{path}: {}", file.text);
        file.text
    };
    let told: u64 = read("told").parse().unwrap();
    // All that were written in the last moments, and some of the others.
    let near = (0..200).map(|before| (told + 2 + ring - before % ring) % ring);
    let all = near.chain((0..ring).step_by(usize::try_from(ring / 50).unwrap()));
    for number in all {
        let found = read(&format!("{}/{number}", number / 10));
        let since = (told % ring + ring - number) % ring;
        let last = told.saturating_sub(since);
        let next = told + 1;
        let is_next = next % ring == number && (found.is_empty() || found == next.to_string());
        assert!(
            found == last.to_string() || is_next,
            "{number}: {found} at {told}"
        );
    }
}

#[test]
fn what_few_files_were_while_all_are_read_the_first_time() {
    first_checkpoint_is_one_instant(50);
}

#[test]
fn what_many_files_were_while_all_are_read_the_first_time() {
    first_checkpoint_is_one_instant(20_000);
}
