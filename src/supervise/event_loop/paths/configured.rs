//! A configuration that supervises what a setting of the model does.

use machines::component::{Kind, OnFailure};
use machines::model::Setting;
use serde_json::{Value, json};

use crate::config::{Config, Flags, load};

/// What `setting` wants supervised, with times that can be told apart.
pub fn config(setting: &Setting) -> Config {
    let component = |(id, (kind, on_failure)): (usize, &(Kind, OnFailure))| {
        let needs = setting.needs.get(id).copied().unwrap_or_default();
        let needs: Vec<_> = needs.iter().map(|need| format!("c{need}")).collect();
        let mut value = json!({
            "start_command": ["a component"], "needs": needs,
            "on_failure": format!("{on_failure:?}").to_lowercase(),
            "ready_timeout": "13s", "stop_timeout": "12s",
            "backoff": {"max_restarts": 1, "jitter": 0.0},
        });
        match kind {
            Kind::Service => {}
            Kind::Oneshot => value["type"] = json!("oneshot"),
            Kind::Scheduled => value["schedule"] = json!("@yearly"),
        }
        (format!("c{id}"), value)
    };
    let components: serde_json::Map<String, Value> = setting
        .components
        .iter()
        .enumerate()
        .map(component)
        .collect();
    let config = json!({
        "process_command": ["a process"], "components": components,
        "process_graceful_shutdown_timeout": "11s",
        "process_restart_max_retries": setting.retries,
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    std::fs::write(&path, config.to_string()).unwrap();
    let mut config = load(&Flags {
        config: Some(path),
        ..Flags::default()
    })
    .unwrap();
    config.keep_alive_on_error = setting.keep_alive;
    config.process.backoff.jitter = 0.0;
    config
}
