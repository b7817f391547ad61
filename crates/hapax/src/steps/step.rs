//! What a step is, before any operation asks for it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hapax_core::policy::{Backoff, BreakerPolicy, Classes, Limits, RetryPolicy};
use hapax_core::{AfterFailure, BoxFuture};

use super::undo::Undo;
use crate::resolver::Resolver;
use crate::retry::Destination;
use crate::runner::Failure;

pub(super) type UndoHandler = Arc<dyn Fn(Undo) -> BoxFuture<'static, Result<Bytes, Failure>> + Send + Sync>;

/// A step of an operation: its name, how it is repeated, and what undoes it.
///
/// ```
/// use std::time::Duration;
/// use bytes::Bytes;
/// use hapax::steps::{Step, Undo};
///
/// let charge = Step::at_least_once("charge").lease(Duration::from_secs(10)).undone_by(|undo: Undo| async move {
///     // … ask the bank to refund whatever it has under `undo.step_key`, with the key `undo.key` …
///     Ok(Bytes::new())
/// });
/// let email = Step::at_most_once("email");
/// ```
#[derive(Clone)]
pub struct Step {
    pub(super) name: Box<str>,
    pub(super) after_failure: AfterFailure,
    pub(super) destination: Option<Destination>,
    pub(super) lease: Duration,
    pub(super) max_run: Duration,
    pub(super) settle: Duration,
    pub(super) resolvers: Vec<Arc<dyn Resolver>>,
    pub(super) undo: Option<UndoHandler>,
    pub(super) undo_destination: Option<Destination>,
}

impl Step {
    /// A step that is repeated, with the same key, after a crash and after a failure that proves nothing: for what
    /// honours the key, or does no harm if it is done twice.
    #[must_use]
    pub fn at_least_once(name: &str) -> Self {
        Self::new(name, AfterFailure::Retry)
    }

    /// A step that is not repeated where it may have happened: its outcome is then unknown, and the operation waits
    /// until a resolver or a person has settled it.
    #[must_use]
    pub fn at_most_once(name: &str) -> Self {
        Self::new(name, AfterFailure::Hold)
    }

    fn new(name: &str, after_failure: AfterFailure) -> Self {
        Self {
            name: name.into(),
            after_failure,
            destination: None,
            lease: Duration::from_secs(30),
            max_run: Duration::from_secs(15 * 60),
            settle: Duration::from_secs(30),
            resolvers: Vec::new(),
            undo: None,
            undo_destination: None,
        }
    }

    /// The retry policy, budget and breaker of what it calls (3 tries within 24 h, each of 30 s at most). Steps that
    /// call the same share it.
    #[must_use]
    pub fn destination(mut self, destination: Destination) -> Self {
        self.destination = Some(destination);
        self
    }

    /// How long it may go without a sign of life (30 s).
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How long signs of life can keep it going (15 min).
    #[must_use]
    pub fn max_run(mut self, max_run: Duration) -> Self {
        self.max_run = max_run;
        self
    }

    /// How long what it sent can still take effect after its process was lost (30 s): its compensation does not begin
    /// earlier, and a resolver's "it did not happen" does not count earlier.
    #[must_use]
    pub fn settle(mut self, settle: Duration) -> Self {
        self.settle = settle;
        self
    }

    /// Who is asked what became of it when its outcome is unknown; the first that is given is the first to be asked.
    #[must_use]
    pub fn resolver(mut self, resolver: Arc<dyn Resolver>) -> Self {
        self.resolvers.push(resolver);
        self
    }

    /// What undoes it if the operation dies. It is also asked to undo what may never have happened, and asked again,
    /// with the same key, until it succeeds or its tries are spent.
    #[must_use]
    pub fn undone_by<H, F>(mut self, handler: H) -> Self
    where
        H: Fn(Undo) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Bytes, Failure>> + Send + 'static,
    {
        self.undo = Some(Arc::new(move |undo| Box::pin(handler(undo))));
        self
    }

    /// The retry policy, budget and breaker of what undoes it ([`Step::undo_policy`]).
    #[must_use]
    pub fn undo_destination(mut self, destination: Destination) -> Self {
        self.undo_destination = Some(destination);
        self
    }

    /// The usual policy of a compensation, which must succeed in the end: 20 tries within 3 days, pauses from 1 s to
    /// 1 h.
    #[must_use]
    pub fn undo_policy() -> RetryPolicy {
        RetryPolicy {
            retry: Classes::ALL,
            backoff: Backoff {
                base: Duration::from_secs(1),
                throttle_base: Duration::from_secs(5),
                cap: Duration::from_secs(3600),
            },
            limits: Limits {
                tries: 20,
                elapsed: Duration::from_secs(3 * 24 * 3600),
                ..Limits::default()
            },
            breaker: BreakerPolicy {
                minimum_calls: 20,
                ..BreakerPolicy::default()
            },
            ..RetryPolicy::default()
        }
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("name", &self.name)
            .field("after_failure", &self.after_failure)
            .field("undone", &self.undo.is_some())
            .finish_non_exhaustive()
    }
}
