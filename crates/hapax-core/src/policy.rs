//! The retry policy: data, and the pure arithmetic on it.
//!
//! One policy serves every caller: what fails *proves* something ([`FailureClass`]), the policy says whether and when
//! to try again ([`RetryPolicy::after_failure`]), a [`Budget`] bounds retries by a share of the traffic, and a
//! [`Breaker`] keeps calls away from a destination that is down. None of it reads a clock or draws a random number:
//! `now` is a [`Duration`] since any origin that the caller keeps to, `random` is 64 uniform bits.
//!
//! It does not call, sleep, or keep records.

mod backoff;
mod breaker;
mod budget;
mod check;
mod class;
mod derive;
mod window;

use std::time::Duration;

pub use backoff::Backoff;
pub use breaker::{Admission, Breaker, BreakerPolicy, BreakerState, Health, Ticket};
pub use budget::{Budget, BudgetPolicy};
pub use check::PolicyError;
pub use class::{Classes, FailureClass};
pub use derive::derive_key;

/// How calls to one destination are retried.
///
/// ```
/// use std::time::Duration;
/// use hapax_core::policy::{FailureClass, GiveUp, Next, RetryPolicy};
///
/// let policy = RetryPolicy::default();
/// policy.check()?;
/// let (elapsed, random) = (Duration::from_millis(3), u64::MAX / 2);
/// let next = policy.after_failure(FailureClass::Unsent, 1, elapsed, None, random);
/// assert!(matches!(next, Next::Retry { after } if after <= Duration::from_millis(50)));
/// let next = policy.after_failure(FailureClass::Unsent, 3, elapsed, None, random);
/// assert_eq!(next, Next::GiveUp(GiveUp::Tries));
/// # Ok::<(), hapax_core::policy::PolicyError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RetryPolicy {
    /// Which failures are retried.
    pub retry: Classes,
    /// How long to wait before a retry.
    pub backoff: Backoff,
    /// When to stop.
    pub limits: Limits,
    /// How many retries a destination bears.
    pub budget: BudgetPolicy,
    /// When a destination is left alone.
    pub breaker: BreakerPolicy,
}

/// When to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Starts in all, the first one included (3). 1 means no retries.
    pub tries: u32,
    /// The whole life of an operation in the retry schedule, from its first start (24 h): no retry is due later.
    pub elapsed: Duration,
    /// The longest that one try may take (30 s).
    pub per_try: Duration,
    /// The longest that one call may take with all its tries and pauses (60 s).
    pub total: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tries: 3,
            elapsed: Duration::from_secs(24 * 3600),
            per_try: Duration::from_secs(30),
            total: Duration::from_secs(60),
        }
    }
}

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Try again after this pause.
    Retry {
        /// At most the policy's cap.
        after: Duration,
    },
    /// Do not try again.
    GiveUp(GiveUp),
}

/// Why a policy gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum GiveUp {
    /// The policy does not retry failures of this class.
    #[error("{0} failures are not retried by this policy")]
    Class(FailureClass),
    /// All tries are spent.
    #[error("all tries are spent")]
    Tries,
    /// The next try would start after the limit on the elapsed time.
    #[error("the next try would start after the limit on the elapsed time")]
    Elapsed,
}

impl RetryPolicy {
    /// Decides what follows a failed try.
    ///
    /// `tries` counts starts so far, this one included; `elapsed` is the time since the first; `advice` is the time
    /// that the other side named (`Retry-After`, pushback): the pause is no shorter, as far as the cap allows.
    #[must_use]
    pub fn after_failure(
        &self,
        class: FailureClass,
        tries: u32,
        elapsed: Duration,
        advice: Option<Duration>,
        random: u64,
    ) -> Next {
        if !self.retry.contains(class) {
            return Next::GiveUp(GiveUp::Class(class));
        }
        if tries >= self.limits.tries {
            return Next::GiveUp(GiveUp::Tries);
        }
        let after = self.backoff.pause(class, tries, advice, random);
        if elapsed.saturating_add(after) >= self.limits.elapsed {
            return Next::GiveUp(GiveUp::Elapsed);
        }
        Next::Retry { after }
    }

    /// The longest time that the schedule takes, from the first start to the end of the last try: all tries and all
    /// pauses at their longest, within `elapsed`. What an open breaker holds back waits longer, but its record is kept
    /// while it waits.
    #[must_use]
    pub fn longest(&self) -> Duration {
        let limits = &self.limits;
        let tries = limits.per_try.saturating_mul(limits.tries);
        let pauses = self.backoff.cap.saturating_mul(limits.tries.saturating_sub(1));
        // The last try may start just before the limit on the elapsed time.
        let last = limits.elapsed.saturating_add(limits.per_try);
        tries.saturating_add(pauses).min(last)
    }
}

#[cfg(test)]
mod tests;
