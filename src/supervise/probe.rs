//! Asking how a component does.

use std::time::Duration;

use reqwest::Url;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::output::{self, Backlog, Sink};
use crate::config::{Check, Probe};
use crate::error::innermost;
use crate::spawn::{Program, SpawnError, Spawner};

/// The first pause between two questions that have no interval, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Asks on behalf of one component.
#[derive(Debug)]
pub struct Asker {
    /// Starts programs.
    pub spawner: Spawner,
    /// The component's name.
    pub name: String,
    /// How a program runs that is asked; it gets the component's output as its input.
    pub command: Program,
    /// What the component writes.
    pub backlog: Backlog,
    /// Where the output of programs goes.
    pub sink: Sink,
}

impl Asker {
    /// Asks until `threshold` answers in a row are good. The error is that it cannot be
    /// asked at all.
    pub async fn until_good(&self, probe: &Probe, what: &str) -> Result<(), SpawnError> {
        let mut pause = probe.interval.unwrap_or(PAUSE.0);
        let mut good = 0;
        loop {
            good = match self.ask(probe, what).await? {
                Ok(()) => good + 1,
                Err(why) => {
                    tracing::debug!(component = self.name, why, "not ready yet");
                    0
                }
            };
            if good >= probe.threshold {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
            if probe.interval.is_none() {
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }

    /// Asks until the answer has turned: from good to bad, as `threshold` bad answers in a
    /// row make it, with why; or back to good. `bad` counts the bad ones so far.
    pub async fn turn(
        &self,
        probe: &Probe,
        what: &str,
        bad: &mut u32,
    ) -> Result<Result<(), String>, SpawnError> {
        loop {
            tokio::time::sleep(probe.interval.unwrap_or(PAUSE.1)).await;
            match self.ask(probe, what).await? {
                Ok(()) => {
                    let before = std::mem::take(bad);
                    if before >= probe.threshold {
                        return Ok(Ok(()));
                    }
                }
                Err(why) => {
                    *bad = bad.saturating_add(1);
                    tracing::debug!(component = self.name, why, bad, "{what} fails");
                    if *bad == probe.threshold {
                        return Ok(Err(why));
                    }
                }
            }
        }
    }

    /// Asks once; what is wrong is a sentence.
    async fn ask(&self, probe: &Probe, what: &str) -> Result<Result<(), String>, SpawnError> {
        let asking = async {
            match &probe.check {
                Check::Command(command) => self.run(command, what).await,
                Check::Http(url) => Ok(get(url).await),
                Check::Tcp(address) => Ok(connect(address).await),
            }
        };
        let Some(timeout) = probe.timeout else {
            return asking.await;
        };
        let late = |_| Ok(Err(format!("no answer within {timeout:?}")));
        tokio::time::timeout(timeout, asking)
            .await
            .unwrap_or_else(late)
    }

    async fn run(&self, command: &[String], what: &str) -> Result<Result<(), String>, SpawnError> {
        let program = Program {
            command: command.to_vec(),
            ..self.command.clone()
        };
        let mut child = self.spawner.spawn_soon(program).await?;
        // When the component goes or time runs out, this future is dropped.
        let guard = self.spawner.reaper.guard(child.pid);
        let label = format!("{} {what}", self.name);
        output::pump_child(&mut child, &label, &self.sink, None);
        let input = child.stdin.and_then(|fd| output::writer(fd).ok());
        // It ends with this run: a silent component would never let it find out by itself
        // that nobody reads any more.
        let _feed = input
            .map(|input| AbortOnDropHandle::new(tokio::spawn(self.backlog.clone().feed(input))));
        let exit = child.exit.await;
        guard.disarm();
        Ok(match exit {
            Ok(exit) if exit.success() => Ok(()),
            Ok(exit) => Err(exit.to_string()),
            Err(_) => Err("it was lost".to_owned()),
        })
    }
}

async fn connect(address: &str) -> Result<(), String> {
    let connected = TcpStream::connect(address).await;
    connected.map(drop).map_err(|error| error.to_string())
}

async fn get(url: &str) -> Result<(), String> {
    let url = Url::parse(url).map_err(|error| error.to_string())?;
    // A new connection each time: whether one can be made is part of the question.
    let client = crate::http::client(&url)
        .pool_max_idle_per_host(0)
        .redirect(reqwest::redirect::Policy::none())
        .build();
    let client = client.map_err(|error| error.to_string())?;
    let answer = client.get(url).send().await;
    let status = answer
        .map_err(|error| innermost(&error).to_string())?
        .status();
    if status.is_success() || status.is_redirection() {
        Ok(())
    } else {
        Err(format!("it answers {status}"))
    }
}
