//! What follows from how a run ended. Pure: the policy's arithmetic on what the record says.

use std::time::Duration;

use hapax_core::policy::{FailureClass, Next, RetryPolicy};
use hapax_core::{AfterFailure, DeadReason, Finish};

use super::{Attempted, Failure};

/// What a failure is judged by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation<'a> {
    pub(crate) policy: &'a RetryPolicy,
    pub(crate) after_failure: AfterFailure,
    /// Starts so far that count, this one included.
    pub(crate) tries: u32,
    /// How long the record has been in the schedule.
    pub(crate) age: Duration,
    /// Whether the run was a breaker's probe.
    pub(crate) probe: bool,
    pub(crate) random: u64,
}

/// What a run comes to, beside its finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Done, or unknown.
    Ended,
    /// It will be run again.
    Retried { class: FailureClass, after: Duration },
    /// It waits for something else.
    Later { after: Duration },
    /// It will not.
    Died(DeadReason),
}

impl Situation<'_> {
    /// How a run ends.
    pub(crate) fn end(&self, attempted: Attempted) -> (Finish, Ending) {
        match attempted {
            Attempted::Done(outcome) => (Finish::Done(outcome), Ending::Ended),
            Attempted::Failed(failure) => self.fail(failure),
            Attempted::Repeat(failure) => {
                let after_failure = AfterFailure::Retry;
                Self { after_failure, ..*self }.fail(failure)
            }
            Attempted::Later { after, why } => {
                let after = after.max(SHORTEST);
                let finish = Finish::Release {
                    after,
                    counts: false,
                    last_error: why,
                };
                (finish, Ending::Later { after })
            }
        }
    }

    fn fail(&self, failure: Failure) -> (Finish, Ending) {
        let class = failure.class;
        match (class, self.after_failure) {
            (FailureClass::Final, _) => dead(DeadReason::Refused, failure),
            (FailureClass::Ambiguous, AfterFailure::Hold) => {
                let finish = Finish::Unknown {
                    answer: failure.answer,
                    last_error: Some(failure.last_error),
                };
                (finish, Ending::Ended)
            }
            // A probe takes the risk for all: were it a try, an outage would end in dead letters.
            (FailureClass::Ambiguous, AfterFailure::Retry) if !self.probe => match self.next_try(&failure) {
                Some(after) => retried(after, true, failure),
                None => dead(DeadReason::Exhausted, failure),
            },
            _ => match self.next_start(&failure) {
                Some(after) => retried(after, false, failure),
                None => dead(DeadReason::Exhausted, failure),
            },
        }
    }

    /// The pause after a start that counts; `None` if it was the last.
    fn next_try(&self, failure: &Failure) -> Option<Duration> {
        let mut policy = self.policy.clone();
        // The mode says that ambiguous failures are retried.
        policy.retry.ambiguous = true;
        match policy.after_failure(failure.class, self.tries, self.age, failure.retry_after, self.random) {
            Next::Retry { after } => Some(after),
            Next::GiveUp(_) => None,
        }
    }

    /// The pause after a start that provably did nothing and so does not count: it grows with the record's age, as it
    /// would with its tries.
    fn next_start(&self, failure: &Failure) -> Option<Duration> {
        let mut policy = self.policy.clone();
        policy.limits.tries = u32::MAX;
        policy.retry.ambiguous = true;
        let base = match failure.class {
            FailureClass::Throttled => policy.backoff.throttle_base,
            _ => policy.backoff.base,
        };
        let doublings = (0..31).find(|n| base.saturating_mul(1 << n) >= self.age.min(policy.backoff.cap));
        let tries = doublings.unwrap_or(0) + 1;
        match policy.after_failure(failure.class, tries, self.age, failure.retry_after, self.random) {
            Next::Retry { after } => Some(after.max(SHORTEST)),
            Next::GiveUp(_) => None,
        }
    }
}

/// What costs no try must not spin.
const SHORTEST: Duration = Duration::from_millis(10);

fn dead(reason: DeadReason, failure: Failure) -> (Finish, Ending) {
    let finish = Finish::Dead {
        reason,
        answer: failure.answer,
        last_error: Some(failure.last_error),
    };
    (finish, Ending::Died(reason))
}

fn retried(after: Duration, counts: bool, failure: Failure) -> (Finish, Ending) {
    let finish = Finish::Release {
        after,
        counts,
        last_error: Some(failure.last_error),
    };
    let class = failure.class;
    (finish, Ending::Retried { class, after })
}
