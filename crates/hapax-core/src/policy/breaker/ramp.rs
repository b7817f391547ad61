//! How traffic returns after an outage.

use std::time::Duration;

/// The share that a ramp begins with.
const FROM: f64 = 0.1;

/// Calls that came too few are not made up for beyond this much time's worth: a late crowd would be a spike.
const SLACK_SECONDS: f64 = 0.1;

/// Lets through a share of the normal rate that grows evenly from [`FROM`] to all. A rate, not a share of what comes:
/// what was held back comes all at once.
#[derive(Debug, Clone)]
pub(super) struct Ramp {
    since: Duration,
    time: Duration,
    /// Calls a second when all is well.
    normal: f64,
    /// Calls that may be made at once, as of `filled`.
    tokens: f64,
    filled: Duration,
}

impl Ramp {
    pub(super) fn new(now: Duration, time: Duration, normal: f64) -> Self {
        Self {
            since: now,
            time,
            normal,
            tokens: 1.0,
            filled: now,
        }
    }

    pub(super) fn end(&self) -> Duration {
        self.since.saturating_add(self.time)
    }

    /// Whether a call may be made; if so it counts.
    pub(super) fn take(&mut self, now: Duration) -> bool {
        let rate = self.normal * self.share(now);
        let passed = now.saturating_sub(self.filled);
        self.filled = self.filled.max(now);
        let most = (rate * SLACK_SECONDS).max(1.0);
        self.tokens = (self.tokens + rate * passed.as_secs_f64()).min(most);
        let taken = self.tokens >= 1.0;
        if taken {
            self.tokens -= 1.0;
        }
        taken
    }

    fn share(&self, now: Duration) -> f64 {
        // A ramp that takes no time is over before it is asked.
        let part = now.saturating_sub(self.since).as_secs_f64() / self.time.as_secs_f64();
        FROM + (1.0 - FROM) * part.min(1.0)
    }
}
