//! Starting a command as a session.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use machines::exit::Exit;
use tokio::sync::{mpsc, oneshot};

use super::pump::{self, Channel};
use super::session::{Attachment, Facts, Input, Linger, Session, Stream};
use super::sessions::{Admission, NotAdmitted, Sessions};
use super::terminal::{self, Size};
use crate::config::{Config, Live};
use crate::reaper::Child;
use crate::spawn::{Program, SpawnError, Spawner, Streams};

/// What is used where we ourselves were started without: a program must find others, and
/// know what terminal it has.
const DEFAULT_ENVIRONMENT: &[(&str, &str)] = &[
    (
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    ("HOME", "/"),
    ("LANG", "C.UTF-8"),
    ("SHELL", "/bin/sh"),
];
const DEFAULT_TERM: (&str, &str) = ("TERM", "xterm-256color");

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The program, if it is not the first word of the command.
    pub path: Option<String>,
    /// What is added to its environment.
    pub environment: BTreeMap<String, String>,
    /// Where it runs; none = where the main process does.
    pub working_dir: Option<PathBuf>,
    /// Whether it reads what clients send; otherwise its standard input is empty.
    pub stdin: bool,
    /// The size of its terminal, if it is to have one.
    pub terminal: Option<Size>,
    /// What becomes of it without clients.
    pub linger: Linger,
}

/// A command that runs, and our end of its terminal if it has one.
type Started = (Child, Option<Arc<OwnedFd>>);

/// Runs commands.
#[derive(Clone, Debug)]
pub struct Runner {
    spawner: Spawner,
    sessions: Sessions,
    config: Live,
}

impl Runner {
    /// Commands run as the main process does: same directory, environment, user and
    /// attributes.
    #[must_use]
    pub const fn new(config: Live, spawner: Spawner, sessions: Sessions) -> Self {
        Self {
            spawner,
            sessions,
            config,
        }
    }

    /// The commands that run now, and those that ran lately.
    #[must_use]
    pub const fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Starts a command; whoever asked for it is its first client. That it could not be
    /// started is told there.
    pub fn start(&self, spec: &Spec) -> Result<Attachment, NotAdmitted> {
        let admission = self.sessions.admit()?;
        let usual = self.config.borrow().process.working_dir.clone();
        let working_dir = spec.working_dir.as_ref().or(usual.as_ref());
        let facts = Facts {
            id: admission.id(),
            command: spec.command.clone(),
            working_dir: working_dir
                .unwrap_or(&self.spawner.base_dir)
                .display()
                .to_string(),
            created: jiff::Timestamp::now().as_second(),
            tty: spec.terminal.is_some(),
            linger: spec.linger,
        };
        let reaper = self.spawner.reaper.clone();
        let (session, inputs) = Session::new(facts, spec.terminal, reaper);
        let attachment = session.attach();
        admission.began(&session);
        let spawning = self.spawn(spec);
        tokio::spawn(self.clone().conduct(spawning, session, admission, inputs));
        Ok(attachment)
    }

    /// Conducts a session from its start to its end.
    async fn conduct(
        self,
        spawning: impl Future<Output = Result<Started, SpawnError>> + Send,
        session: Arc<Session>,
        admission: Admission,
        inputs: mpsc::Receiver<Input>,
    ) {
        let code = match spawning.await {
            Ok((child, terminal)) => {
                let pid = child.pid;
                // Should this task panic, the command must not live on unwatched.
                let guard = self.spawner.reaper.guard(pid);
                session.started(pid, terminal.clone());
                admission.started(pid);
                if session.is_abandoned() {
                    self.spawner.reaper.signal_group(pid, libc::SIGKILL);
                }
                let code = watch(child, terminal, &session, inputs).await;
                guard.disarm();
                code
            }
            Err(error) => {
                session.failed(error.to_string()).await;
                error.exit_code()
            }
        };
        admission.ended();
        session.finish(code).await;
    }

    /// Starts the command; what comes of it is awaited elsewhere.
    fn spawn(
        &self,
        spec: &Spec,
    ) -> impl Future<Output = Result<Started, SpawnError>> + Send + use<> {
        let prepared = self.prepare(spec);
        let spawning = prepared.map(|(program, ours)| (self.spawner.spawn_soon(program), ours));
        async move {
            let (spawning, ours) = spawning?;
            Ok((spawning.await?, ours))
        }
    }

    /// The program, and our end of its terminal if it is to have one.
    fn prepare(&self, spec: &Spec) -> Result<(Program, Option<Arc<OwnedFd>>), SpawnError> {
        let config = Arc::clone(&self.config.borrow());
        let mut program = template(&config);
        if spec.terminal.is_some() {
            let (name, value) = DEFAULT_TERM;
            let variable = program.environment.entry(name.to_owned());
            variable.or_insert(value.to_owned());
        }
        program.environment.extend(spec.environment.clone());
        let wrapper = match spec.terminal {
            Some(_) => &config.exec.tty_wrapper,
            None => &config.exec.wrapper,
        };
        program.command.clone_from(wrapper);
        program.command.extend(spec.command.clone());
        if let (Some(path), true, Some(first)) =
            (&spec.path, wrapper.is_empty(), program.command.first_mut())
            && path != first
        {
            program.arg0 = Some(std::mem::replace(first, path.clone()));
        }
        if spec.working_dir.is_some() {
            program.working_dir.clone_from(&spec.working_dir);
        }
        if spec.stdin {
            program.streams = Streams::Piped;
        }
        let mut ours = None;
        if let Some(size) = spec.terminal {
            let opened = terminal::open(size, program.user.as_ref());
            let (master, slave) = opened.map_err(|source| SpawnError {
                program: "a terminal".to_owned(),
                working_dir: None,
                source,
            })?;
            ours = Some(Arc::new(master));
            program.streams = Streams::Terminal(Arc::new(slave));
        }
        Ok((program, ours))
    }
}

/// How commands run that say nothing about it.
fn template(config: &Config) -> Program {
    let mut template = Program::of_process(&config.process, vec![], Streams::Output);
    for (name, value) in DEFAULT_ENVIRONMENT {
        if std::env::var_os(name).is_none() {
            let variable = template.environment.entry((*name).to_owned());
            variable.or_insert_with(|| (*value).to_owned());
        }
    }
    template
}

/// Passes on everything between the command and its session; returns the exit code once
/// the command is gone and all that it wrote was passed on.
async fn watch(
    child: Child,
    terminal: Option<Arc<OwnedFd>>,
    session: &Arc<Session>,
    inputs: mpsc::Receiver<Input>,
) -> u8 {
    let channel = |fd: OwnedFd| Channel::new(Arc::new(fd)).ok();
    // One descriptor can be waited for once: what is read and what is written is each its own.
    let duplicate = || channel(terminal.as_ref()?.try_clone().ok()?);
    let stdin = child.stdin.map(Into::into).and_then(channel);
    if let Some(sink) = stdin.or_else(duplicate) {
        let feeding = tokio::spawn(pump::input(sink, inputs));
        let mut exit = session.exit();
        tokio::spawn(async move {
            // What a grandchild has of the input it keeps; we stop writing to it.
            let _ = exit.wait_for(Option::is_some).await;
            feeding.abort();
        });
    } else {
        // What clients send is thrown away at once.
        drop(inputs);
    }
    let (first_over, first) = oneshot::channel();
    let (second_over, second) = oneshot::channel();
    let exit = async {
        let exit = child.exit.await.unwrap_or(Exit::Signal(9));
        let _ = first_over.send(());
        let _ = second_over.send(());
        exit
    };
    let exit = if session.facts.tty {
        let output = pump::output(duplicate(), Stream::Terminal, first, session);
        tokio::join!(exit, output).0
    } else {
        let stdout = child.stdout.map(Into::into).and_then(channel);
        let stderr = child.stderr.map(Into::into).and_then(channel);
        let stdout = pump::output(stdout, Stream::Stdout, first, session);
        let stderr = pump::output(stderr, Stream::Stderr, second, session);
        tokio::join!(exit, stdout, stderr).0
    };
    exit.code()
}
