//! What signals ask for: the stop, or the main process's attention.

use machines::system;

use crate::config::{Live, SignalMap};
use crate::pid1::signals::{Meaning, Signals};
use crate::supervise::handle::Signal;
use crate::supervise::{Handle, Reloader, Who};

use super::SOFTWARE;

/// Waits for a signal to stop while there is nothing to stop; returns the exit code.
pub async fn stop_signal(signals: &mut Signals, map: &SignalMap) -> u8 {
    loop {
        match signals.next().await {
            Ok((signal, Meaning::Stop)) if map.apply(signal).is_some() => {
                tracing::info!("signal {signal}: stopping before anything was started");
                return u8::try_from(128 + signal).unwrap_or(SOFTWARE);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!("cannot read signals: {error}");
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Gives each signal its meaning.
pub async fn pass_on(mut signals: Signals, handle: Handle, config: Live, reloader: Reloader) {
    loop {
        let next = signals.next().await;
        let apply = |signal| config.borrow().process.signal_map.apply(signal);
        match next {
            Ok((signal, Meaning::Stop)) => {
                if apply(signal).is_none() {
                    tracing::info!("signal {signal} is dropped, as signal_map says");
                    continue;
                }
                tracing::info!("signal {signal}: stopping");
                // Past the stop there is nobody to refuse it.
                let _ = handle.request(system::Event::Shutdown, None).await;
            }
            Ok((_, Meaning::Forward(signal, value))) => {
                if let Some(number) = apply(signal) {
                    handle.signal(Who::Process, Signal { number, value }).await;
                } else if config.borrow().process.signal_map.reloads(signal) {
                    tracing::info!("signal {signal}: the configuration is to be reloaded");
                    reloader.want();
                }
            }
            Ok((signal, Meaning::Suspend)) => match apply(signal) {
                Some(mapped) if mapped != signal => handle.signal(Who::Process, mapped).await,
                Some(_) => handle.suspend().await,
                None => {}
            },
            Err(error) => {
                tracing::error!("cannot read signals: {error}");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }
}
