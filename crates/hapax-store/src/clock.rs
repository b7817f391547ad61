//! The one place that reads the wall clock.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hapax_core::{StoreClock, Timestamp};

/// A reading of the wall clock and of the monotonic clock (counted from any fixed point of this process).
pub type Reading = (Timestamp, Duration);

/// The time source of a store: real, or made up by a test.
#[derive(Clone)]
pub struct Clock {
    source: Source,
    guard: Arc<Mutex<StoreClock>>,
}

#[derive(Clone)]
enum Source {
    System { started: Instant },
    Made(Arc<dyn Fn() -> Reading + Send + Sync>),
}

impl Clock {
    /// `max_clock_step` where nothing else is configured.
    pub const DEFAULT_MAX_STEP: Duration = Duration::from_secs(300);

    /// The machine's clocks. Forward jumps larger than `max_step` are not followed until accepted.
    #[must_use]
    pub fn system(max_step: Duration) -> Self {
        Self::with(
            Source::System {
                started: Instant::now(),
            },
            max_step,
        )
    }

    /// Clocks made up by a test or a simulation.
    pub fn made(reading: impl Fn() -> Reading + Send + Sync + 'static, max_step: Duration) -> Self {
        Self::with(Source::Made(Arc::new(reading)), max_step)
    }

    fn with(source: Source, max_step: Duration) -> Self {
        Self {
            source,
            guard: Arc::new(Mutex::new(StoreClock::new(max_step))),
        }
    }

    /// The store's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let mut guard = self.guard();
        // Read under the lock: two readings taken outside could be applied in the wrong order.
        let (wall, monotonic) = self.reading();
        guard.read(wall, monotonic)
    }

    /// Moves up to a time that another process on the same store has used.
    pub fn advance_to(&self, seen: Timestamp) {
        self.guard().advance_to(seen);
    }

    /// See [`StoreClock::jump`].
    #[must_use]
    pub fn jump(&self) -> Option<Duration> {
        self.guard().jump()
    }

    /// See [`StoreClock::accept`].
    pub fn accept_jump(&self) {
        self.guard().accept();
    }

    /// The readings of both clocks, unchecked.
    #[must_use]
    pub fn reading(&self) -> Reading {
        match &self.source {
            Source::System { started } => (wall_clock(), started.elapsed()),
            Source::Made(reading) => reading(),
        }
    }

    /// Whether the readings are made up by a test.
    #[must_use]
    pub fn is_made(&self) -> bool {
        matches!(self.source, Source::Made(_))
    }

    /// The rule itself, for a store whose wall clock is elsewhere.
    pub fn guard(&self) -> MutexGuard<'_, StoreClock> {
        // A panic cannot leave the clock half-changed: its fields are plain numbers.
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system(Self::DEFAULT_MAX_STEP)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock")
            .field("made", &self.is_made())
            .finish_non_exhaustive()
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "stores read the wall clock here and nowhere else"
)]
fn wall_clock() -> Timestamp {
    let since_epoch = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(hapax_core::time::millis(since_epoch))
}
