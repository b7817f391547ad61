//! What all calls to one destination share: its policy, its budget, its breaker.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hapax_core::policy::{Admission, Breaker, BreakerState, Budget, Health, PolicyError, RetryPolicy};
use tokio::time::Instant;

/// One destination of calls: an upstream, an API, a broker. Cheap to clone; clones share everything.
///
/// ```
/// use hapax::core::RetryPolicy;
/// use hapax::core::policy::Health;
/// use hapax::retry::Destination;
///
/// let bank = Destination::new(RetryPolicy::default())?;
/// if let Ok(permit) = bank.admit() {
///     // … call the bank …
///     permit.report(Health::Success);
/// }
/// assert_eq!(bank.snapshot().calls, 1);
/// # Ok::<(), hapax::core::policy::PolicyError>(())
/// ```
#[derive(Clone)]
pub struct Destination {
    shared: Arc<Shared>,
}

struct Shared {
    policy: RetryPolicy,
    origin: Instant,
    gate: Mutex<Gate>,
}

/// All that changes. One lock, held for some arithmetic: a call takes it twice.
struct Gate {
    breaker: Breaker,
    budget: Budget,
    dice: u64,
    calls: u64,
    retries: u64,
    probes: u64,
    refused_open: u64,
    refused_budget: u64,
}

/// Why a call may not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// The breaker is open, or lets through less than what comes.
    #[error("the circuit breaker is open: ask again in {retry_after:?}")]
    Open {
        /// When to ask again.
        retry_after: Duration,
    },
    /// The budget bears no more retries: it only refuses those.
    #[error("the retry budget is spent: do not retry")]
    BudgetSpent,
}

/// A destination at a glance, for metrics. Counts grow from the start of the process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Snapshot {
    /// What the breaker does.
    pub state: BreakerState,
    /// Until the next probe, while the breaker lets nothing through.
    pub open_for: Option<Duration>,
    /// Retries that may be made at once.
    pub budget_left: f64,
    /// First tries that were made.
    pub calls: u64,
    /// Retries that were made: the budget that was spent.
    pub retries: u64,
    /// Calls and retries that were probes.
    pub probes: u64,
    /// Calls and retries that the breaker refused.
    pub refused_open: u64,
    /// Retries that the budget refused.
    pub refused_budget: u64,
}

impl Destination {
    /// A destination of which nothing is known yet.
    ///
    /// # Errors
    /// [`PolicyError`] if the policy makes no sense.
    pub fn new(policy: RetryPolicy) -> Result<Self, PolicyError> {
        Self::seeded(policy, seed())
    }

    /// The same, with jitter that is the same for the same seed: for simulations.
    ///
    /// # Errors
    /// [`PolicyError`] if the policy makes no sense.
    pub fn seeded(policy: RetryPolicy, seed: u64) -> Result<Self, PolicyError> {
        policy.check()?;
        let gate = Gate {
            breaker: Breaker::new(policy.breaker, policy.limits.per_try),
            budget: Budget::new(policy.budget),
            dice: seed,
            calls: 0,
            retries: 0,
            probes: 0,
            refused_open: 0,
            refused_budget: 0,
        };
        Ok(Self {
            shared: Arc::new(Shared {
                policy,
                origin: Instant::now(),
                gate: Mutex::new(gate),
            }),
        })
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &RetryPolicy {
        &self.shared.policy
    }

    /// Asks for leave to make a first try. It counts as traffic.
    ///
    /// # Errors
    /// [`NotAdmitted::Open`].
    pub fn admit(&self) -> Result<Permit, NotAdmitted> {
        let now = self.shared.now();
        let mut gate = self.shared.gate();
        let admission = gate.admit(now)?;
        gate.budget.deposit(now);
        gate.calls += 1;
        drop(gate);
        Ok(self.permit(admission))
    }

    /// Asks for leave to make a retry.
    ///
    /// # Errors
    /// [`NotAdmitted`] says who refuses.
    pub fn admit_retry(&self) -> Result<Permit, NotAdmitted> {
        let now = self.shared.now();
        let mut gate = self.shared.gate();
        if !gate.budget.allows(now) {
            gate.refused_budget += 1;
            return Err(NotAdmitted::BudgetSpent);
        }
        let admission = gate.admit(now)?;
        // Allowed, in the same moment.
        let _ = gate.budget.withdraw(now);
        gate.retries += 1;
        drop(gate);
        Ok(self.permit(admission))
    }

    /// Asks the breaker for leave before it is known whether the call is a retry: [`Self::spend`] before it is made.
    pub(crate) fn admit_either(&self) -> Result<Permit, NotAdmitted> {
        let now = self.shared.now();
        let admission = self.shared.gate().admit(now)?;
        Ok(self.permit(admission))
    }

    /// Counts a call that the breaker admitted; false if it is a retry that the budget does not bear.
    pub(crate) fn spend(&self, retry: bool) -> bool {
        let now = self.shared.now();
        let mut gate = self.shared.gate();
        if !retry {
            gate.budget.deposit(now);
            gate.calls += 1;
            true
        } else if gate.budget.withdraw(now) {
            gate.retries += 1;
            true
        } else {
            gate.refused_budget += 1;
            false
        }
    }

    /// What the breaker does.
    pub(crate) fn state(&self) -> BreakerState {
        self.shared.gate().breaker.state(self.shared.now())
    }

    /// Whether both are one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// How long the breaker lets nothing through; `None` if a call may be made. Asking takes no probe's slot.
    #[must_use]
    pub fn open_for(&self) -> Option<Duration> {
        self.shared.gate().breaker.retry_after(self.shared.now())
    }

    /// The destination at a glance.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let now = self.shared.now();
        let mut gate = self.shared.gate();
        Snapshot {
            state: gate.breaker.state(now),
            open_for: gate.breaker.retry_after(now),
            budget_left: gate.budget.left(now),
            calls: gate.calls,
            retries: gate.retries,
            probes: gate.probes,
            refused_open: gate.refused_open,
            refused_budget: gate.refused_budget,
        }
    }

    /// 64 bits for the jitter of a pause. No secret.
    #[must_use]
    pub fn random(&self) -> u64 {
        self.shared.gate().random()
    }

    fn permit(&self, admission: Admission) -> Permit {
        Permit {
            shared: Arc::clone(&self.shared),
            admission,
            health: Health::Ignored,
        }
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Destination")
            .field("policy", &self.shared.policy)
            .field("snapshot", &self.snapshot())
            .finish()
    }
}

/// Leave to make one call. If it is dropped without a report, the call says nothing about its destination.
#[derive(Debug)]
#[must_use = "report what became of the call"]
pub struct Permit {
    shared: Arc<Shared>,
    admission: Admission,
    health: Health,
}

impl Permit {
    /// Whether the breaker waits for what becomes of this call.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        matches!(self.admission, Admission::Probe(_))
    }

    /// Says what became of the call.
    pub fn report(mut self, health: Health) {
        self.health = health;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let now = self.shared.now();
        self.shared.gate().breaker.report(now, self.admission, self.health);
    }
}

impl Shared {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        // Nothing in there panics; if it did, its numbers would still be numbers.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Gate {
    fn admit(&mut self, now: Duration) -> Result<Admission, NotAdmitted> {
        let random = self.random();
        let admission = self.breaker.admit(now, random);
        match admission {
            Admission::Go(_) => {}
            Admission::Probe(_) => self.probes += 1,
            Admission::Refused { retry_after } => {
                self.refused_open += 1;
                return Err(NotAdmitted::Open { retry_after });
            }
        }
        Ok(admission)
    }

    /// SplitMix64: good enough to spread pauses.
    fn random(&mut self) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.dice;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Where there is no randomness, equal pauses are better than no calls.
fn seed() -> u64 {
    getrandom::u64().unwrap_or_default()
}

#[cfg(test)]
mod tests;
