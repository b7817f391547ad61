//! How many retries a destination bears.

use std::time::Duration;

use super::window::{Counts, Window};

/// Retries as a share of the traffic, and a floor for where there is little.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BudgetPolicy {
    /// Retries for each first try, 0 to 1 (0.2).
    pub share: f64,
    /// Retries a second that are always granted, however little traffic there is (10). Not added to the share, so that
    /// a destination never sees more than its traffic and the share of it.
    pub floor: f64,
    /// The time over which both are counted (10 s). A tenth of it is also bounded for itself, so that an outage does
    /// not spend ten seconds' worth at once.
    pub window: Duration,
}

impl Default for BudgetPolicy {
    fn default() -> Self {
        Self {
            share: 0.2,
            floor: 10.0,
            window: Duration::from_secs(10),
        }
    }
}

impl BudgetPolicy {
    fn allowance(&self, first: f64, seconds: f64) -> f64 {
        (self.share * first).max(self.floor * seconds)
    }
}

/// What is left of a budget: at each retry, the retries of the last window ≤ share × its first tries, or floor × window
/// if that is more.
///
/// ```
/// use std::time::Duration;
/// use hapax_core::policy::{Budget, BudgetPolicy};
///
/// let now = Duration::ZERO;
/// let mut budget = Budget::new(BudgetPolicy { share: 0.2, floor: 0.0, ..BudgetPolicy::default() });
/// (0..10).for_each(|_| budget.deposit(now));
/// assert!(budget.withdraw(now) && budget.withdraw(now));
/// assert!(!budget.withdraw(now), "a fifth of ten is two");
/// ```
#[derive(Debug, Clone)]
pub struct Budget {
    policy: BudgetPolicy,
    /// First tries, and retries.
    window: Window,
}

impl Budget {
    /// A budget of which nothing is spent.
    #[must_use]
    pub fn new(policy: BudgetPolicy) -> Self {
        Self {
            policy,
            window: Window::new(policy.window),
        }
    }

    /// Counts a first try.
    pub fn deposit(&mut self, now: Duration) {
        self.deposit_many(now, 1);
    }

    /// Counts first tries at once: the same as [`Self::deposit`] for each, if none was made at or after
    /// [`Self::turns_at`].
    pub fn deposit_many(&mut self, now: Duration, tries: u64) {
        self.window.advance(now);
        self.window.add(Counts {
            first: tries,
            second: 0,
        });
    }

    /// Until when it makes no difference at what time something is counted.
    #[must_use]
    pub fn turns_at(&self, now: Duration) -> Duration {
        self.window.turns_at(now)
    }

    /// Whether a retry may be made.
    #[must_use]
    pub fn allows(&mut self, now: Duration) -> bool {
        self.left(now) >= 1.0
    }

    /// Counts a retry, if it may be made.
    #[must_use = "a retry without leave makes an outage worse"]
    pub fn withdraw(&mut self, now: Duration) -> bool {
        let allowed = self.allows(now);
        if allowed {
            self.window.add(Counts { first: 0, second: 1 });
        }
        allowed
    }

    /// Retries that may be made at once; not negative.
    #[must_use]
    pub fn left(&mut self, now: Duration) -> f64 {
        self.window.advance(now);
        let sum = self.window.sum();
        let bucket = self.window.bucket_seconds();
        let (first, retries) = self.window.latest(now);
        let in_window = self
            .policy
            .allowance(sum.first as f64, self.policy.window.as_secs_f64())
            - sum.second as f64;
        // A bucket's share may be a fraction of one retry: then the window alone decides.
        let in_bucket = self.policy.allowance(first, bucket).max(1.0) - retries;
        in_window.min(in_bucket).max(0.0)
    }
}

#[cfg(test)]
mod tests;
