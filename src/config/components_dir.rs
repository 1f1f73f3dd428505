//! Components found as programs in a directory: `DIR/<name>/{start,ready,checkpoint,restore}`,
//! each with or without `.sh`.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::raw;
use super::value::Value;

/// Adds what is found in `dir` to `components`; a program found wins over the file.
pub fn merge(
    dir: &Path,
    components: &mut BTreeMap<String, raw::Component>,
) -> Result<(), ConfigError> {
    let unreadable = |source| ConfigError::Read {
        path: dir.to_owned(),
        source,
    };
    let mut entries: Vec<_> = std::fs::read_dir(dir)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unreadable)?
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    entries.sort();
    for path in entries {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(ConfigError::Settings(vec![(
                "-components-dir".to_owned(),
                format!("{}: a component's name must be UTF-8", path.display()),
            )]));
        };
        if !name.starts_with('.') {
            merge_one(&path, components.entry(name.to_owned()).or_default())?;
        }
    }
    Ok(())
}

fn merge_one(dir: &Path, component: &mut raw::Component) -> Result<(), ConfigError> {
    let slots = [
        ("start", &mut component.start_command),
        ("ready", &mut component.ready_command),
        ("checkpoint", &mut component.checkpoint_command),
        ("restore", &mut component.restore_command),
    ];
    let mut found = false;
    for (name, slot) in slots {
        if let Some(program) = find(dir, name)? {
            found |= name == "start";
            *slot = Some(vec![Value {
                value: program.display().to_string(),
                variable: None,
            }]);
        }
    }
    if !found && component.start_command.is_none() {
        return Err(wrong(dir, "has no program named \"start\" or \"start.sh\""));
    }
    Ok(())
}

fn find(dir: &Path, name: &str) -> Result<Option<PathBuf>, ConfigError> {
    let candidates = [dir.join(name), dir.join(format!("{name}.sh"))];
    let present: Vec<_> = candidates.into_iter().filter(|p| p.is_file()).collect();
    let [program] = present.as_slice() else {
        return match present.len() {
            0 => Ok(None),
            _ => Err(wrong(
                dir,
                &format!("has both \"{name}\" and \"{name}.sh\""),
            )),
        };
    };
    let executable = program
        .metadata()
        .is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0);
    if !executable {
        return Err(wrong(program, "is not executable; run chmod +x on it"));
    }
    // A child may have another working directory than ours.
    std::path::absolute(program)
        .map(Some)
        .map_err(|source| ConfigError::Read {
            path: program.clone(),
            source,
        })
}

fn wrong(path: &Path, why: &str) -> ConfigError {
    ConfigError::Settings(vec![(
        "-components-dir".to_owned(),
        format!("{} {why}", path.display()),
    )])
}
