//! Takes another configuration over while everything runs: read, compare, and change what
//! has changed. What is as it was is not touched.

mod apply;

use std::sync::Arc;

use tokio::sync::{Mutex, Notify};

use super::handle::Handle;
use super::sockets::{SocketError, Sockets};
use crate::cgroups::{Cgroups, LimitError};
use crate::checkpoint::juicefs;
use crate::config::{Action, Changes, Component, Config, ConfigError, Flags, Live, append, load};

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
    /// What carries the storage would change.
    #[error(
        "{0}: the storage is on it, which is in use; start sprite-env again, or leave it as it is"
    )]
    Storage(String),
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

/// Reads the configuration again. Clones are the same.
#[derive(Clone, Debug)]
pub struct Reloader {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    parts: ReloaderParts,
    /// What everything was started with that is not taken over later.
    at_start: Arc<Config>,
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
        let at_start = Arc::clone(&parts.config.borrow());
        let shared = Shared {
            parts,
            at_start,
            turn: Mutex::new(()),
            wanted: Notify::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The configuration that is in force.
    #[must_use]
    pub fn live(&self) -> Live {
        self.shared.parts.config.clone()
    }

    /// What a reload would change.
    pub async fn plan(&self) -> Result<Changes, ReloadError> {
        let (config, changes) = self.shared.read().await?;
        self.shared.check(&config, &changes)?;
        Ok(changes)
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
            let reloaded = loop {
                if self.shared.until_settled().await.is_err() {
                    return;
                }
                match self.shared.reload().await {
                    // Something else has begun while it was read.
                    Err(ReloadError::NotNow(_)) => {}
                    reloaded => break reloaded,
                }
            };
            if let Err(error) = reloaded {
                tracing::error!("the configuration is not reloaded: {error}");
                let why = format!("the configuration is not reloaded: {error}");
                handle.failed(why).await;
            }
        }
    }
}

/// The components from the number `first` on, which need only one another.
fn cut(components: &[Component], first: usize) -> Vec<Component> {
    let rest = components.iter().skip(first).map(|component| {
        let needs = component
            .needs
            .iter()
            .map(|need| need.saturating_sub(first));
        Component {
            needs: needs.collect(),
            ..component.clone()
        }
    });
    rest.collect()
}

/// The component of this name, without the numbers of what it needs: those may be others.
fn alike(config: &Config, name: &str) -> Option<Component> {
    Some(Component {
        needs: Vec::new(),
        ..config.component(name)?.clone()
    })
}

impl Shared {
    /// The configuration as it is now, and what it changes. What cannot be taken over is as it
    /// was at the start.
    async fn read(&self) -> Result<(Arc<Config>, Changes), ReloadError> {
        let flags = self.parts.flags.clone();
        let found = tokio::task::spawn_blocking(move || load(&flags)).await??;
        if found.process.command.is_empty() {
            return Err(ReloadError::NothingToRun);
        }
        let not_taken_over = Changes::between(&self.at_start, &found).not_taken_over;
        let found = self.with_built_in(found)?;
        let changes = Changes {
            not_taken_over,
            ..Changes::between(&self.parts.config.borrow(), &found)
        };
        let config = Config {
            process: found.process,
            components: found.components,
            exec: found.exec,
            settings: found.settings,
            ..Config::clone(&self.at_start)
        };
        Ok((Arc::new(config), changes))
    }

    /// With the components of the volume as they were at the start.
    fn with_built_in(&self, mut found: Config) -> Result<Config, ReloadError> {
        let volume = |config: &Config| config.storage.as_ref()?.juicefs.clone();
        match (volume(&self.at_start), volume(&found)) {
            (None, None) => return Ok(found),
            (Some(_), Some(_)) => {}
            _ => return Err(ReloadError::Storage(juicefs::COMPONENT.to_owned())),
        }
        // They are the last, here and there.
        let built_in = |config: &Config| {
            let count = volume(config).map_or(0, |volume| volume.components());
            cut(
                &config.components,
                config.components.len().saturating_sub(count),
            )
        };
        let (others, kept) = (built_in(&found), built_in(&self.at_start));
        let first = found.components.len() - others.len();
        found.components.truncate(first);
        for need in found.components.iter_mut().flat_map(|it| &mut it.needs) {
            // There may be more of them than now, or fewer.
            if let Some(other) = need.checked_sub(first).and_then(|place| others.get(place)) {
                let place = kept.iter().position(|it| it.name == other.name);
                let place = place.ok_or_else(|| ReloadError::Storage(other.name.clone()))?;
                *need = first + place;
            }
        }
        append(&mut found.components, kept);
        Ok(found)
    }

    /// Whether what was set up at the start is enough for it.
    fn check(&self, config: &Config, changes: &Changes) -> Result<(), ReloadError> {
        let in_force = self.parts.config.borrow().clone();
        let all = in_force.components.iter().chain(&config.components);
        let mut storage = all.filter(|component| component.storage);
        let is_other = |component: &&Component| {
            let change = changes.components.get(&component.name);
            change.is_some_and(|change| change.action != Action::Unchanged)
                || alike(&in_force, &component.name) != alike(config, &component.name)
        };
        if let Some(component) = storage.find(is_other) {
            return Err(ReloadError::Storage(component.name.clone()));
        }
        let mut components = config.components.iter();
        if !self.parts.sockets.are_possible()
            && let Some(component) = components.find(|component| component.is_given_descriptors())
        {
            return Err(ReloadError::Descriptors(component.name.clone()));
        }
        let limits = config.resource_limits();
        match &self.parts.cgroups {
            Some(cgroups) => cgroups.can_limit(&limits)?,
            None if limits.is_empty() => {}
            None => return Err(LimitError::NoGroups.into()),
        }
        Ok(())
    }
}
