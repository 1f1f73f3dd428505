//! Databases from Debian, as components, reached through the proxy by their own clients.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::sdks::{drive, has, node};
use crate::support::{Sprite, is_root, json, skipped};

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
        "{bin}/initdb -D {data} -U postgres -A trust --no-sync >/dev/null && \
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
