//! `sprite-env config check|print|schema`

use std::io::{self, Write};

use serde_json::json;

use super::arguments::ConfigVerb;
use super::control;
use crate::config::{Config, Flags, load, raw};

/// Runs the verb; returns the exit code.
pub fn run(verb: &ConfigVerb, flags: &Flags) -> u8 {
    let mut out = io::stdout().lock();
    let written = match verb {
        ConfigVerb::Schema => schema(&mut out),
        ConfigVerb::Reload { dry_run, daemon } => {
            drop(out);
            return control::reload(daemon, *dry_run);
        }
        ConfigVerb::Check | ConfigVerb::Print { .. } => match load(flags) {
            Ok(config) => match verb {
                ConfigVerb::Print { json } => print(&mut out, &config, *json),
                _ => writeln!(out, "the configuration is fine"),
            },
            Err(error) => {
                eprintln!("sprite-env: {error}");
                return error.exit_code();
            }
        },
    };
    // Whoever read our output may have stopped; there is nobody to tell.
    u8::from(written.is_err())
}

fn schema(out: &mut impl Write) -> io::Result<()> {
    let schema = schemars::schema_for!(raw::File);
    serde_json::to_writer_pretty(&mut *out, &schema)?;
    writeln!(out)
}

fn print(out: &mut impl Write, config: &Config, as_json: bool) -> io::Result<()> {
    if as_json {
        let settings = config.settings.iter().map(|setting| {
            let value = json!({
                "value": setting.value,
                "origin": setting.origin.to_string(),
            });
            (setting.key.clone(), value)
        });
        let settings: serde_json::Map<_, _> = settings.collect();
        serde_json::to_writer_pretty(&mut *out, &settings)?;
        return writeln!(out);
    }
    let mut settings: Vec<_> = config.settings.iter().collect();
    settings.sort_by(|a, b| a.key.cmp(&b.key));
    for setting in settings {
        let left = format!("{} = {}", setting.key, setting.value);
        writeln!(out, "{left:<60} # {}", setting.origin)?;
    }
    Ok(())
}
