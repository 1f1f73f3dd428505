//! Databases from Debian, as components, reached through the proxy by their own clients.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sdks::{drive, has, node};
use crate::support::juicefs::juicefs;
use crate::support::{Daemon, Sprite, is_root, json, skipped};

/// Where Debian has the programs of the newest PostgreSQL that is there.
pub fn postgres() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql");
    let versions = versions.into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin")).max();
    if found.is_none() {
        skipped("there is no PostgreSQL: tests/setup.sh installs it, as root");
    }
    found
}

/// A port that nobody has.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A component that runs PostgreSQL in `dir`. Its own rule is that it is not root.
fn postgres_component(bin: &Path, dir: &Path, port: u16) -> crate::support::Value {
    let bin = bin.display();
    let data = dir.join("pg");
    let script = format!(
        "[ -e {data} ] || {bin}/initdb -D {data} -U postgres -A trust --no-sync >/dev/null && \
         exec {bin}/postgres -D {data} -k {dir} -p {port} -c listen_addresses=localhost",
        data = data.display(),
        dir = dir.display(),
    );
    let ready = format!("exec {bin}/pg_isready -q -h localhost -p {port}");
    let mut component = json!({
        "start_command": ["sh", "-c", script], "ready_command": ["sh", "-c", ready],
    });
    if is_root() {
        component["user"] = json!("postgres");
    }
    component
}

#[test]
fn clients_of_real_databases_go_through_the_proxy() {
    let (Some(mut node), Some(bin)) = (node(), postgres()) else {
        return;
    };
    if !(has("redis-server") && has("psql")) {
        return;
    }
    let sprite = Sprite::new();
    // PostgreSQL's user must get there.
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(sprite.dir.path(), open.clone()).unwrap();
    let dir = sprite.path("postgres");
    std::fs::create_dir(&dir).unwrap();
    std::fs::set_permissions(&dir, open).unwrap();
    let (postgres_port, redis_port) = (free_port(), free_port());
    let redis = json!({
        "start_command": ["redis-server", "--port", redis_port.to_string(),
            "--bind", "127.0.0.1", "--save", ""],
        "ready_command": ["redis-cli", "-p", redis_port.to_string(), "ping"],
    });
    let config = json!({"sprite_name": "sdk/test", "components": {
        "postgres": postgres_component(&bin, &dir, postgres_port), "redis": redis,
    }});
    let mut daemon = sprite.config(&config).storage().idle();
    node.env("POSTGRES_PORT", postgres_port.to_string())
        .env("REDIS_PORT", redis_port.to_string());
    drive(node, "databases.mjs", &mut daemon);
}

/// Something that talks to the database, and is gone with the test.
struct Client(Child);

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sql(port: u16, query: &str) -> String {
    let port = port.to_string();
    let output = Command::new("psql")
        .args([
            "-h",
            "localhost",
            "-p",
            &port,
            "-U",
            "postgres",
            "-qAt",
            "-c",
            query,
        ])
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{query}: {complaint}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Commits one row after the other; the number says how many the server has confirmed.
fn commit_rows(port: u16) -> (Client, Arc<AtomicU64>) {
    let port = port.to_string();
    let mut psql = Command::new("psql")
        .args(["-h", "localhost", "-p", &port, "-U", "postgres", "-qAt"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut to, from) = (psql.stdin.take().unwrap(), psql.stdout.take().unwrap());
    let confirmed = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&confirmed);
    std::thread::spawn(move || {
        let mut answers = BufReader::new(from).lines();
        while writeln!(to, "insert into rows default values returning n;").is_ok() {
            let Some(Ok(answer)) = answers.next() else {
                return;
            };
            count.store(answer.parse().unwrap(), Ordering::SeqCst);
        }
    });
    (Client(psql), confirmed)
}

#[test]
fn a_checkpoint_of_postgresql_has_every_transaction_that_was_committed() {
    let Some(bin) = postgres() else {
        return;
    };
    if !(has("psql") && is_root()) {
        return skipped("this needs psql, and root to give PostgreSQL a user of its own");
    }
    let sprite = Sprite::new().storage();
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(sprite.dir.path(), open.clone()).unwrap();
    std::fs::create_dir(sprite.fs()).unwrap();
    std::fs::set_permissions(sprite.path("data"), open.clone()).unwrap();
    std::fs::set_permissions(sprite.fs(), open).unwrap();
    let port = free_port();
    let component = postgres_component(&bin, &sprite.fs(), port);
    let config = json!({"components": {"postgres": component}});
    let daemon = sprite.config(&config).idle();
    take_and_restore(&daemon, &bin, port, 100);
}

#[test]
fn so_has_one_of_a_juicefs_volume_in_either_layout() {
    let (Some(bin), Some(juicefs)) = (postgres(), juicefs()) else {
        return;
    };
    if !has("psql") {
        return;
    }
    for layout in ["tree", "image"] {
        let sprite = Sprite::new().storage();
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(sprite.dir.path(), open).unwrap();
        let dir = sprite.path("data/juicefs/mnt/active/fs");
        let port = free_port();
        let mut component = postgres_component(&bin, &dir, port);
        component["needs"] = json!(["open"]);
        let open = json!({"type": "oneshot", "start_command": ["chmod", "777", dir]});
        let config = json!({
            "storage": {"volume": {"type": "juicefs", "size": "4G"}},
            "juicefs": {"binary": juicefs, "layout": layout},
            "components": {"postgres": component, "open": open},
        });
        let mut daemon = sprite.config(&config).idle();
        take_and_restore(&daemon, &bin, port, 10);
        daemon.stop(143);
    }
}

/// Takes `count` checkpoints while the database is in use, and restores some.
fn take_and_restore(daemon: &Daemon, bin: &Path, port: u16, count: usize) {
    let client = daemon.client();
    sql(
        port,
        "create table rows (n bigserial primary key, filler text default repeat('x', 300))",
    );
    let pgbench = |arguments: &[&str]| {
        let mut pgbench = Command::new(bin.join("pgbench"));
        pgbench.args(["-h", "localhost", "-p", &port.to_string(), "-U", "postgres"]);
        pgbench
            .args(arguments)
            .arg("postgres")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        pgbench.spawn().unwrap()
    };
    assert!(pgbench(&["-i", "-q", "-s", "2"]).wait().unwrap().success());
    let load = Client(pgbench(&["-c", "2", "-T", "1000"]));
    let (writer, confirmed) = commit_rows(port);
    let mut made = Vec::new();
    for _ in 0..count {
        let before = confirmed.load(Ordering::SeqCst);
        let id = client.checkpoint();
        made.push((id, before, confirmed.load(Ordering::SeqCst)));
    }
    assert!(made.last().unwrap().1 > 0, "{made:?}");
    drop((load, writer));
    for (id, before, after) in made.iter().step_by(count.div_ceil(12)) {
        assert_eq!(client.restore(id)["type"], "complete");
        let found = sql(port, "select count(*), max(n) from rows");
        let (count, last) = found.split_once('|').unwrap();
        let (count, last): (u64, u64) = (count.parse().unwrap(), last.parse().unwrap());
        // The last may have been committed, and not confirmed.
        let range = *before..=after + 1;
        assert!(
            count == last && range.contains(&last),
            "{id}: {found} is not in {range:?}"
        );
        // Each transaction of the benchmark changes all three, or none.
        let sums = "select (select sum(abalance) from pgbench_accounts), \
                    (select sum(bbalance) from pgbench_branches), \
                    (select sum(tbalance) from pgbench_tellers)";
        let sums = sql(port, sums);
        let sums: Vec<&str> = sums.split('|').collect();
        assert!(sums[0] == sums[1] && sums[1] == sums[2], "{id}: {sums:?}");
    }
}
