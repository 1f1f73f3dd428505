//! The components' own part of a checkpoint: their checkpoint and restore commands.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::driver::{Cancel, Context as _, Error};
use super::order::Progress;
use crate::config::{Component, Live};
use crate::spawn::{Program, Spawner, Streams};

/// The components' commands.
#[derive(Clone, Debug)]
pub struct Hooks {
    config: Live,
    spawner: Spawner,
    timeout: Duration,
}

/// Which of a component's commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// `checkpoint_command`
    Checkpoint,
    /// `restore_command`
    Restore,
}

impl Hooks {
    /// The commands of the components of `config`.
    #[must_use]
    pub fn new(config: Live, spawner: Spawner) -> Self {
        let timeout = config
            .borrow()
            .storage
            .as_ref()
            .map(|storage| storage.command_timeout);
        Self {
            config,
            spawner,
            timeout: timeout.unwrap_or(Duration::from_secs(60)),
        }
    }

    /// Runs each component's command, those first that others need, with
    /// `CHECKPOINT_ID` and its own directory in `dir` as `CHECKPOINT_DIR`. The first
    /// failure ends it.
    pub async fn run(
        &self,
        hook: Hook,
        id: &str,
        dir: &Path,
        progress: &Progress,
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let config = Arc::clone(&self.config.borrow());
        for component in config.in_order() {
            let command = match hook {
                Hook::Checkpoint => &component.checkpoint_command,
                Hook::Restore => &component.restore_command,
            };
            let own = dir.join(&component.name);
            fs::create_dir_all(&own).context("create", &own)?;
            if let Some(command) = command {
                progress.info(format!("Running the {} of {}", hook.key(), component.name));
                let run = self.run_one(component, command.clone(), hook, id, &own);
                // When it is told to end, the guard of the command that runs kills it.
                tokio::select! {
                    result = run => result?,
                    () = cancel.cancelled() => cancel.check()?,
                }
            }
        }
        Ok(())
    }

    async fn run_one(
        &self,
        component: &Component,
        command: Vec<String>,
        hook: Hook,
        id: &str,
        dir: &Path,
    ) -> Result<(), Error> {
        let mut program = Program::of_component(component, command, Streams::Output);
        let id = ("CHECKPOINT_ID".to_owned(), id.to_owned());
        let dir_name = ("CHECKPOINT_DIR".to_owned(), dir.display().to_string());
        program.environment.extend([id, dir_name]);
        if let Some(user) = &component.user {
            let (uid, gid) = (Some(user.uid), Some(user.gid));
            std::os::unix::fs::chown(dir, uid, gid).context("give to its component", dir)?;
        }
        let failed = |why: String| {
            Err(Error::Hook(format!(
                "the {} of {} {why}",
                hook.key(),
                component.name
            )))
        };
        let child = match self.spawner.spawn_soon(program).await {
            Ok(child) => child,
            Err(error) => return failed(format!("failed: {error}")),
        };
        let guard = self.spawner.reaper.guard(child.pid);
        let finished = tokio::time::timeout(self.timeout, child.finish()).await;
        if finished.is_ok() {
            guard.disarm();
        } else {
            drop(guard);
        }
        match finished {
            Err(_) => failed(format!(
                "did not end within {:?} and was killed",
                self.timeout
            )),
            Ok((Some(exit), _)) if exit.success() => Ok(()),
            Ok((exit, output)) => {
                let how = exit.map_or_else(|| "lost".to_owned(), |exit| exit.to_string());
                failed(format!("failed ({how}): {}", output.trim()))
            }
        }
    }
}

impl Hook {
    const fn key(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint_command",
            Self::Restore => "restore_command",
        }
    }
}
