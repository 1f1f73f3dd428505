//! Stops what is no more or otherwise, has the machines take the configuration over, and starts
//! what has come.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use machines::system;

use super::{ReloadError, Reloaded, Shared};
use crate::config::{Action, Changes, Config};
use crate::supervise::Status;
use crate::supervise::status::Phase;

/// The sockets of each component.
type Sockets = Vec<Vec<Arc<OwnedFd>>>;

impl Shared {
    pub(super) async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let (config, changes) = self.read().await?;
        self.check(&config, &changes)?;
        if let Some(state) = self.see(|status| (!status.is_settled).then(|| status.state.clone())) {
            return Err(ReloadError::NotNow(state));
        }
        for key in &changes.not_taken_over {
            tracing::warn!("{key} has changed: that needs a new start of sprite-env");
        }
        let mut reloaded = Reloaded {
            started: Vec::new(),
            process: None,
            changes,
        };
        if !reloaded.changes.are_none() {
            let sockets = self.parts.sockets.open(&config.components)?;
            reloaded.started = self.replace(&config, &reloaded.changes, sockets).await?;
            self.start(&reloaded.started).await?;
            if reloaded.changes.process.action == Action::Restarted {
                reloaded.process = self.restart_process().await?;
            }
        }
        let summary = reloaded.changes.summary();
        tracing::info!("the configuration is reloaded: {summary}");
        Ok(reloaded)
    }

    /// Stops what is no more, or otherwise, and has the machines take the configuration over.
    /// Returns what has to be started.
    async fn replace(
        &self,
        config: &Arc<Config>,
        changes: &Changes,
        sockets: Sockets,
    ) -> Result<Vec<String>, ReloadError> {
        let old = Arc::clone(&self.parts.config.borrow());
        let replaced: Vec<_> = changes.replaced().collect();
        let mut stopped = Vec::new();
        loop {
            self.until_settled().await?;
            // What needs others goes before them.
            for component in old.in_order().into_iter().rev() {
                let name = component.name.as_str();
                if replaced.contains(&name) && self.stop(name).await? {
                    stopped.push(name.to_owned());
                }
            }
            // What ran by the limits of before is down, or goes on by its new ones.
            if let Err(error) = self.limit(config).await {
                self.start(&stopped).await?;
                return Err(error);
            }
            let adopted = self.parts.handle.adopt(Arc::clone(config), sockets.clone());
            let begun = adopted.await.map_err(|_| ReloadError::Ending)?;
            // Whatever came between, such as a restore, has started some of them again.
            let Some(begun) = begun else { continue };
            // What somebody had stopped before stays so.
            let is_wanted =
                |name: &String| !replaced.contains(&name.as_str()) || stopped.contains(name);
            return Ok(begun.into_iter().filter(is_wanted).collect());
        }
    }

    /// Has each cgroup use what the configuration says.
    async fn limit(&self, config: &Config) -> Result<(), ReloadError> {
        if let Some(cgroups) = self.parts.cgroups.clone() {
            let limits = config.resource_limits();
            tokio::task::spawn_blocking(move || cgroups.limit(limits)).await??;
        }
        Ok(())
    }

    /// Stops a component, if it is up. Whether it is one to be started again: nobody else had
    /// stopped it.
    async fn stop(&self, name: &str) -> Result<bool, ReloadError> {
        let found = self.see(|status| {
            let part = status.components.get(name)?;
            Some((part.number, part.is_down(), part.state == "Stopped"))
        });
        let Some((number, is_down, was_stopped)) = found else {
            return Ok(false);
        };
        if is_down {
            return Ok(!was_stopped);
        }
        self.ask(system::Event::StopComponent(number)).await?;
        // Somebody may have it started again at once: it is stopped again, then.
        let has_gone = |status: &Status| {
            let part = status.components.get(name);
            part.is_none_or(|part| !part.state.starts_with("Stopping"))
        };
        let mut status = self.parts.handle.status();
        let gone = status.wait_for(|status| has_gone(status) || !status.is_settled);
        gone.await.map_err(|_| ReloadError::Ending)?;
        Ok(true)
    }

    async fn start(&self, names: &[String]) -> Result<(), ReloadError> {
        for name in names {
            let number = self.see(|status| Some(status.components.get(name)?.number));
            if let Some(number) = number {
                self.ask(system::Event::StartComponent(number)).await?;
            }
        }
        Ok(())
    }

    /// How often the main process had been started before it is restarted; none if it does not
    /// run: it is started by what it is now when somebody starts it.
    async fn restart_process(&self) -> Result<Option<u64>, ReloadError> {
        self.until_settled().await?;
        let starts = self.see(|status| {
            let runs = status.phase == Phase::Serving;
            runs.then_some(status.process.starts)
        });
        if starts.is_some() {
            self.ask(system::Event::RestartProcess).await?;
        }
        Ok(starts)
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
    pub(super) async fn until_settled(&self) -> Result<(), ReloadError> {
        let mut status = self.parts.handle.status();
        let settled = status.wait_for(|status| status.is_settled || status.phase == Phase::Ending);
        let settled = settled.await.map_err(|_| ReloadError::Ending)?;
        if settled.is_settled {
            Ok(())
        } else {
            Err(ReloadError::Ending)
        }
    }

    /// What `look` sees in the state of now.
    fn see<T>(&self, look: impl FnOnce(&Status) -> Option<T>) -> Option<T> {
        look(&self.parts.handle.status().borrow())
    }
}
