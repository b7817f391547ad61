//! Two counters over a sliding window, in ten buckets.

use std::time::Duration;

const BUCKETS: usize = 10;

/// What happened in a stretch of time, by two kinds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) first: u64,
    pub(super) second: u64,
}

/// Counts of the last window: the bucket in hand and the nine before it.
#[derive(Debug, Clone)]
pub(super) struct Window {
    bucket_nanos: u64,
    /// The number of the bucket in hand since the origin.
    current: u64,
    buckets: [Counts; BUCKETS],
    sum: Counts,
}

impl Window {
    pub(super) fn new(window: Duration) -> Self {
        let nanos = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
        Self {
            bucket_nanos: (nanos / BUCKETS as u64).max(1),
            current: 0,
            buckets: [Counts::default(); BUCKETS],
            sum: Counts::default(),
        }
    }

    /// Moves to `now`; earlier times count as the bucket in hand.
    pub(super) fn advance(&mut self, now: Duration) {
        let number = self.number(now);
        let steps = number.saturating_sub(self.current).min(BUCKETS as u64);
        for step in (0..steps).rev() {
            let old = std::mem::take(&mut self.buckets[((number - step) % BUCKETS as u64) as usize]);
            self.sum.first -= old.first;
            self.sum.second -= old.second;
        }
        self.current = self.current.max(number);
    }

    pub(super) fn sum(&self) -> Counts {
        self.sum
    }

    pub(super) fn add(&mut self, counts: Counts) {
        let bucket = &mut self.buckets[(self.current % BUCKETS as u64) as usize];
        bucket.first += counts.first;
        bucket.second += counts.second;
        self.sum.first += counts.first;
        self.sum.second += counts.second;
    }

    pub(super) fn clear(&mut self) {
        self.buckets = [Counts::default(); BUCKETS];
        self.sum = Counts::default();
    }

    /// When the bucket that `now` falls in ends.
    pub(super) fn turns_at(&self, now: Duration) -> Duration {
        Duration::from_nanos((self.number(now) + 1).saturating_mul(self.bucket_nanos))
    }

    /// The length of one bucket, in seconds.
    pub(super) fn bucket_seconds(&self) -> f64 {
        self.bucket_nanos as f64 / 1e9
    }

    /// About what happened in the time of one bucket up to `now`: the bucket in hand, and of the one before it the
    /// part that is not yet that long ago. Assumes that [`Self::advance`] was called.
    pub(super) fn latest(&self, now: Duration) -> (f64, f64) {
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let into = nanos.saturating_sub(self.current.saturating_mul(self.bucket_nanos));
        let left = 1.0 - (into as f64 / self.bucket_nanos as f64).min(1.0);
        let hand = self.buckets[(self.current % BUCKETS as u64) as usize];
        // Of the first bucket of all, the one before is empty.
        let before = self.buckets[((self.current + BUCKETS as u64 - 1) % BUCKETS as u64) as usize];
        (
            hand.first as f64 + left * before.first as f64,
            hand.second as f64 + left * before.second as f64,
        )
    }

    fn number(&self, now: Duration) -> u64 {
        u64::try_from(now.as_nanos()).unwrap_or(u64::MAX) / self.bucket_nanos
    }
}
