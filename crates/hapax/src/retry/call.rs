//! One call, with its retries.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use hapax_core::policy::{FailureClass, GiveUp, Health, Next};
use tokio::time::{Instant, sleep, timeout};

use super::destination::{Destination, NotAdmitted};

/// An error that knows what it proves.
pub trait Failed {
    /// What it proves. If in doubt, [`FailureClass::Ambiguous`].
    fn class(&self) -> FailureClass;

    /// The time that the other side named.
    fn retry_after(&self) -> Option<Duration> {
        None
    }

    /// What it says about the destination: unless it is final, that it does not work.
    fn health(&self) -> Health {
        match self.class() {
            FailureClass::Final => Health::Success,
            FailureClass::Unsent | FailureClass::Throttled | FailureClass::Ambiguous => Health::Failure,
        }
    }
}

/// One try of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt<'a> {
    /// The first is 1.
    pub number: u32,
    /// The idempotency key: the same at every try.
    pub key: &'a str,
}

/// Why there was no further try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The policy gives up.
    #[error("{0}")]
    Policy(GiveUp),
    /// The next try would start after the total deadline.
    #[error("the next try would start after the total deadline")]
    Total,
    /// The destination must not be called.
    #[error("{0}")]
    NotAdmitted(NotAdmitted),
}

/// What the last try came to.
#[derive(Debug)]
pub enum Last<E> {
    /// There was none.
    NotCalled,
    /// It took longer than it may.
    TimedOut,
    /// It failed with this.
    Failed(E),
}

/// A call that did not succeed.
#[derive(Debug)]
pub struct GaveUp<E> {
    /// Why there was no further try.
    pub why: Why,
    /// What all tries together prove: if any of them may have happened, the call may have.
    pub proves: FailureClass,
    /// How many tries were made.
    pub attempts: u32,
    /// When to ask again, if anyone said so.
    pub retry_after: Option<Duration>,
    /// What the last try came to.
    pub last: Last<E>,
}

impl<E: fmt::Display> fmt::Display for GaveUp<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tries = self.attempts;
        match &self.last {
            Last::NotCalled => write!(f, "not called: {}", self.why),
            Last::TimedOut => write!(f, "try {tries} timed out, then {}", self.why),
            Last::Failed(error) => write!(f, "try {tries} failed ({error}), then {}", self.why),
        }?;
        match self.proves {
            FailureClass::Ambiguous => {
                f.write_str("; it may have happened: ask the other side, or retry with the same key")
            }
            FailureClass::Unsent | FailureClass::Throttled => f.write_str("; nothing happened: ask again later"),
            FailureClass::Final => Ok(()),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for GaveUp<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.last {
            Last::Failed(error) => Some(error),
            Last::NotCalled | Last::TimedOut => None,
        }
    }
}

/// Makes a call, and makes it again while the destination's policy, budget and breaker allow.
///
/// Give the key that [`derive_key`](hapax_core::derive_key) makes, and send it with every try. A try that takes longer
/// than `per_try` is dropped and counts as ambiguous. Dropping the returned future drops the try in hand.
///
/// # Errors
/// [`GaveUp`] says why, and what it proves.
///
/// ```
/// use hapax::core::policy::{FailureClass, RetryPolicy, derive_key};
/// use hapax::core::OperationId;
/// use hapax::retry::{Attempt, Destination, Failed, retry};
///
/// #[derive(Debug)]
/// struct Refused;
///
/// impl Failed for Refused {
///     fn class(&self) -> FailureClass {
///         FailureClass::Unsent
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bank = Destination::new(RetryPolicy::default())?;
/// let key = derive_key(&OperationId::from_bytes([7; 16]), "charge");
/// let charged = retry(&bank, &key, |Attempt { number, key }| async move {
///     // … send it with `key` …
///     if number == 1 { Err(Refused) } else { Ok(key.len()) }
/// })
/// .await;
/// assert_eq!(charged.ok(), Some(32));
/// # Ok(())
/// # }
/// ```
pub async fn retry<'k, T, E, F, A>(destination: &Destination, key: &'k str, attempt: F) -> Result<T, GaveUp<E>>
where
    E: Failed,
    F: FnMut(Attempt<'k>) -> A,
    A: Future<Output = Result<T, E>>,
{
    drive(destination, key, FailureClass::Ambiguous, attempt).await
}

/// As [`retry()`], where a try that timed out proves `on_timeout`.
pub(super) async fn drive<'k, T, E, F, A>(
    destination: &Destination,
    key: &'k str,
    on_timeout: FailureClass,
    mut attempt: F,
) -> Result<T, GaveUp<E>>
where
    E: Failed,
    F: FnMut(Attempt<'k>) -> A,
    A: Future<Output = Result<T, E>>,
{
    let policy = destination.policy();
    let started = Instant::now();
    let mut so_far = GaveUp {
        why: Why::Total,
        proves: FailureClass::Unsent,
        attempts: 0,
        retry_after: None,
        last: Last::NotCalled,
    };
    loop {
        let admitted = match so_far.attempts {
            0 => destination.admit(),
            _ => destination.admit_retry(),
        };
        let permit = match admitted {
            Ok(permit) => permit,
            Err(refused) => return Err(so_far.refused(refused)),
        };
        so_far.attempts += 1;
        let left = policy.limits.total.saturating_sub(started.elapsed());
        let time = policy.limits.per_try.min(left);
        let number = so_far.attempts;
        let class = match timeout(time, attempt(Attempt { number, key })).await {
            Ok(Ok(value)) => {
                permit.report(Health::Success);
                return Ok(value);
            }
            Ok(Err(error)) => {
                permit.report(error.health());
                so_far.failed(error)
            }
            Err(_) => {
                // A try that the total deadline cut short does not show that the destination is slow.
                permit.report(if left < policy.limits.per_try {
                    Health::Ignored
                } else {
                    Health::Failure
                });
                so_far.retry_after = None;
                so_far.last = Last::TimedOut;
                on_timeout
            }
        };
        so_far.proves = together(so_far.proves, class);
        let (elapsed, advice) = (started.elapsed(), so_far.retry_after);
        match policy.after_failure(class, number, elapsed, advice, destination.random()) {
            Next::GiveUp(why) => return Err(so_far.because(Why::Policy(why))),
            Next::Retry { after } if elapsed + after >= policy.limits.total => return Err(so_far.because(Why::Total)),
            Next::Retry { after } => sleep(after).await,
        }
    }
}

/// What two tries prove together. A final answer speaks of the operation, whichever try it was given to; doubt about
/// one try is not lifted by another that did nothing.
fn together(before: FailureClass, last: FailureClass) -> FailureClass {
    match (before, last) {
        (_, FailureClass::Final) => FailureClass::Final,
        (FailureClass::Ambiguous, _) => FailureClass::Ambiguous,
        (_, last) => last,
    }
}

impl<E: Failed> GaveUp<E> {
    fn failed(&mut self, error: E) -> FailureClass {
        let class = error.class();
        self.retry_after = error.retry_after();
        self.last = Last::Failed(error);
        class
    }

    fn because(mut self, why: Why) -> Self {
        self.why = why;
        self
    }

    fn refused(mut self, refused: NotAdmitted) -> Self {
        if let NotAdmitted::Open { retry_after } = refused {
            self.retry_after = Some(self.retry_after.unwrap_or_default().max(retry_after));
        }
        self.because(Why::NotAdmitted(refused))
    }
}

#[cfg(test)]
mod tests;
