//! What all calls to one destination share: its policy, its budget, its breaker.

mod tally;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hapax_core::policy::{Admission, Breaker, BreakerState, Budget, Health, PolicyError, RetryPolicy, Ticket};
use tokio::time::Instant;

use self::tally::Tally;

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
    tally: Tally,
    dice: AtomicU64,
    gate: Mutex<Gate>,
}

/// What is decided on. One lock, held for some arithmetic; first tries and their successes take it only while the
/// breaker is not closed.
struct Gate {
    breaker: Breaker,
    budget: Budget,
    /// The time of what is counted in the tally, as exact as the windows are.
    since: Duration,
    /// What the tally says.
    steady: Option<u64>,
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
            since: Duration::ZERO,
            steady: None,
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
                tally: Tally::default(),
                dice: AtomicU64::new(seed),
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
        let admission = self.shared.admit(now)?;
        self.shared.call(now);
        Ok(self.permit(admission))
    }

    /// Asks for leave to make a retry.
    ///
    /// # Errors
    /// [`NotAdmitted`] says who refuses.
    pub fn admit_retry(&self) -> Result<Permit, NotAdmitted> {
        let now = self.shared.now();
        let admission = self.shared.decide(now, |gate, dice| {
            if !gate.budget.allows(now) {
                gate.refused_budget += 1;
                return Err(NotAdmitted::BudgetSpent);
            }
            let admission = gate.admit(now, dice)?;
            // Allowed, in the same moment.
            let _ = gate.budget.withdraw(now);
            gate.retries += 1;
            Ok(admission)
        })?;
        Ok(self.permit(admission))
    }

    /// Asks the breaker for leave before it is known whether the call is a retry: [`Self::spend`] before it is made.
    pub(crate) fn admit_either(&self) -> Result<Permit, NotAdmitted> {
        let admission = self.shared.admit(self.shared.now())?;
        Ok(self.permit(admission))
    }

    /// Counts a call that the breaker admitted; false if it is a retry that the budget does not bear.
    pub(crate) fn spend(&self, retry: bool) -> bool {
        let now = self.shared.now();
        if !retry {
            self.shared.call(now);
            return true;
        }
        self.shared.decide(now, |gate, _| {
            let borne = gate.budget.withdraw(now);
            match borne {
                true => gate.retries += 1,
                false => gate.refused_budget += 1,
            }
            borne
        })
    }

    /// What the breaker does.
    pub(crate) fn state(&self) -> BreakerState {
        let now = self.shared.now();
        match self.shared.tally.steady(now) {
            Some(_) => BreakerState::Closed,
            None => self.shared.decide(now, |gate, _| gate.breaker.state(now)),
        }
    }

    /// Whether both are one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// How long the breaker lets nothing through; `None` if a call may be made. Asking takes no probe's slot.
    #[must_use]
    pub fn open_for(&self) -> Option<Duration> {
        let now = self.shared.now();
        match self.shared.tally.steady(now) {
            Some(_) => None,
            None => self.shared.decide(now, |gate, _| gate.breaker.retry_after(now)),
        }
    }

    /// The destination at a glance.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let now = self.shared.now();
        self.shared.decide(now, |gate, _| Snapshot {
            state: gate.breaker.state(now),
            open_for: gate.breaker.retry_after(now),
            budget_left: gate.budget.left(now),
            calls: gate.calls,
            retries: gate.retries,
            probes: gate.probes,
            refused_open: gate.refused_open,
            refused_budget: gate.refused_budget,
        })
    }

    /// 64 bits for the jitter of a pause. No secret.
    #[must_use]
    pub fn random(&self) -> u64 {
        self.shared.random()
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
        let (now, shared) = (self.shared.now(), &self.shared);
        if let (Admission::Go(ticket), Health::Success) = (self.admission, self.health)
            && shared.tally.good(now, ticket.epoch())
        {
            return;
        }
        shared.decide(now, |gate, _| gate.breaker.report(now, self.admission, self.health));
    }
}

impl Shared {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn admit(&self, now: Duration) -> Result<Admission, NotAdmitted> {
        match self.tally.steady(now) {
            Some(epoch) => Ok(Admission::Go(Ticket::of_epoch(epoch))),
            None => self.decide(now, |gate, dice| gate.admit(now, dice)),
        }
    }

    /// Counts a first try.
    fn call(&self, now: Duration) {
        if self.tally.is_over(now) {
            self.decide(now, |_, _| ());
        }
        self.tally.call();
    }

    /// Decides on all that was counted so far.
    fn decide<R>(&self, now: Duration, decide: impl FnOnce(&mut Gate, u64) -> R) -> R {
        let dice = self.random();
        // Nothing in there panics; if it did, its numbers would still be numbers.
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        gate.collect(&self.tally, now);
        let decided = decide(&mut gate, dice);
        gate.publish(&self.tally, now);
        decided
    }

    /// SplitMix64: good enough to spread pauses.
    fn random(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.dice.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Gate {
    fn collect(&mut self, tally: &Tally, now: Duration) {
        let counted = tally.collect();
        if counted.calls > 0 {
            self.calls += counted.calls;
            self.budget.deposit_many(self.since, counted.calls);
        }
        if let (true, Some(epoch)) = (counted.good > 0, self.steady) {
            self.breaker
                .succeeded(self.since, Ticket::of_epoch(epoch), counted.good);
        }
        if tally.is_over(now) {
            self.since = now;
            let (one, other) = (self.budget.turns_at(now), self.breaker.turns_at(now));
            tally.turn(now, one.min(other));
        }
    }

    fn publish(&mut self, tally: &Tally, now: Duration) {
        let steady = self.breaker.steady(now);
        if steady != self.steady {
            tally.set(steady);
            self.steady = steady;
        }
    }

    fn admit(&mut self, now: Duration, random: u64) -> Result<Admission, NotAdmitted> {
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
}

/// Where there is no randomness, equal pauses are better than no calls.
fn seed() -> u64 {
    getrandom::u64().unwrap_or_default()
}

#[cfg(test)]
mod tests;
