//! Time made up by a test.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use hapax_core::Timestamp;
use hapax_core::time::millis;
use hapax_store::Clock;

/// A wall clock and a monotonic clock that move when they are told to. Clones share the time.
#[derive(Debug, Clone)]
pub struct MadeTime {
    wall_ms: Arc<AtomicI64>,
    monotonic_ms: Arc<AtomicI64>,
}

impl MadeTime {
    /// Time that stands at `start`.
    #[must_use]
    pub fn new(start: Timestamp) -> Self {
        Self {
            wall_ms: Arc::new(AtomicI64::new(start.as_millis())),
            monotonic_ms: Arc::default(),
        }
    }

    /// What the wall clock shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.wall_ms.load(Ordering::SeqCst))
    }

    /// Lets time pass on both clocks.
    pub fn pass(&self, time: Duration) {
        self.monotonic_ms.fetch_add(millis(time), Ordering::SeqCst);
        self.wall_ms.fetch_add(millis(time), Ordering::SeqCst);
    }

    /// Lets time pass until the wall clock shows `at`; nothing if it is later already.
    pub fn pass_until(&self, at: Timestamp) {
        self.pass(at.since(self.now()));
    }

    /// Sets the wall clock forwards or backwards by so many milliseconds; no time passes.
    pub fn jump(&self, by_ms: i64) {
        self.wall_ms.fetch_add(by_ms, Ordering::SeqCst);
    }

    /// The clock that one process has of this time.
    #[must_use]
    pub fn clock(&self) -> Clock {
        let time = self.clone();
        let reading = move || {
            let monotonic_ms = time.monotonic_ms.load(Ordering::SeqCst);
            (time.now(), Duration::from_millis(monotonic_ms.unsigned_abs()))
        };
        Clock::made(reading, Clock::DEFAULT_MAX_STEP)
    }
}
