//! Which offsets of a partition are done with, and how far that may be committed. Pure: it calls nothing.

use std::collections::VecDeque;

/// The offsets of one partition during one assignment: taken in their order, with gaps where transactions or compaction
/// left some, and done in any order.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    /// Those that were taken and that something before them, or they themselves, keep from being committed.
    open: VecDeque<Open>,
    /// The first that was taken.
    start: Option<i64>,
    /// Behind the last one that was taken.
    next: i64,
    /// The last commit that the broker has confirmed.
    confirmed: Option<i64>,
}

#[derive(Debug)]
struct Open {
    offset: i64,
    done: bool,
}

impl Tracker {
    /// Takes the next message. False if the log went back to an offset that was taken before: it is not the log that it
    /// was, or was read anew.
    pub(super) fn take(&mut self, offset: i64) -> bool {
        if self.start.is_some() && offset < self.next {
            return false;
        }
        self.start.get_or_insert(offset);
        self.next = offset + 1;
        self.open.push_back(Open { offset, done: false });
        true
    }

    /// Marks one done. False if it was not taken, or was done before.
    pub(super) fn done(&mut self, offset: i64) -> bool {
        let Ok(at) = self.open.binary_search_by_key(&offset, |open| open.offset) else {
            return false;
        };
        if std::mem::replace(&mut self.open[at].done, true) {
            return false;
        }
        while self.open.front().is_some_and(|open| open.done) {
            self.open.pop_front();
        }
        true
    }

    /// The lowest offset that is not done: where another consumer has to begin. `None` before the first was taken.
    pub(super) fn committable(&self) -> Option<i64> {
        self.start?;
        Some(self.open.front().map_or(self.next, |open| open.offset))
    }

    /// What is to be committed, if the broker does not know it.
    pub(super) fn to_commit(&self) -> Option<i64> {
        let committable = self.committable()?;
        let known = self.confirmed.or(self.start)?;
        (committable > known).then_some(committable)
    }

    /// The broker has confirmed the commit of this offset.
    pub(super) fn confirmed(&mut self, offset: i64) {
        self.confirmed = Some(offset);
    }

    /// From the last offset that the broker has confirmed to the last one taken.
    pub(super) fn span(&self) -> u64 {
        match self.confirmed.or(self.start) {
            Some(base) => self.next.saturating_sub(base).max(0).unsigned_abs(),
            None => 0,
        }
    }

    /// Behind the last one that was taken.
    pub(super) fn next(&self) -> i64 {
        self.next
    }

    /// How many are not done.
    #[cfg(test)]
    fn open(&self) -> usize {
        self.open.iter().filter(|open| !open.done).count()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn taken(offsets: &[i64]) -> Tracker {
        let mut tracker = Tracker::default();
        for offset in offsets {
            assert!(tracker.take(*offset));
        }
        tracker
    }

    #[test]
    fn nothing_is_committed_past_what_is_not_done() {
        let mut tracker = taken(&[10, 11, 12, 13]);
        assert_eq!(tracker.to_commit(), None);
        assert!(tracker.done(11) && tracker.done(13));
        assert_eq!((tracker.committable(), tracker.to_commit()), (Some(10), None));
        assert!(tracker.done(10));
        assert_eq!(tracker.to_commit(), Some(12));
        assert!(tracker.done(12));
        assert_eq!(tracker.to_commit(), Some(14));
    }

    #[test]
    fn gaps_are_nobodys() {
        let mut tracker = taken(&[3, 7, 20]);
        assert!(tracker.done(3));
        assert_eq!(tracker.committable(), Some(7));
        assert!(tracker.done(7) && tracker.done(20));
        assert_eq!(tracker.committable(), Some(21));
        assert!(!tracker.done(5));
    }

    #[test]
    fn one_that_was_done_or_never_taken_moves_nothing() {
        let mut tracker = taken(&[1, 2]);
        assert!(tracker.done(2));
        assert!(!tracker.done(2) && !tracker.done(9));
        assert_eq!(tracker.committable(), Some(1));
    }

    #[test]
    fn a_log_that_goes_back_is_noticed() {
        let mut tracker = taken(&[5, 6]);
        assert!(!tracker.take(6) && !tracker.take(0));
        assert!(tracker.take(7));
    }

    #[test]
    fn a_commit_is_to_be_made_until_it_is_confirmed() {
        let mut tracker = taken(&[0, 1, 2]);
        tracker.done(0);
        assert_eq!(tracker.to_commit(), Some(1));
        assert_eq!(tracker.to_commit(), Some(1));
        tracker.confirmed(1);
        assert_eq!((tracker.to_commit(), tracker.span()), (None, 2));
    }

    #[test]
    fn the_span_begins_at_what_the_broker_has_confirmed() {
        let mut tracker = Tracker::default();
        assert_eq!(tracker.span(), 0);
        for offset in 100..110 {
            tracker.take(offset);
            tracker.done(offset);
        }
        assert_eq!(tracker.span(), 10);
        tracker.confirmed(110);
        assert_eq!(tracker.span(), 0);
    }

    proptest! {
        /// Against a set of everything that is not done.
        #[test]
        fn the_committable_offset_is_the_lowest_that_is_not_done(
            gaps in prop::collection::vec(1i64..4, 1..60),
            steps in prop::collection::vec((0usize..3, 0usize..60), 0..200),
        ) {
            let mut tracker = Tracker::default();
            let (mut left, mut all) = (BTreeSet::new(), Vec::new());
            let (mut gaps, mut next, mut committed) = (gaps.into_iter(), 50, i64::MIN);
            for (what, at) in steps {
                if what == 0 {
                    let Some(gap) = gaps.next() else { continue };
                    next += gap;
                    prop_assert!(tracker.take(next));
                    left.insert(next);
                    all.push(next);
                } else if let Some(offset) = all.get(at) {
                    prop_assert_eq!(tracker.done(*offset), left.remove(offset));
                }
                let expected = left.first().copied().or(all.last().map(|last| last + 1));
                prop_assert_eq!(tracker.committable(), expected);
                prop_assert_eq!(tracker.open(), left.len());
                if let Some(offset) = tracker.to_commit() {
                    prop_assert!(offset > committed);
                    if what == 1 {
                        tracker.confirmed(offset);
                        committed = offset;
                    }
                }
            }
        }
    }
}
