//! From what was written, in all places, to what is meant.

mod init;
mod juicefs;
mod juicefs_components;
mod logs;
mod network;
mod overlay;
mod process;
mod storage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::component::{self, command, time};
use super::error::{ConfigError, FileError, nearest};
use super::origin::{Ledger, Origin, from_file};
use super::{
    Api, Cgroups, Component, Config, Exec, Flags, Journal, Limits, Listen, Secret, components_dir,
    raw,
};

const LOG_LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace"];

/// Reads the configuration from everywhere.
pub fn load(flags: &Flags) -> Result<Config, ConfigError> {
    let mut file = match &flags.config {
        Some(path) => read(&flags.base_dir.join(path))?,
        None => raw::File::default(),
    };
    let mut components = file.components.take().unwrap_or_default();
    if let Some(dir) = &flags.components_dir {
        components_dir::merge(&flags.base_dir.join(dir), &mut components)?;
    }
    let mut checker = Checker {
        flags,
        file,
        ledger: Ledger {
            base_dir: flags.base_dir.clone(),
            ..Ledger::default()
        },
    };
    let config = checker.config(&components);
    let mut errors = std::mem::take(&mut checker.ledger.errors);
    if errors.is_empty() {
        config
    } else {
        errors.sort();
        errors.dedup();
        Err(ConfigError::Settings(errors))
    }
}

/// Reads one file, without giving it a meaning.
pub fn read(path: &Path) -> Result<raw::File, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    // serde would take a list for a record whose fields are all missing.
    if text.trim_start().starts_with('[') {
        return Err(ConfigError::File(Box::new(FileError::not_an_object(path))));
    }
    let mut json = serde_json::Deserializer::from_str(&text);
    let wrong = |key, error| ConfigError::File(Box::new(FileError::new(path, key, &error)));
    let file = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| wrong(error.path().to_string(), error.into_inner()))?;
    json.end().map_err(|error| wrong(".".to_owned(), error))?;
    Ok(file)
}

pub(super) struct Checker<'a> {
    flags: &'a Flags,
    file: raw::File,
    ledger: Ledger,
}

impl Checker<'_> {
    fn config(
        &mut self,
        components: &BTreeMap<String, raw::Component>,
    ) -> Result<Config, ConfigError> {
        let log_level = self.log_level();
        let write_dir = self.write_dir();
        let bucket = self.bucket();
        let checkpoint_dir = self.checkpoint_dir(write_dir.as_deref());
        let juicefs = self.juicefs(
            write_dir.as_deref(),
            checkpoint_dir.as_deref(),
            bucket.as_ref(),
        );
        let (juicefs, built_in) = juicefs.unzip();
        let init = self.init();
        let sprite_name = self.sprite_name(init.hostname.as_deref());
        let mut config = Config {
            log_level,
            log_json: self.switch("log_json", self.flags.log_json, "-log-json", |f| {
                &f.log_json
            }),
            debug_endpoints: self.switch("debug_endpoints", self.flags.debug, "-debug", |f| {
                &f.debug_endpoints
            }),
            init,
            sprite_name,
            process: self.process(),
            components: self.components(components, built_in.unwrap_or_default()),
            storage: self.storage(write_dir.as_deref(), checkpoint_dir, juicefs),
            exec: self.exec(),
            limits: self.limits(),
            fs_root: self.fs_root(),
            network: self.network(),
            url_proxy: self.url_proxy(),
            journal: self.journal(),
            logs: self.logs(),
            keep_alive_on_error: self.variable_switch("SPRITE_KEEP_ALIVE_ON_ERROR"),
            parent_death_signal: self.parent_death_signal(),
            subreaper: self.subreaper(),
            cgroups: self.cgroups(),
            bucket,
            api: self.api()?,
            settings: Vec::new(),
        };
        if config.cgroups == Cgroups::Off && !config.resource_limits().is_empty() {
            let why = "is \"off\", but limits are given, which need them; leave out one of them";
            self.ledger.wrong("cgroups", why);
        }
        let is_carried = config.has_storage_components();
        // What is on the storage is not there yet.
        if !is_carried && !config.fs_root.is_dir() {
            let why = format!(
                "\"{}\" is not a directory; make it first",
                config.fs_root.display()
            );
            self.ledger.wrong("fs.root", why);
        }
        if let Some(storage) = &mut config.storage {
            storage.is_carried = is_carried;
        }
        config.settings = std::mem::take(&mut self.ledger.settings);
        Ok(config)
    }

    fn log_level(&mut self) -> tracing::Level {
        let flag = self
            .flags
            .debug
            .then(|| ("debug".to_owned(), Origin::Flag("-debug")));
        let file = from_file(self.file.log_level.as_ref());
        let text = self
            .ledger
            .pick("log_level", [flag, file], "info".to_owned());
        text.parse().unwrap_or_else(|_| {
            let hint = nearest(&text, LOG_LEVELS)
                .map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"));
            let why = format!("\"{text}\" is not one of {}{hint}", LOG_LEVELS.join(", "));
            self.ledger.wrong("log_level", why);
            tracing::Level::INFO
        })
    }

    fn switch(
        &mut self,
        key: &str,
        flag: bool,
        flag_name: &'static str,
        field: fn(&raw::File) -> &Option<super::value::Value<bool>>,
    ) -> bool {
        let flag = flag.then_some((true, Origin::Flag(flag_name)));
        let file = from_file(field(&self.file).as_ref());
        self.ledger.pick(key, [flag, file], false)
    }

    fn variable_switch(&mut self, name: &'static str) -> bool {
        let written = variable(name);
        let value = written.as_deref().map(|text| {
            <bool as super::value::FromText>::from_text(text).unwrap_or_else(|| {
                let why = format!("\"{text}\" is neither true nor false");
                self.ledger.wrong(name, why);
                false
            })
        });
        let candidate = value.map(|value| (value, Origin::Variable(name)));
        self.ledger.pick(name, [candidate], false)
    }

    /// `given` is the name that this host is to get.
    fn sprite_name(&mut self, given: Option<&str>) -> String {
        let uname = rustix::system::uname();
        let host = given.map_or_else(|| uname.nodename().to_string_lossy(), Into::into);
        let host = host.into_owned();
        let file = from_file(self.file.sprite_name.as_ref());
        self.ledger.pick("sprite_name", [file], host)
    }

    fn subreaper(&mut self) -> bool {
        let flag = self
            .flags
            .subreaper
            .map(|on| (on, Origin::Flag("-subreaper")));
        self.ledger.pick("subreaper", [flag], true)
    }

    fn write_dir(&mut self) -> Option<PathBuf> {
        let flag = self
            .flags
            .juicefs_dir
            .as_ref()
            .map(|dir| (dir.display().to_string(), Origin::Flag("-juicefs-dir")));
        let variable =
            variable("SPRITE_WRITE_DIR").map(|dir| (dir, Origin::Variable("SPRITE_WRITE_DIR")));
        self.ledger
            .pick_optional("write_dir", [flag, variable])
            .map(PathBuf::from)
    }

    /// The components that are written, and those `built_in`, which come last.
    fn components(
        &mut self,
        written: &BTreeMap<String, raw::Component>,
        built_in: Vec<Component>,
    ) -> Vec<Component> {
        let mut names: Vec<_> = written.keys().map(String::as_str).collect();
        for component in &built_in {
            if names.contains(&component.name.as_str()) {
                let why = "there is one of this name already, that of storage.volume; take another";
                self.ledger
                    .wrong(&format!("components.{}", component.name), why);
            }
            names.push(&component.name);
        }
        let valid = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let mut components: Vec<_> = written
            .iter()
            .map(|(name, raw)| {
                if name.is_empty() || name.starts_with('.') || !name.chars().all(valid) {
                    let why = "a component's name is made of letters, digits, '-', '_' and '.'";
                    self.ledger.wrong(&format!("components.{name}"), why);
                }
                component::check(name, raw, &names, &mut self.ledger)
            })
            .collect();
        component::append(&mut components, built_in);
        for component in components.iter().filter(|component| component.storage) {
            let mut needs = component.needs.iter().filter_map(|id| components.get(*id));
            if let Some(need) = needs.find(|need| !need.storage) {
                let key = format!("components.{}.needs", component.name);
                let why = format!(
                    "what carries the storage is up before {}, which does not; give that one \
                     \"storage\": true too, or leave it out",
                    need.name
                );
                self.ledger.wrong(&key, why);
            }
        }
        if let Some(cycle) = find_cycle(&components) {
            let why = format!("these components need each other in a circle: {cycle}");
            self.ledger.wrong("components", why);
        }
        components
    }

    fn exec(&mut self) -> Exec {
        let nested = self.file.exec.clone().unwrap_or_default();
        let flat = [
            (
                "exec.wrapper_command",
                nested.wrapper_command,
                self.file.exec_wrapper_command.clone(),
            ),
            (
                "exec.tty_wrapper_command",
                nested.tty_wrapper_command,
                self.file.exec_tty_wrapper_command.clone(),
            ),
        ];
        let [wrapper, tty_wrapper] = flat.map(|(key, nested, flat)| {
            let written = self.one_of(key, nested, flat);
            command(key, written.as_ref(), &mut self.ledger).unwrap_or_default()
        });
        Exec {
            wrapper,
            tty_wrapper,
        }
    }

    fn fs_root(&mut self) -> PathBuf {
        let root = self.file.fs.clone().unwrap_or_default().root;
        let root = [from_file(root.as_ref())];
        let root = self.ledger.pick("fs.root", root, "/".to_owned());
        self.ledger
            .absolute(&root)
            .unwrap_or_else(|_| root.clone().into())
    }

    fn limits(&mut self) -> Limits {
        let limits = self.file.limits.clone().unwrap_or_default();
        let mut number = |key: &str, written: Option<&super::value::Value<u64>>, default: u64| {
            let value = self.ledger.pick(key, [from_file(written)], default);
            usize::try_from(value).unwrap_or(usize::MAX)
        };
        let request_body = number("limits.request_body", limits.request_body.as_ref(), 1 << 20);
        let exec_sessions = number("limits.exec_sessions", limits.exec_sessions.as_ref(), 1024);
        Limits {
            request_body,
            exec_sessions,
            hold: time(
                "limits.hold",
                limits.hold.as_ref(),
                30_000,
                &mut self.ledger,
            ),
        }
    }

    fn journal(&mut self) -> Option<Journal> {
        let telemetry = self.file.telemetry.clone().unwrap_or_default();
        let from_env =
            variable("SPRITE_JOURNAL").map(|path| (path, Origin::Variable("SPRITE_JOURNAL")));
        let path = [from_env, from_file(telemetry.journal.as_ref())];
        let path = self.ledger.pick_optional("telemetry.journal", path);
        let size = [from_file(telemetry.journal_size.as_ref())];
        let size = self
            .ledger
            .pick("telemetry.journal_size", size, 16_u64 << 20);
        path.map(|path| Journal {
            path: self.ledger.absolute(&path).unwrap_or_else(|_| path.into()),
            size,
        })
    }

    fn api(&mut self) -> Result<Option<Api>, ConfigError> {
        let flag = self
            .flags
            .listen
            .clone()
            .map(|text| (text, Origin::Flag("-listen")));
        let file = from_file(self.file.api_listen_addr.as_ref());
        let address = self.ledger.pick_optional("api_listen_addr", [flag, file]);
        let token = variable("SPRITE_HTTP_API_TOKEN").map(Secret::new);
        if token.is_some() {
            let origin = Origin::Variable("SPRITE_HTTP_API_TOKEN");
            self.ledger.note("api_token", (), json!("********"), origin);
        }
        let Some(address) = address.filter(|address| !address.is_empty()) else {
            return Ok(None);
        };
        let listen = match Listen::parse(&address, &self.flags.base_dir) {
            Ok(listen) => listen,
            Err(why) => {
                self.ledger.wrong("api_listen_addr", why);
                return Ok(None);
            }
        };
        let token = token.filter(|token| !token.is_empty());
        if matches!(listen, Listen::Tcp(_)) && token.is_none() {
            return Err(ConfigError::Usage(format!(
                "the API is to listen at {address}, but SPRITE_HTTP_API_TOKEN is not set: set it \
                 to a secret that clients send as \"Authorization: Bearer …\""
            )));
        }
        Ok(Some(Api { listen, token }))
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// The names along a circle of needs, if there is one.
fn find_cycle(components: &[Component]) -> Option<String> {
    let mut left: Vec<bool> = vec![true; components.len()];
    loop {
        // Take away whatever needs nothing that is left; a circle never goes.
        let free = components.iter().enumerate().position(|(id, component)| {
            let is_left = |id: &usize| left.get(*id).copied().unwrap_or(false);
            is_left(&id) && !component.needs.iter().any(is_left)
        });
        match free.and_then(|id| left.get_mut(id)) {
            Some(slot) => *slot = false,
            None => break,
        }
    }
    let names = components.iter().zip(&left).filter(|(_, left)| **left);
    let names: Vec<_> = names
        .map(|(component, _)| component.name.as_str())
        .collect();
    (!names.is_empty()).then(|| names.join(", "))
}
