//! The end of everything that is left: told to go, waited for, killed at the deadline.
//!
//! Whether something is left is asked of the kernel, not of `/proc`: every orphan of our
//! tree becomes our child, so when we have no child, the tree is empty.

use std::collections::HashSet;
use std::io;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{is_pid_1, tree};
use crate::cgroups::Cgroups;
use crate::reaper::Reaper;
use crate::sys;

/// How often the tree is looked at again for processes that were not there before.
/// Only while something is left that does not go.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How many looks must find nothing but what carries the storage: one alone may miss the child
/// of a process that ends under its eyes.
const LOOKS: u32 = 2;
/// How long after the kill it is given up: what is left then is not ours to kill, or is
/// stuck in the kernel.
const UNKILLABLE: Duration = Duration::from_secs(5);

/// Tells everything below us to go and waits until nothing is left but what carries the
/// storage. `kill` becomes true when there is no more time.
pub async fn sweep(reaper: Reaper, cgroups: Option<Cgroups>, mut kill: watch::Receiver<bool>) {
    let mut told = HashSet::new();
    let mut tally = reaper.tally();
    let mut pause = LOOK_AGAIN;
    let mut killing: Option<Instant> = None;
    let mut quiet = 0;
    loop {
        reaper.reap();
        if tally.borrow_and_update().childless {
            return;
        }
        let signal = if *kill.borrow_and_update() {
            told.clear();
            if killing.get_or_insert_with(Instant::now).elapsed() > UNKILLABLE {
                tracing::error!("some processes do not go even when killed; they are left");
                return;
            }
            if let Some(cgroups) = &cgroups {
                cgroups.kill(None);
            }
            libc::SIGKILL
        } else {
            libc::SIGTERM
        };
        let (teller, groups) = (reaper.clone(), cgroups.clone());
        let telling = tokio::task::spawn_blocking(move || {
            let result = tell(&teller, groups.as_ref(), signal, &mut told);
            (result, told)
        });
        told = match telling.await {
            Ok((Ok(left), told)) => {
                quiet = if left == 0 { quiet + 1 } else { 0 };
                told
            }
            Ok((Err(error), told)) => {
                tracing::warn!(%error, "cannot see what is left of the process tree");
                told
            }
            Err(_panic) => HashSet::new(),
        };
        if quiet > 0 && !reaper.storage().is_empty() {
            if quiet == LOOKS {
                return;
            }
            continue;
        }
        tokio::select! {
            _ = tally.changed() => {}
            _ = kill.changed() => {}
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
}

/// Kills everything below us at once. What carries the storage may write what it has first.
pub async fn kill_everything(reaper: Reaper, cgroups: Option<Cgroups>) {
    let (_, kill) = watch::channel(true);
    let killed = sweep(reaper.clone(), cgroups, kill);
    let _ = tokio::time::timeout(UNKILLABLE, killed).await;
    let signal_storage = |signal| {
        for pid in reaper.storage() {
            reaper.signal_group(pid, signal);
        }
    };
    signal_storage(libc::SIGTERM);
    let mut tally = reaper.tally();
    let gone = tally.wait_for(|tally| tally.childless);
    let _ = tokio::time::timeout(UNKILLABLE, gone).await;
    signal_storage(libc::SIGKILL);
}

/// Sends `signal` to everything below us that was not told before, but to what carries the
/// storage. How much is left of it.
fn tell(
    reaper: &Reaper,
    cgroups: Option<&Cgroups>,
    signal: i32,
    told: &mut HashSet<(i32, u64)>,
) -> io::Result<usize> {
    if !tree::is_visible() {
        // As PID 1 everything else is ours to signal, whoever is there.
        if is_pid_1() && (told.insert((-1, 0)) || signal == libc::SIGKILL) {
            let _ = sys::kill(-1, signal);
        }
        return Ok(1);
    }
    let mut found = tree::descendants()?;
    let storage = tree::storage(&found, reaper, cgroups);
    found.retain(|entry| !storage.contains(&entry.pid));
    let left = found.len();
    for entry in found {
        if entry.is_dead() || told.contains(&(entry.pid, entry.started)) {
            continue;
        }
        // Nothing is reaped between the second look and the signal, so a child's number
        // is still its own.
        reaper.hold(|| {
            if tree::read(entry.pid).is_none_or(|now| now.started != entry.started) {
                return;
            }
            told.insert((entry.pid, entry.started));
            let _ = sys::kill(entry.pid, signal);
            // A stopped process cannot go by itself.
            if entry.state == 'T' && signal == libc::SIGTERM {
                let _ = sys::kill(entry.pid, libc::SIGCONT);
            }
        });
    }
    Ok(left)
}
