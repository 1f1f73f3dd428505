//! Which parts of a file have not changed since an older clone or snapshot of it was made,
//! without reading either.
//!
//! As long as the older one is there, what it has cannot be given to anything else. So where
//! both have the same extent at the same place, they have the same bytes; this is so on btrfs
//! and xfs, which write to shared extents elsewhere.

use std::io;
use std::iter;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use crate::sys::extents::{Extent, extents};

/// Parts of a file that have not changed: in order, and not touching one another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Same(Vec<Range<u64>>);

impl Same {
    /// What is the same in both, within `range`.
    pub fn of(older: BorrowedFd<'_>, newer: BorrowedFd<'_>, range: Range<u64>) -> io::Result<Self> {
        Ok(Self::compare(&extents(older)?, &extents(newer)?, range))
    }

    /// Whether all of `range` is the same.
    #[must_use]
    pub fn covers(&self, range: &Range<u64>) -> bool {
        let behind = self.0.partition_point(|same| same.end <= range.start);
        let found = self.0.get(behind);
        found.is_some_and(|same| same.start <= range.start && range.end <= same.end)
    }

    /// What is between the parts that are the same, in order; all of these are within `range`.
    pub fn differing(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let starts = iter::once(range.start).chain(self.0.iter().map(|same| same.end));
        let ends = self.0.iter().map(|same| same.start);
        let gaps = starts.zip(ends.chain([range.end]));
        gaps.map(|(start, end)| start..end)
            .filter(|gap| !gap.is_empty())
    }

    /// What is the same here and there.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let (mut ours, mut theirs) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut both = Vec::new();
        while let (Some(our), Some(their)) = (ours.peek(), theirs.peek()) {
            let part = our.start.max(their.start)..our.end.min(their.end);
            // Which of them goes on behind it.
            let behind = if our.end < their.end {
                &mut ours
            } else {
                &mut theirs
            };
            behind.next();
            if !part.is_empty() {
                both.push(part);
            }
        }
        Self(both)
    }

    fn compare(older: &[Extent], newer: &[Extent], range: Range<u64>) -> Self {
        let Range { start, end } = range;
        let mut same = Vec::new();
        let mut push = |range: Range<u64>| match same.last_mut() {
            _ if range.is_empty() => {}
            Some(last @ Range { .. }) if last.end == range.start => last.end = range.end,
            _ => same.push(range),
        };
        let (mut older, mut newer) = (Parts::of(older, end), Parts::of(newer, end));
        let mut at = start;
        while at < end {
            let (Some(old), Some(new)) = (older.at(at), newer.at(at)) else {
                break;
            };
            let next = old.end.min(new.end);
            if old.is_same(&new) {
                push(at..next);
            }
            at = next;
        }
        Self(same)
    }
}

/// A part of a file: an extent, or a hole.
struct Part {
    end: u64,
    extent: Option<Extent>,
}

impl Part {
    fn is_same(&self, other: &Self) -> bool {
        match (self.extent, other.extent) {
            (None, None) => true,
            // What is compressed lies as a whole: only all of it is the same.
            (Some(old), Some(new)) if old.kind() == new.kind() => {
                let shift = |extent: &Extent| extent.physical.wrapping_sub(extent.logical);
                let whole = (old.logical, old.length, old.physical)
                    == (new.logical, new.length, new.physical);
                old.has_place()
                    && new.has_place()
                    && (whole || (!old.is_encoded() && shift(&old) == shift(&new)))
            }
            _ => false,
        }
    }
}

/// The parts of a file, one after the other.
struct Parts<'a> {
    extents: &'a [Extent],
    end: u64,
}

impl<'a> Parts<'a> {
    fn of(extents: &'a [Extent], end: u64) -> Self {
        Self { extents, end }
    }

    /// The part that has the byte at `at`, which is never less than before.
    fn at(&mut self, at: u64) -> Option<Part> {
        while let Some((first, rest)) = self.extents.split_first() {
            if first.logical + first.length > at {
                break;
            }
            self.extents = rest;
        }
        let next = self.extents.first();
        let (end, extent) = match next {
            Some(extent) if extent.logical <= at => (extent.logical + extent.length, next.copied()),
            Some(extent) => (extent.logical, None),
            None => (self.end, None),
        };
        let end = end.min(self.end);
        (end > at).then_some(Part { end, extent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_place_is_the_same() {
        let older = [Extent::plain(0, 1000, 100), Extent::plain(200, 2000, 100)];
        // Split, moved in the middle, and a hole filled.
        let newer = [
            Extent::plain(0, 1000, 40),
            Extent::plain(40, 9000, 20),
            Extent::plain(60, 1060, 40),
            Extent::plain(150, 7000, 50),
            Extent::plain(200, 2000, 100),
        ];
        let same = Same::compare(&older, &newer, 0..400);
        assert_eq!(same, Same(vec![0..40, 60..150, 200..400]));
        assert!(same.covers(&(0..40)) && same.covers(&(300..400)) && same.covers(&(60..61)));
        assert!(!same.covers(&(30..41)) && !same.covers(&(150..160)) && !same.covers(&(399..401)));
        for (extents, end) in [(&older[..], 250), (&[], 10)] {
            let same = Same::compare(extents, extents, 0..end);
            assert!(same.covers(&(0..end)) && !same.covers(&(0..end + 1)));
        }
        assert_eq!(Same::compare(&older, &[], 0..100), Same::default());
        assert_eq!(
            Same::compare(&older, &newer, 50..250),
            Same(vec![60..150, 200..250])
        );
    }

    #[test]
    fn what_is_between_differs() {
        let differing = |same: &[(u64, u64)]| -> Vec<(u64, u64)> {
            let same = Same(same.iter().map(|(start, end)| *start..*end).collect());
            let gaps = same.differing(10..50);
            gaps.map(|gap| (gap.start, gap.end)).collect()
        };
        assert_eq!(differing(&[(20, 30), (40, 50)]), [(10, 20), (30, 40)]);
        assert_eq!(differing(&[(10, 50)]), []);
        assert_eq!(differing(&[]), [(10, 50)]);
    }

    #[test]
    fn only_what_both_say_is_the_same_is() {
        let one = Same(vec![0..40, 60..150, 200..400]);
        let other = Same(vec![10..20, 30..70, 80..90, 150..200, 300..500]);
        let both = Same(vec![10..20, 30..40, 60..70, 80..90, 300..400]);
        assert_eq!(one.and(&other), both);
        assert_eq!(other.and(&one), both);
        assert_eq!(one.and(&one), one);
        assert_eq!(one.and(&Same::default()), Same::default());
    }
}
