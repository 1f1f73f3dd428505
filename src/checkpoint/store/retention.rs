//! Which automatic checkpoints are kept, and for how long.

use std::collections::HashSet;

use jiff::Timestamp;

use crate::checkpoint::manifest::Manifest;
use crate::config::Retention;

/// The ids of those of `autos`, newest first, whose time is over. Time is counted in hours,
/// days and weeks that have a checkpoint: a machine that was off loses nothing.
pub fn expired(retention: Retention, autos: &[Manifest]) -> Vec<String> {
    let mut classes = [
        Class::new(retention.hourly, "%Y-%m-%d %H"),
        Class::new(retention.daily, "%Y-%m-%d"),
        Class::new(retention.weekly, "%G-%V"),
    ];
    let mut expired = Vec::new();
    for (age, manifest) in autos.iter().enumerate() {
        // Each class must see it, whichever keeps it.
        let mut kept = age < retention.last;
        for class in &mut classes {
            kept |= class.keeps(&manifest.create_time);
        }
        if !kept {
            expired.push(manifest.id.clone());
        }
    }
    expired
}

/// Keeps the newest of each period, of so many periods.
struct Class {
    left: usize,
    format: &'static str,
    seen: HashSet<String>,
}

impl Class {
    fn new(count: usize, format: &'static str) -> Self {
        Self {
            left: count,
            format,
            seen: HashSet::new(),
        }
    }

    fn keeps(&mut self, time: &str) -> bool {
        let Ok(time) = time.parse::<Timestamp>() else {
            // Nobody can tell how old it is.
            return true;
        };
        let period = time.strftime(self.format);
        if self.left == 0 || !self.seen.insert(period.to_string()) {
            return false;
        }
        self.left -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made_at(time: &str) -> Manifest {
        Manifest::new(time.to_owned(), time.to_owned())
    }

    #[test]
    fn the_newest_of_each_period_is_kept() {
        let autos = [
            "2026-11-25T10:40:00Z",
            "2026-11-25T10:20:00Z",
            "2026-11-25T09:59:59Z",
            "2026-11-25T09:00:00Z",
            "2026-11-25T07:00:00Z",
            "2026-11-24T23:00:00Z",
            // A Sunday, and the Friday before it.
            "2026-11-22T12:00:00Z",
            "2026-11-20T12:00:00Z",
            "2026-11-15T12:00:00Z",
        ];
        let manifests = autos.map(made_at);
        let kept = |last, hourly, daily, weekly| {
            let retention = Retention {
                last,
                hourly,
                daily,
                weekly,
            };
            let expired = expired(retention, &manifests);
            let kept = (0..autos.len()).filter(|n| !expired.iter().any(|id| id == autos[*n]));
            kept.collect::<Vec<_>>()
        };
        assert_eq!(kept(0, 0, 0, 0), [0; 0]);
        assert_eq!(kept(3, 0, 0, 0), [0, 1, 2]);
        assert_eq!(kept(0, 3, 0, 0), [0, 2, 4]);
        assert_eq!(kept(1, 0, 3, 0), [0, 5, 6]);
        assert_eq!(kept(0, 0, 0, 2), [0, 6]);
        assert_eq!(kept(2, 2, 2, 9), [0, 1, 2, 5, 6, 8]);
        assert_eq!(kept(99, 0, 0, 0).len(), autos.len());
    }
}
