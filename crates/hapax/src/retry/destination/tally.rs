//! What most calls need of a destination, without its lock: leave while the breaker is closed, and being counted.
//!
//! Each thread counts for itself. Whoever takes the lock collects all counts first, so that it decides on what every
//! call before it came to; and the first call after a window turned takes the lock, so that counts go to their time.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Threads beyond this many share: still without a lock.
const SHARDS: usize = 8;

/// Counts are collected at least this often, lest they overflow.
const LONGEST: Duration = Duration::from_secs(1);

/// Epochs from here on have no room in a shard: calls take the lock.
const NO_EPOCH: u64 = u32::MAX as u64;

/// Two lines of the cache, since processors fetch them in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Shard {
    /// First tries.
    calls: AtomicU64,
    /// The epoch and one in the upper half, or zero while each call must ask; successes of that epoch in the lower. As
    /// one word, so that no success of an earlier epoch is counted for a later one.
    good: AtomicU64,
}

/// Counts that are not collected yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) calls: u64,
    pub(super) good: u64,
}

#[derive(Default)]
pub(super) struct Tally {
    /// Until when counts may be added, in nanoseconds.
    turns_at: AtomicU64,
    shards: [Shard; SHARDS],
}

impl Tally {
    /// The epoch for which a call has leave, if it needs not ask.
    pub(super) fn steady(&self, now: Duration) -> Option<u64> {
        if nanos(now) >= self.turns_at.load(Ordering::Relaxed) {
            return None;
        }
        (self.shard().good.load(Ordering::Relaxed) >> 32).checked_sub(1)
    }

    /// Counts a first try.
    pub(super) fn call(&self) {
        self.shard().calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a success, unless the epoch is over or a window turned.
    pub(super) fn good(&self, now: Duration, epoch: u64) -> bool {
        if nanos(now) >= self.turns_at.load(Ordering::Relaxed) {
            return false;
        }
        let of_epoch = |good: u64| (good >> 32 == epoch + 1).then_some(good + 1);
        let (order, good) = (Ordering::Relaxed, &self.shard().good);
        good.fetch_update(order, order, of_epoch).is_ok()
    }

    /// Takes what was counted. Only under the lock.
    pub(super) fn collect(&self) -> Counted {
        let mut all = Counted::default();
        for shard in &self.shards {
            // Looking costs less than taking.
            if shard.calls.load(Ordering::Relaxed) != 0 {
                all.calls += shard.calls.swap(0, Ordering::Relaxed);
            }
            if shard.good.load(Ordering::Relaxed) as u32 != 0 {
                let was = shard.good.fetch_and(u64::MAX << 32, Ordering::Relaxed);
                all.good += u64::from(was as u32);
            }
        }
        all
    }

    /// Says for which epoch calls have leave; `None` if each must ask. What is counted for another is dropped: its
    /// reports come too late. Only under the lock.
    pub(super) fn set(&self, epoch: Option<u64>) {
        let good = epoch
            .filter(|epoch| *epoch < NO_EPOCH)
            .map_or(0, |epoch| (epoch + 1) << 32);
        for shard in &self.shards {
            shard.good.store(good, Ordering::Relaxed);
        }
    }

    /// Says until when counts may be added. Only under the lock.
    pub(super) fn turn(&self, now: Duration, at: Duration) {
        let at = at.min(now.saturating_add(LONGEST));
        self.turns_at.store(nanos(at), Ordering::Relaxed);
    }

    /// Whether what was counted must be collected before anything else is.
    pub(super) fn is_over(&self, now: Duration) -> bool {
        nanos(now) >= self.turns_at.load(Ordering::Relaxed)
    }

    fn shard(&self) -> &Shard {
        &self.shards[place()]
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The shard of this thread.
fn place() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static PLACE: Cell<usize> = const { Cell::new(SHARDS) };
    }
    let place = PLACE.get();
    if place < SHARDS {
        return place;
    }
    let place = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
    PLACE.set(place);
    place
}
