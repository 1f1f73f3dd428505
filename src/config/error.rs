//! What is wrong with a configuration, said so that a person can mend it.

use std::fmt;
use std::path::{Path, PathBuf};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not what it should be at one place.
    #[error("{0}")]
    File(Box<FileError>),
    /// The settings do not go together, or one has no sense: key path and sentence.
    #[error("{}", .0.iter().map(|(key, why)| format!("{key}: {why}")).collect::<Vec<_>>().join("\n"))]
    Settings(Vec<(String, String)>),
    /// What was asked for on the command line or in the environment is missing.
    #[error("{0}")]
    Usage(String),
}

impl ConfigError {
    /// The exit code: 78 for a bad file, 64 for everything else (sysexits).
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Read { .. } | Self::File(_) | Self::Settings(_) => 78,
            Self::Usage(_) => 64,
        }
    }
}

/// A place in the file, and what is wrong there.
#[derive(Debug)]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// The key path, such as `components.db.ready_timeout`.
    pub key: String,
    /// What is wrong, and what was expected.
    pub message: String,
    /// The nearest known key, where one is misspelt.
    pub nearest: Option<String>,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.path.display(), self.line, self.column)?;
        // "?" is a place that has no name yet, "." is the whole.
        if !matches!(self.key.as_str(), "." | "?") {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        if let Some(nearest) = &self.nearest {
            write!(f, "; did you mean \"{nearest}\"?")?;
        }
        Ok(())
    }
}

impl FileError {
    /// The file holds a list where an object is expected.
    #[must_use]
    pub fn not_an_object(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            line: 1,
            column: 1,
            key: ".".to_owned(),
            message: "invalid type: sequence, expected an object of settings".to_owned(),
            nearest: None,
        }
    }

    /// Reads what `serde_json` says about the value of `key` in `path`.
    #[must_use]
    pub fn new(path: &Path, key: String, inner: &serde_json::Error) -> Self {
        let full = inner.to_string();
        let place = format!(" at line {} column {}", inner.line(), inner.column());
        let message = full.strip_suffix(&place).unwrap_or(&full);
        let unknown = message.strip_prefix("unknown field `");
        let (message, nearest) = match unknown.and_then(|rest| rest.split_once('`')) {
            Some((field, rest)) => {
                let known: Vec<_> = rest.split('`').skip(1).step_by(2).collect();
                let nearest = nearest(field, &known);
                let message = match nearest {
                    Some(_) => format!("unknown key \"{field}\""),
                    None => format!("unknown key \"{field}\"; expected {}", known.join(", ")),
                };
                (message, nearest)
            }
            None => (message.to_owned(), None),
        };
        Self {
            path: path.to_owned(),
            line: inner.line(),
            column: inner.column(),
            key,
            message,
            nearest,
        }
    }
}

/// The known word that is most like `word`, if one is like it at all.
#[must_use]
pub fn nearest(word: &str, known: &[&str]) -> Option<String> {
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| (*candidate).to_owned())
}
