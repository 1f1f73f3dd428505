//! What `sprite-env checkpoints` can be told.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::control::ServerOptions;

/// What follows the help.
pub(super) const HELP: &str = "\
Environment:
  SPRITE_SERVER          the API, instead of --server
  SPRITE_HTTP_API_TOKEN  its token

Exit codes: 0 done, 1 it failed or was refused, 3 a checkpoint was taken but something could not
be read, 64 bad command line, 69 nobody answers.";

/// Where the daemon is, and what is to be done.
#[derive(Debug, Args)]
pub struct CheckpointsOptions {
    /// Where the daemon is.
    #[command(flatten)]
    pub at: ServerOptions,
    /// What is to be done.
    #[command(subcommand)]
    pub verb: CheckpointsVerb,
}

/// What is to be done with checkpoints.
#[derive(Debug, Subcommand)]
pub enum CheckpointsVerb {
    /// Take one.
    Create {
        /// What it is for.
        #[arg(long, value_name = "TEXT")]
        comment: Option<String>,
        /// When it is done: when it survives a crash, or when it is in the bucket.
        #[arg(long, value_parser = ["sealed", "durable"], default_value = "sealed")]
        wait: String,
    },
    /// List them, newest first.
    List {
        /// Automatic ones too.
        #[arg(long)]
        all: bool,
    },
    /// Tell about one.
    Info {
        /// Which: v3, 3, auto-…, or Current for the newest that somebody made.
        id: String,
    },
    /// Tell what has changed from one to another: + added, - removed, M content, m metadata.
    Diff {
        /// The one.
        old: String,
        /// The other.
        new: String,
    },
    /// List a directory of one.
    Ls {
        /// Which.
        id: String,
        /// The directory, from the root of the tree.
        #[arg(default_value = "")]
        path: String,
    },
    /// Write a file of one to standard output.
    Cat {
        /// Which.
        id: String,
        /// The file, from the root of the tree.
        path: String,
    },
    /// Restore one; what is there now is kept as an automatic one.
    Restore {
        /// Which.
        id: String,
    },
    /// Remove one.
    Delete {
        /// Which.
        id: String,
    },
    /// Write one as an archive: tar, compressed with zstd.
    Export {
        /// Which.
        id: String,
        /// The file; - for standard output.
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Make one of an archive: an exported one, or any tar (also compressed with zstd).
    Import {
        /// The file; - for standard input.
        file: PathBuf,
        /// What it is for, instead of what the archive says.
        #[arg(long, value_name = "TEXT")]
        comment: Option<String>,
    },
    /// Free the space of what none of them needs.
    Gc,
    /// Look whether everything is there that they need.
    Verify {
        /// Read the bytes of files too.
        #[arg(long)]
        read_data: bool,
    },
}
