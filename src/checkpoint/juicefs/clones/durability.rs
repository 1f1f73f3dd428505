//! When a checkpoint is durable: its blocks are in the bucket, and so is what Litestream has read
//! of the metadata since it was sealed.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch::{Receiver, Sender};
use tokio::sync::{Notify, watch};

use super::super::super::replication::{Phase, Replication};
use super::super::super::store::lock;
use super::super::Volume;
use super::super::blocks::Blocks;
use super::super::lag::{self, Answer, Position};
use super::super::{left, mounting};
use super::index::Index;
use crate::clock;

/// How often Litestream is asked while something is on its way.
const INTERVAL: Duration = Duration::from_millis(250);
/// After so many readings of the log one has begun after the first look: the one that was under
/// way then, and the next.
const READINGS: u64 = 2;

/// What is to become durable.
#[derive(Clone, Debug)]
struct Goal {
    /// The number of the next record.
    next: u64,
    /// The blocks that wait in a cache.
    staged: Vec<PathBuf>,
    /// How often Litestream had read the log when it was asked first, and in which generation.
    seen: Option<(String, u64)>,
    /// How far it had read when everything was read.
    place: Option<Position>,
}

/// Follows how far the copy of the checkpoints in the bucket is.
#[derive(Debug)]
pub struct Durability {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    report: Sender<Replication>,
    goals: Mutex<VecDeque<Goal>>,
    /// The numbers of the checkpoints' records.
    sealed: Mutex<Vec<u64>>,
    new: Notify,
}

impl Durability {
    pub fn new(volume: &Volume) -> Self {
        let blocks = volume.blocks.as_ref();
        let report = Replication {
            bucket: blocks.map(Blocks::shown).unwrap_or_default(),
            ..Replication::default()
        };
        Self {
            shared: Arc::new(Shared {
                report: watch::channel(report).0,
                goals: Mutex::default(),
                sealed: Mutex::default(),
                new: Notify::new(),
            }),
        }
    }

    pub fn watch(&self) -> Receiver<Replication> {
        self.shared.report.subscribe()
    }

    /// Follows it from now on.
    pub fn begin(&self, runtime: &Handle, volume: &Volume, index: &Index) {
        self.note(volume, index);
        let (shared, volume) = (Arc::clone(&self.shared), volume.clone());
        runtime.spawn(async move {
            loop {
                shared.new.notified().await;
                while shared.is_behind() {
                    let answer = lag::ask(&volume).await;
                    shared.take_in(answer.map_err(|error| error.to_string()));
                    tokio::time::sleep(INTERVAL).await;
                }
            }
        });
    }

    /// Notes which checkpoints there are.
    pub fn note(&self, volume: &Volume, index: &Index) {
        // Blocks in a cache of older metadata are sent by nobody.
        let dirs = mounting::cache_dirs(volume).unwrap_or_default();
        let sealed = index.list(true).map(|manifest| manifest.sequence).collect();
        *lock(&self.shared.sealed) = sealed;
        lock(&self.shared.goals).push_back(Goal {
            next: index.next(),
            staged: left::staged_blocks(dirs.iter().map(PathBuf::as_path)),
            seen: None,
            place: None,
        });
        self.shared.tell(None, Phase::Replicating, None, None);
        self.shared.new.notify_one();
    }
}

impl Goal {
    /// Whether it is reached, by what Litestream says now.
    fn is_reached(&mut self, answer: &Answer) -> bool {
        let (generation, readings) = (&answer.generation, answer.readings);
        let seen = match &self.seen {
            Some((of, seen)) if of == generation && *seen <= readings => *seen,
            // The log begins anew, or it does: what was read before is in another.
            _ => {
                self.seen = Some((generation.clone(), readings));
                self.place = None;
                readings
            }
        };
        if readings < seen + READINGS {
            return false;
        }
        let place = *self.place.get_or_insert(answer.read);
        self.staged.retain(|block| block.exists());
        answer.sent >= place && self.staged.is_empty()
    }
}

impl Shared {
    fn is_behind(&self) -> bool {
        !lock(&self.goals).is_empty()
    }

    fn take_in(&self, answer: Result<Answer, String>) {
        match answer {
            Err(error) => self.tell(None, Phase::Waiting, None, Some(error)),
            Ok(answer) => {
                let mut reached = None;
                {
                    let mut goals = lock(&self.goals);
                    // Who comes later is not there before.
                    while let Some(goal) = goals.front_mut()
                        && goal.is_reached(&answer)
                    {
                        reached = Some(goal.next);
                        goals.pop_front();
                    }
                    // Each begins to count now.
                    for goal in goals.iter_mut() {
                        goal.is_reached(&answer);
                    }
                }
                self.tell(reached, Phase::Replicating, answer.left, None);
            }
        }
    }

    /// Says all of it at once: who waits until a checkpoint is durable may ask for the rest
    /// right then. `reached` is the number of the record before which all are.
    fn tell(&self, reached: Option<u64>, phase: Phase, bytes: Option<u64>, error: Option<String>) {
        self.report.send_modify(|report| {
            let is_behind = self.is_behind();
            let sealed = lock(&self.sealed);
            let next = reached.unwrap_or(report.next);
            report.next = next;
            report.checkpoints_left = sealed.iter().filter(|number| **number >= next).count();
            report.phase = if is_behind { phase } else { Phase::Idle };
            report.bytes_left = bytes.filter(|_| is_behind).unwrap_or_default();
            report.error = error;
            let since = report.behind_since.take();
            report.behind_since = is_behind.then(|| since.unwrap_or_else(clock::now));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(generation: &str, readings: u64, read: Position, sent: Position) -> Answer {
        Answer {
            generation: generation.to_owned(),
            readings,
            read,
            sent,
            ..Answer::default()
        }
    }

    #[test]
    fn a_goal_is_reached_when_what_was_read_after_it_is_sent() {
        let mut goal = Goal {
            next: 1,
            staged: Vec::new(),
            seen: None,
            place: None,
        };
        // All is sent that was read; but not yet what was written last.
        assert!(!goal.is_reached(&answer("a", 7, (0, 100), (0, 100))));
        assert!(!goal.is_reached(&answer("a", 8, (0, 200), (0, 200))));
        assert!(!goal.is_reached(&answer("a", 9, (0, 300), (0, 250))));
        // What was read since does not count.
        assert!(goal.is_reached(&answer("a", 10, (1, 100), (0, 300))));
        // In a new generation everything is counted anew.
        goal.seen = None;
        assert!(!goal.is_reached(&answer("a", 20, (0, 100), (0, 100))));
        assert!(!goal.is_reached(&answer("b", 22, (0, 50), (0, 50))));
        assert!(!goal.is_reached(&answer("b", 23, (0, 50), (0, 50))));
        assert!(goal.is_reached(&answer("b", 24, (0, 50), (0, 50))));
        // Litestream itself was started anew.
        goal.seen = None;
        goal.place = None;
        assert!(!goal.is_reached(&answer("b", 24, (0, 60), (0, 60))));
        assert!(!goal.is_reached(&answer("b", 1, (0, 60), (0, 60))));
        assert!(goal.is_reached(&answer("b", 3, (0, 60), (0, 60))));
        // Blocks that are in a cache still.
        let staged = tempfile::NamedTempFile::new().unwrap();
        goal.staged = vec![staged.path().to_owned()];
        assert!(!goal.is_reached(&answer("b", 9, (0, 60), (0, 60))));
        drop(staged);
        assert!(goal.is_reached(&answer("b", 9, (0, 60), (0, 60))));
    }
}
