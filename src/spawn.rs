//! What every child has in common: its environment, its process group, its user.

mod finish;
mod launch;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::Either;

use crate::cgroups::{Cgroup, Cgroups};
use crate::config::{Attributes, Component, Process, User};
use crate::reaper::{Child, Reaper};
use crate::sys::SignalMask;

/// Variables of ours that, beside the secret ones, no child gets unless its
/// configuration names them.
const WITHHELD: &[&str] = &[
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
];

/// The variables that are secret: no child gets them either, and `/proc` shows them to nobody.
pub const SECRET: &[&str] = &[
    "SPRITE_HTTP_API_TOKEN",
    "SPRITE_HTTP_ADMIN_TOKEN",
    "SPRITE_S3_ACCESS_KEY",
    "SPRITE_S3_SECRET_ACCESS_KEY",
    "SPRITE_ENCRYPTION_KEY",
];

/// Where a child's input comes from and its output goes.
#[derive(Clone, Debug)]
pub enum Streams {
    /// Ours, untouched.
    Inherited,
    /// Input from nowhere, output to pipes.
    Output,
    /// Everything through pipes.
    Piped,
    /// A terminal that the child has for itself, in a session of its own.
    Terminal(Arc<OwnedFd>),
}

/// What to start.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// What the program is to take for its name; none = the first word of the command.
    pub arg0: Option<String>,
    /// Where it runs; none = where we run.
    pub working_dir: Option<PathBuf>,
    /// What is added to the environment.
    pub environment: BTreeMap<String, String>,
    /// As whom it runs; none = as we do.
    pub user: Option<User>,
    /// Its input and output.
    pub streams: Streams,
    /// Whether it takes over the terminal, if we have one.
    pub foreground: bool,
    /// What it may do and use.
    pub attributes: Attributes,
    /// The cgroup that it runs in, where there are any.
    pub cgroup: Cgroup,
    /// What it is given beside its streams: the number that it knows each by, and the file.
    pub descriptors: Vec<(i32, Arc<OwnedFd>)>,
}

impl Program {
    /// A program that runs as we do, with nothing of its own.
    #[must_use]
    pub fn new(command: Vec<String>, streams: Streams) -> Self {
        Self {
            command,
            arg0: None,
            working_dir: None,
            environment: BTreeMap::new(),
            user: None,
            streams,
            foreground: false,
            attributes: Attributes::default(),
            cgroup: Cgroup::default(),
            descriptors: Vec::new(),
        }
    }

    /// A program that runs as `component` does.
    #[must_use]
    pub fn of_component(component: &Component, command: Vec<String>, streams: Streams) -> Self {
        Self {
            working_dir: component.working_dir.clone(),
            environment: component.environment.clone(),
            user: component.user.clone(),
            attributes: component.attributes.clone(),
            ..Self::new(command, streams)
        }
    }

    /// A program that runs as the main process does.
    #[must_use]
    pub fn of_process(process: &Process, command: Vec<String>, streams: Streams) -> Self {
        Self {
            working_dir: process.working_dir.clone(),
            environment: process.environment.clone(),
            user: process.user.clone(),
            attributes: process.attributes.clone(),
            ..Self::new(command, streams)
        }
    }

    /// Ours, without what no child gets, with what its user has and what its configuration
    /// adds.
    fn whole_environment(&self) -> BTreeMap<OsString, OsString> {
        let withheld = |name: &OsString| {
            let mut names = SECRET.iter().chain(WITHHELD);
            names.any(|withheld| name == withheld)
        };
        let inherited = |name: &OsString| self.attributes.inherits(&name.to_string_lossy());
        let ours = std::env::vars_os().filter(|(name, _)| !withheld(name) && inherited(name));
        let mut whole: BTreeMap<_, _> = ours.collect();
        if let Some(user) = &self.user {
            let facts = [
                ("HOME", &user.home),
                ("USER", &user.name),
                ("LOGNAME", &user.name),
            ];
            let known = facts.into_iter().filter_map(|(name, value)| {
                let value = value.as_ref()?;
                Some((name.into(), value.into()))
            });
            whole.extend(known);
        }
        let added = self.attributes.environment.iter().chain(&self.environment);
        whole.extend(added.map(|(name, value)| (name.into(), value.into())));
        whole
    }
}

/// Starts children.
#[derive(Clone, Debug)]
pub struct Spawner {
    /// Who waits for them.
    pub reaper: Reaper,
    /// The signals that were blocked when we were started: children get the same.
    pub mask: SignalMask,
    /// Where we were started: where children run, and what their directories are
    /// relative to. A name, not where we are: a restore puts another directory there.
    pub base_dir: PathBuf,
    /// The cgroups that they run in; none = that which we are in.
    pub cgroups: Option<Cgroups>,
    /// How soon the kernel was to kill us when memory runs out, as we found it at our start;
    /// none = it still is so. Children are not protected as we are.
    pub oom_score_adj: Option<i32>,
}

/// Why a program could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot run \"{program}\"{}: {source}", where_in(.working_dir.as_ref()))]
pub struct SpawnError {
    /// The program.
    pub program: String,
    /// Where it was to run.
    pub working_dir: Option<PathBuf>,
    /// Why not.
    pub source: io::Error,
}

fn where_in(dir: Option<&PathBuf>) -> String {
    dir.map_or_else(String::new, |dir| format!(" in {}", dir.display()))
}

impl SpawnError {
    /// The exit code that a shell would give: 127 not found, 126 not executable.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.source.kind() {
            io::ErrorKind::NotFound => 127,
            _ => 126,
        }
    }
}

impl Spawner {
    /// Starts `program` in a process group of its own. Blocks until it runs or could
    /// not be run: call it where blocking is allowed.
    pub fn spawn(&self, program: &Program) -> Result<Child, SpawnError> {
        launch::launch(self, program).map_err(|source| self.error(program, source))
    }

    /// Like [`Spawner::spawn`], for callers that must not block. The program is started
    /// whether or not what is returned is awaited, and mostly before that.
    pub fn spawn_soon(
        &self,
        program: Program,
    ) -> impl Future<Output = Result<Child, SpawnError>> + Send + use<> {
        let spawner = self.clone();
        let copy = program.clone();
        // Held until the program runs: what is held before that would hold the reaper.
        let gate = self.reaper.gate();
        let start = move |pass| {
            tokio::task::spawn_blocking(move || {
                let child = spawner.spawn(&copy);
                drop(pass);
                child
            })
        };
        let starting = match Arc::clone(&gate).try_read_owned() {
            Ok(pass) => Either::Left(start(pass)),
            Err(_) => Either::Right(tokio::spawn(
                async move { start(gate.read_owned().await).await },
            )),
        };
        let spawner = self.clone();
        async move {
            let started = match starting {
                Either::Left(started) => started.await,
                Either::Right(started) => started.await.and_then(|started| started),
            };
            started.unwrap_or_else(|panic| Err(spawner.error(&program, io::Error::other(panic))))
        }
    }

    /// Where the program runs.
    fn dir_of(&self, program: &Program) -> PathBuf {
        let dir = program.working_dir.as_deref().unwrap_or(Path::new(""));
        self.base_dir.join(dir)
    }

    #[allow(clippy::unused_self, reason = "reads as a method where it is called")]
    fn error(&self, program: &Program, source: io::Error) -> SpawnError {
        SpawnError {
            program: program.command.first().cloned().unwrap_or_default(),
            working_dir: program.working_dir.clone(),
            source,
        }
    }
}
