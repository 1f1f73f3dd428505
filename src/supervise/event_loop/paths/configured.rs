//! A configuration that supervises what a setting of the model does.

use machines::component::{Kind, OnFailure};
use machines::model::Setting;
use serde_json::{Value, json};

use crate::config::{Config, Flags, load};

/// What `setting` wants supervised, with times that can be told apart.
pub fn config(setting: &Setting) -> Config {
    let names: Vec<_> = (0..setting.components.len()).map(name).collect();
    let parts = (setting.components, setting.needs, setting.retries);
    configured(setting, &names, parts)
}

/// What it wants after its reload, if there is one.
pub fn reloaded(setting: &Setting) -> Option<Config> {
    let reload = setting.reload?;
    let places = reload.places.iter().enumerate();
    // What is new comes first, as it does there.
    let names = places.map(|(new, old)| old.map_or_else(|| format!("b{new}"), name));
    let parts = (reload.components, reload.needs, reload.retries);
    let names: Vec<_> = names.collect();
    Some(configured(setting, &names, parts))
}

fn name(place: usize) -> String {
    format!("c{place}")
}

type Parts<'a> = (&'a [(Kind, OnFailure)], &'a [&'a [usize]], u8);

fn configured(setting: &Setting, names: &[String], (components, needs, retries): Parts) -> Config {
    let component = |(id, (kind, on_failure)): (usize, &(Kind, OnFailure))| {
        let needs = needs.get(id).copied().unwrap_or_default();
        let needs: Vec<_> = needs.iter().map(|need| names[*need].as_str()).collect();
        let mut value = json!({
            "start_command": ["a component"], "needs": needs,
            "on_failure": format!("{on_failure:?}").to_lowercase(),
            "ready_timeout": "13s", "stop_timeout": "12s",
            "backoff": {"max_restarts": 1, "jitter": 0.0}, "storage": id < setting.storage,
        });
        match kind {
            Kind::Service => {}
            Kind::Oneshot => value["type"] = json!("oneshot"),
            Kind::Scheduled => value["schedule"] = json!("@yearly"),
        }
        (names[id].clone(), value)
    };
    let components = components.iter().enumerate().map(component);
    let components: serde_json::Map<String, Value> = components.collect();
    let config = json!({
        "process_command": ["a process"], "components": components,
        "process_graceful_shutdown_timeout": "11s",
        "process_restart_max_retries": retries,
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
