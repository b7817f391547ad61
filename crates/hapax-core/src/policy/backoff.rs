//! How long to wait before a retry.

use std::time::Duration;

use super::class::FailureClass;

/// Exponential backoff with full jitter: a pause is uniform between zero and `base × 2^(tries − 1)`, or the cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Backoff {
    /// The longest first pause (50 ms).
    pub base: Duration,
    /// The longest first pause after a throttled try (1 s).
    pub throttle_base: Duration,
    /// No pause is longer (20 s), whatever the other side advises.
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(50),
            throttle_base: Duration::from_secs(1),
            cap: Duration::from_secs(20),
        }
    }
}

impl Backoff {
    /// The pause after try number `tries`. Jitter comes on top of advice, so that all who were given the same time do
    /// not come back in the same moment.
    #[must_use]
    pub fn pause(&self, class: FailureClass, tries: u32, advice: Option<Duration>, random: u64) -> Duration {
        let base = match class {
            FailureClass::Throttled => self.throttle_base,
            FailureClass::Unsent | FailureClass::Ambiguous | FailureClass::Final => self.base,
        };
        let doublings = tries.saturating_sub(1).min(31);
        let ceiling = base.saturating_mul(1 << doublings).min(self.cap);
        let jitter = part(ceiling, random);
        advice.unwrap_or_default().saturating_add(jitter).min(self.cap)
    }
}

/// `random / 2^64` of a duration.
pub(super) fn part(whole: Duration, random: u64) -> Duration {
    // Below 2^64 ns (584 years) the product fits; the quotient always does.
    let nanos = u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(((u128::from(nanos) * u128::from(random)) >> 64) as u64)
}
