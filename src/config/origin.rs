//! Every setting, its value and where it came from: what `config print` shows.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::value::Value;

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The configuration file.
    File,
    /// The configuration file, by `{"$env": NAME}`.
    FileVariable(String),
    /// An environment variable.
    Variable(&'static str),
    /// A flag.
    Flag(&'static str),
    /// A file in the components directory.
    ComponentsDir,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File => f.write_str("file"),
            Self::FileVariable(name) => write!(f, "file, from ${name}"),
            Self::Variable(name) => write!(f, "environment ${name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::ComponentsDir => f.write_str("flag -components-dir"),
        }
    }
}

impl<T> Value<T> {
    /// Where in the file the value came from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        match &self.variable {
            Some(name) => Origin::FileVariable(name.clone()),
            None => Origin::File,
        }
    }
}

/// One setting.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Its key path.
    pub key: String,
    /// Its value; secrets are masked.
    pub value: Json,
    /// Where it came from.
    pub origin: Origin,
}

/// All settings, as they are decided, and all that is wrong with them.
#[derive(Debug, Default)]
pub struct Ledger {
    /// What paths are relative to; empty = where we are.
    pub base_dir: PathBuf,
    /// What was decided.
    pub settings: Vec<Setting>,
    /// What is wrong: key path and sentence.
    pub errors: Vec<(String, String)>,
}

impl Ledger {
    /// The whole of a path that may be relative.
    pub fn absolute(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        // To join an empty path would not be an error.
        if path.as_ref().as_os_str().is_empty() {
            return std::path::absolute(path);
        }
        std::path::absolute(self.base_dir.join(path))
    }

    /// Notes a setting and returns its value.
    pub fn note<T>(&mut self, key: &str, value: T, shown: Json, origin: Origin) -> T {
        self.settings.push(Setting {
            key: key.to_owned(),
            value: shown,
            origin,
        });
        value
    }

    /// Notes that something is wrong.
    pub fn wrong(&mut self, key: &str, why: impl Into<String>) {
        self.errors.push((key.to_owned(), why.into()));
    }

    /// Takes the first of `candidates` that is there, else `default`.
    pub fn pick<T: Clone + Into<Json>>(
        &mut self,
        key: &str,
        candidates: impl IntoIterator<Item = Option<(T, Origin)>>,
        default: T,
    ) -> T {
        let (value, origin) = candidates
            .into_iter()
            .flatten()
            .next()
            .unwrap_or((default, Origin::Default));
        self.note(key, value.clone(), value.into(), origin)
    }

    /// Like [`Ledger::pick`], without a default.
    pub fn pick_optional<T: Clone + Into<Json>>(
        &mut self,
        key: &str,
        candidates: impl IntoIterator<Item = Option<(T, Origin)>>,
    ) -> Option<T> {
        let found = candidates.into_iter().flatten().next();
        let (value, origin) = match found {
            Some((value, origin)) => (Some(value), origin),
            None => (None, Origin::Default),
        };
        let shown = value.clone().map_or(Json::Null, Into::into);
        self.note(key, value, shown, origin)
    }
}

/// A value of the file as a candidate for [`Ledger::pick`].
#[must_use]
pub fn from_file<T: Clone>(value: Option<&Value<T>>) -> Option<(T, Origin)> {
    value.map(|v| (v.value.clone(), v.origin()))
}
