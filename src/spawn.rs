//! What every child has in common: its environment, its process group, its user.

mod finish;
mod light;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use futures_util::future::Either;

use crate::config::{Attributes, Component, Process, User};
use crate::reaper::{Child, Reaper};
use crate::sys::SignalMask;
use crate::sys::child_setup::{ChildSetup, set_up_child};

/// Variables of ours that, beside the secret ones, no child gets unless its
/// configuration names them.
const WITHHELD: &[&str] = &[
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
];

/// The variables that are secret: no child gets them either, and they are wiped from our own environment once they were read.
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
        let Some((name, arguments)) = program.command.split_first() else {
            return Err(self.error(program, io::ErrorKind::InvalidInput.into()));
        };
        if self.oom_score_adj.is_none() && light::is_light(program) {
            match light::spawn(self, program) {
                // A script that does not say whose it is: the other way gives it to a shell.
                Err(error) if error.raw_os_error() == Some(libc::ENOEXEC) => {}
                spawned => return spawned.map_err(|source| self.error(program, source)),
            }
        }
        let mut command = Command::new(name);
        command.args(arguments);
        if let Some(arg0) = &program.arg0 {
            command.arg0(arg0);
        }
        command.env_clear().envs(program.whole_environment());
        command.current_dir(self.dir_of(program));
        let connected = connect(&mut command, &program.streams);
        connected.map_err(|source| self.error(program, source))?;
        let user = program.user.as_ref();
        let attributes = &program.attributes;
        let groups = attributes.groups.clone();
        let setup = ChildSetup {
            mask: self.mask,
            groups: groups.or_else(|| user.map(|user| user.groups.clone())),
            user: user.map(|user| (user.uid, user.gid)),
            foreground_of: program.foreground.then(terminal).flatten(),
            owns_terminal: matches!(program.streams, Streams::Terminal(_)),
            umask: attributes.umask,
            nice: attributes.nice,
            oom_score_adj: attributes
                .oom_score_adj
                .or(self.oom_score_adj)
                .map(|adj| adj.to_string()),
            rlimits: attributes.rlimits.clone(),
            capabilities: attributes.capabilities,
            no_new_privs: attributes.no_new_privs,
            descriptors: program.descriptors.clone(),
        };
        set_up_child(&mut command, setup);
        self.reaper
            .spawn(&mut command)
            .map_err(|source| self.error(program, source))
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

/// Gives the child its input and output, and a process group of its own: with a terminal
/// the session that it begins is one.
fn connect(command: &mut Command, streams: &Streams) -> io::Result<()> {
    match streams {
        Streams::Inherited => {}
        Streams::Output => {
            command.stdin(Stdio::null());
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        Streams::Piped => {
            command.stdin(Stdio::piped());
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        Streams::Terminal(terminal) => {
            command.stdin(terminal.try_clone()?);
            command.stdout(terminal.try_clone()?);
            command.stderr(terminal.try_clone()?);
            return Ok(());
        }
    }
    command.process_group(0);
    Ok(())
}

/// The terminal on our standard input, if we are in its foreground.
fn terminal() -> Option<i32> {
    let stdin = std::io::stdin();
    let group = rustix::termios::tcgetpgrp(&stdin).ok()?;
    (group == rustix::process::getpgrp()).then(|| stdin.as_raw_fd())
}
