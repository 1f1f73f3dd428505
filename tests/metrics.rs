//! What there is to count, as a monitoring system reads it.

use std::collections::BTreeMap;

use crate::support::{Daemon, Sprite, json};

/// The metrics with their values, by name and labels.
fn metrics(daemon: &Daemon) -> BTreeMap<String, f64> {
    let answer = daemon.client().get("/metrics");
    assert_eq!(answer.status, 200, "{}", answer.text);
    let kind = "application/openmetrics-text";
    assert!(answer.kind.starts_with(kind), "{}", answer.kind);
    assert!(answer.text.ends_with("# EOF\n"));
    let samples = answer.text.lines().filter(|line| !line.starts_with('#'));
    let pair = samples.map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    });
    pair.collect()
}

#[test]
fn metrics_count_what_happens() {
    let config = json!({"components": {
        "db": {"start_command": ["sh", "-c", "echo up; exec sleep 1000"]},
        "once": {"start_command": ["true"], "type": "oneshot"},
    }});
    let mut daemon = Sprite::new().config(&config).storage().idle();
    daemon.client().wait_component("once", "Completed");
    daemon.wait_for("[db] up");
    let before = metrics(&daemon);
    for (name, value) in [
        ("sprite_ready", 1.0),
        ("sprite_phase{phase=\"serving\"}", 1.0),
        ("sprite_phase{phase=\"parked\"}", 0.0),
        ("sprite_process_up", 1.0),
        ("sprite_process_starts_total", 1.0),
        ("sprite_component_up{component=\"db\"}", 1.0),
        ("sprite_component_up{component=\"once\"}", 1.0),
        ("sprite_component_running{component=\"db\"}", 1.0),
        ("sprite_component_running{component=\"once\"}", 0.0),
        ("sprite_log_lines_total", 1.0),
        ("sprite_checkpoints", 0.0),
        ("sprite_sessions", 0.0),
    ] {
        assert_eq!(before.get(name), Some(&value), "{name} in {before:#?}");
    }
    daemon.client().checkpoint();
    daemon.client().sh("sh -c 'sleep 0.01 & exec true'");
    let stopped = daemon
        .client()
        .post("/components/db/restart?wait=60s", &json!({}));
    assert_eq!(stopped.status, 200);
    let after = metrics(&daemon);
    assert!(after["sprite_steps_total"] > before["sprite_steps_total"]);
    assert!(after["sprite_reaped_total"] > before["sprite_reaped_total"]);
    assert_eq!(after.get("sprite_checkpoints"), Some(&1.0));
    assert!(after["sprite_checkpoint_newest_timestamp_seconds"] > 1e9);
    let starts = after.get("sprite_component_starts_total{component=\"db\"}");
    assert_eq!(starts, Some(&2.0));
    daemon.stop(143);
}

#[test]
fn metrics_need_the_token() {
    let mut daemon = Sprite::new().idle();
    let open = crate::support::http::Client::new(daemon.client().base().to_owned(), None);
    open.get("/metrics").assert_problem(401, "");
    daemon.stop(143);
}
