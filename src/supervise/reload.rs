//! Takes another configuration over while everything runs: read, compare, and change what
//! has changed. What is as it was is not touched.

use std::sync::Arc;

use machines::system;
use tokio::sync::{Mutex, Notify};

use super::handle::Handle;
use super::sockets::{SocketError, Sockets};
use super::status::{Phase, Status};
use crate::cgroups::{Cgroups, LimitError};
use crate::config::{Action, Changes, Config, ConfigError, Flags, Live, load};

/// Why nothing was taken over.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There would be nothing left to run.
    #[error("the configuration has no process_command; nothing was changed")]
    NothingToRun,
    /// A socket cannot be opened.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Components cannot be given descriptors any more.
    #[error(
        "{0}: listen and ready.fd need descriptors that are kept free only when a component has \
         them at the start of sprite-env; start it again"
    )]
    Descriptors(String),
    /// A limit cannot be set.
    #[error(transparent)]
    Limits(#[from] LimitError),
    /// Another one is under way.
    #[error("the configuration is being reloaded already; wait for that to end")]
    UnderWay,
    /// Something else is.
    #[error("the system is {0}; the configuration can be reloaded while it is up")]
    NotNow(String),
    /// The system goes down.
    #[error("the system is going down")]
    Ending,
    /// A bug.
    #[error("the reload failed: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

/// What was done.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// What has changed.
    pub changes: Changes,
    /// The components that were started.
    pub started: Vec<String>,
    /// How often the main process had been started before it is started again; none = it
    /// goes on as it is.
    pub process: Option<u64>,
}

/// Reloads the configuration. Clones are the same.
#[derive(Clone, Debug)]
pub struct Reloader {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    parts: ReloaderParts,
    /// Held while one is under way.
    turn: Mutex<()>,
    /// Somebody wants one, and does not wait for it.
    wanted: Notify,
}

/// What a [`Reloader`] is made of.
#[derive(Debug)]
pub struct ReloaderParts {
    /// Where the configuration is, and what wins over it.
    pub flags: Flags,
    /// What is in force.
    pub config: Live,
    /// The way to the machines.
    pub handle: Handle,
    /// The sockets of the components.
    pub sockets: Sockets,
    /// The cgroups that everything runs in.
    pub cgroups: Option<Cgroups>,
}

impl Reloader {
    /// With nothing under way.
    #[must_use]
    pub fn new(parts: ReloaderParts) -> Self {
        let shared = Shared {
            parts,
            turn: Mutex::new(()),
            wanted: Notify::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The configuration that is in force.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.shared.parts.config.borrow())
    }

    /// What a reload would change.
    pub async fn plan(&self) -> Result<Changes, ReloadError> {
        Ok(self.shared.read().await?.1)
    }

    /// Reloads, if the system is up and nothing else is under way. It is done to its end,
    /// whether or not what is returned is awaited.
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let _turn = shared.turn.try_lock().map_err(|_| ReloadError::UnderWay)?;
            shared.reload().await
        })
        .await?
    }

    /// Wants a reload as soon as it is possible; several that wait are one.
    pub fn want(&self) {
        self.shared.wanted.notify_one();
    }

    /// Does what [`Self::want`] wants. Ends with the system.
    pub async fn run(self) {
        let handle = &self.shared.parts.handle;
        loop {
            self.shared.wanted.notified().await;
            let _turn = self.shared.turn.lock().await;
            if self.shared.until_settled().await.is_err() {
                return;
            }
            if let Err(error) = self.shared.reload().await {
                tracing::error!("the configuration is not reloaded: {error}");
                let why = format!("the configuration is not reloaded: {error}");
                handle.failed(why).await;
            }
        }
    }
}

impl Shared {
    /// The configuration as it is now, and what it changes.
    async fn read(&self) -> Result<(Arc<Config>, Changes), ReloadError> {
        let flags = self.parts.flags.clone();
        let config = tokio::task::spawn_blocking(move || load(&flags)).await??;
        if config.process.command.is_empty() {
            return Err(ReloadError::NothingToRun);
        }
        let changes = Changes::between(&self.parts.config.borrow(), &config);
        Ok((Arc::new(config), changes))
    }

    async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let (config, changes) = self.read().await?;
        let state = {
            let status = self.parts.handle.status();
            let status = status.borrow();
            (!is_settled(&status)).then(|| status.state.clone())
        };
        if let Some(state) = state {
            return Err(ReloadError::NotNow(state));
        }
        for key in &changes.not_taken_over {
            tracing::warn!("{key} has changed: that needs a new start of sprite-env");
        }
        let sockets = self.prepare(&config).await?;
        let (begun, stopped) = self.replace(&config, &changes, sockets).await?;
        tracing::info!("the configuration is reloaded: {}", changes.summary());
        let mut started = Vec::new();
        let was_replaced = |name: &str| changes.with(Action::Restarted).any(|it| it == name);
        for name in begun {
            // What somebody had stopped before stays so.
            if was_replaced(&name) && !stopped.contains(&name) {
                continue;
            }
            let number = self.number(&name);
            if let Some(number) = number {
                self.ask(system::Event::StartComponent(number)).await?;
                started.push(name);
            }
        }
        let process = match changes.process.action {
            Action::Restarted => self.restart_process().await?,
            _ => None,
        };
        Ok(Reloaded {
            changes,
            started,
            process,
        })
    }

    /// Does what may fail, before anything is changed that could not be put back.
    async fn prepare(&self, config: &Config) -> Result<Vec<SocketsOfOne>, ReloadError> {
        let mut components = config.components.iter();
        if !self.parts.sockets.are_possible()
            && let Some(component) = components.find(|component| component.is_given_descriptors())
        {
            return Err(ReloadError::Descriptors(component.name.clone()));
        }
        let sockets = self.parts.sockets.open(&config.components)?;
        let limits = config.resource_limits();
        match &self.parts.cgroups {
            Some(cgroups) => {
                let cgroups = cgroups.clone();
                tokio::task::spawn_blocking(move || cgroups.limit(limits)).await??;
            }
            None if limits.is_empty() => {}
            None => return Err(LimitError::NoGroups.into()),
        }
        Ok(sockets)
    }

    /// Stops what is no more, or otherwise, and has the machines take the configuration over.
    /// Returns what has to be started, and what was stopped.
    async fn replace(
        &self,
        config: &Arc<Config>,
        changes: &Changes,
        sockets: Vec<SocketsOfOne>,
    ) -> Result<(Vec<String>, Vec<String>), ReloadError> {
        let old = Arc::clone(&self.parts.config.borrow());
        let mut stopped = Vec::new();
        loop {
            self.until_settled().await?;
            let replaced: Vec<_> = changes.replaced().collect();
            // What needs others goes before them.
            for component in old.in_order().into_iter().rev() {
                if replaced.contains(&component.name.as_str()) && self.stop(&component.name).await?
                {
                    stopped.push(component.name.clone());
                }
            }
            // Whatever came between, such as a restore, has started them again.
            let adopted = self.parts.handle.adopt(Arc::clone(config), sockets.clone());
            if let Some(begun) = adopted.await {
                return Ok((begun, stopped));
            }
        }
    }

    /// Stops a component, and waits until it is down. Whether it was up.
    async fn stop(&self, name: &str) -> Result<bool, ReloadError> {
        let is_down = |status: &Status| {
            let part = status.components.get(name);
            part.is_none_or(super::status::Part::is_down)
        };
        let mut status = self.parts.handle.status();
        if is_down(&status.borrow()) {
            return Ok(false);
        }
        if let Some(number) = self.number(name) {
            self.ask(system::Event::StopComponent(number)).await?;
        }
        let down = status.wait_for(|status| is_down(status) || !is_settled(status));
        down.await.map_err(|_| ReloadError::Ending)?;
        Ok(true)
    }

    async fn restart_process(&self) -> Result<Option<u64>, ReloadError> {
        self.until_settled().await?;
        let starts = {
            let status = self.parts.handle.status();
            let status = status.borrow();
            (status.phase == Phase::Serving).then_some(status.process.starts)
        };
        // Parked, it is started by what it is now when somebody starts it.
        if starts.is_some() {
            self.ask(system::Event::RestartProcess).await?;
        }
        Ok(starts)
    }

    fn number(&self, name: &str) -> Option<usize> {
        let status = self.parts.handle.status();
        let status = status.borrow();
        status.components.get(name).map(|part| part.number)
    }

    /// Asks the system for `event`, as soon as it accepts it.
    async fn ask(&self, event: system::Event) -> Result<(), ReloadError> {
        let handle = &self.parts.handle;
        let mut status = handle.status();
        loop {
            self.until_settled().await?;
            if handle.request(event.clone(), None).await.is_ok() {
                return Ok(());
            }
            // It has changed since, and the news is on its way.
            status.changed().await.map_err(|_| ReloadError::Ending)?;
        }
    }

    /// Waits until nothing else is under way.
    async fn until_settled(&self) -> Result<(), ReloadError> {
        let mut status = self.parts.handle.status();
        let settled = status.wait_for(|status| is_settled(status) || status.phase == Phase::Ending);
        let settled = settled.await.map_err(|_| ReloadError::Ending)?;
        if settled.phase == Phase::Ending {
            return Err(ReloadError::Ending);
        }
        Ok(())
    }
}

type SocketsOfOne = Vec<Arc<std::os::fd::OwnedFd>>;

fn is_settled(status: &Status) -> bool {
    matches!(status.phase, Phase::Serving | Phase::Parked)
}
