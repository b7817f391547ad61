//! All that can happen in the engine. Logs, metrics and the console derive from it.

use std::time::Duration;

use hapax_core::policy::{BreakerState, FailureClass};
use hapax_core::{DeadReason, Fence, Name, Operation, Refusal, StateName, StoreError, Swept};

use crate::retry::NotAdmitted;

/// Something that happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A claim won: the handler starts.
    Started {
        /// What runs.
        operation: &'a Operation,
        /// Its fence.
        fence: Fence,
    },
    /// A run ended and its finish is durable.
    Finished {
        /// What ran.
        operation: &'a Operation,
        /// What the record became.
        state: StateName,
        /// From claim to finish.
        took: Duration,
    },
    /// A run ended, but its fence was lost: the record says something else.
    Fenced {
        /// What ran.
        operation: &'a Operation,
        /// The fence that was lost.
        fence: Fence,
    },
    /// A duplicate was told what the record says.
    Refused {
        /// What was asked for.
        operation: &'a Operation,
        /// What it was told.
        refusal: &'a Refusal,
        /// Whether the answer came from the cache of done records.
        cached: bool,
    },
    /// A duplicate could not wait: too many do.
    TooManyWaiters {
        /// What was asked for.
        operation: &'a Operation,
    },
    /// A lease was extended.
    Renewed {
        /// What runs.
        operation: &'a Operation,
    },
    /// A lease cannot be extended any more, though its handler still runs.
    LeaseLost {
        /// What runs.
        operation: &'a Operation,
        /// Its fence.
        fence: Fence,
    },
    /// A handler panicked.
    Panicked {
        /// What ran.
        operation: &'a Operation,
    },
    /// The database rolled a transaction back, and nothing of it happened: it is run again from the top.
    RunAgain {
        /// What runs.
        operation: &'a Operation,
        /// What the database said.
        why: &'a str,
        /// How often it has been tried so far.
        tries: u32,
    },
    /// The answer to a commit was lost: the record is asked what became of it.
    CommitLost {
        /// What ran.
        operation: &'a Operation,
        /// Its fence.
        fence: Fence,
    },
    /// An operation was laid before the runners.
    Enqueued {
        /// What is to be run.
        operation: &'a Operation,
        /// Time until it is due.
        delay: Duration,
    },
    /// A runner took work from the store.
    Taken {
        /// Operations to be run.
        runs: usize,
        /// Unknown outcomes to be looked into.
        resolves: usize,
        /// Whether there is more.
        more: bool,
        /// How long the store took.
        took: Duration,
    },
    /// A run by the system failed and will be repeated.
    Retried {
        /// What ran.
        operation: &'a Operation,
        /// What its failure proves.
        class: FailureClass,
        /// Time until it is due.
        after: Duration,
        /// Starts made by the system that count as tries.
        tries: u32,
    },
    /// A run was put off before it began: its destination does not bear it now.
    PutOff {
        /// What was to run.
        operation: &'a Operation,
        /// Time until it is due.
        after: Duration,
        /// Who refuses: the breaker, or the retry budget.
        by: NotAdmitted,
    },
    /// The breaker of what the operations of a name call lets through more or less than before.
    BreakerChanged {
        /// Whose operations.
        name: &'a Name,
        /// What it does.
        state: BreakerState,
    },
    /// The compensation of a dead operation has begun: what its steps did is undone.
    UndoBegun {
        /// What is undone.
        operation: &'a Operation,
    },
    /// No automatic retry will touch the operation.
    Died {
        /// What ran.
        operation: &'a Operation,
        /// Why.
        reason: DeadReason,
    },
    /// Nobody knows whether the operation happened, and no resolver is there to be asked.
    Unattended {
        /// What ran.
        operation: &'a Operation,
    },
    /// A resolver found out what became of an unknown outcome.
    Resolved {
        /// What ran.
        operation: &'a Operation,
        /// The resolver's name.
        by: &'a str,
        /// What the record became.
        state: StateName,
    },
    /// No resolver can tell yet; they are asked again later.
    Unresolved {
        /// What ran.
        operation: &'a Operation,
        /// What they saw.
        saw: &'a str,
    },
    /// An operation was answered as one that happened: whether its receipt is there.
    ReceiptChecked {
        /// What ran.
        operation: &'a Operation,
        /// Whether it is.
        found: bool,
        /// Whether it is the first of its name that is not.
        first: bool,
    },
    /// Receipts that had outlived their records were removed.
    ReceiptsPurged {
        /// How many.
        rows: u64,
    },
    /// The database of the receipts failed, or the store when it was asked about them; it is tried again.
    ReceiptsFailed {
        /// What was being done: `recall`, `look`, `purge`.
        doing: &'static str,
        /// The failure.
        error: &'a StoreError,
    },
    /// An operation is suspected of crashing whoever runs it: it runs with nothing beside it.
    Suspect {
        /// What runs.
        operation: &'a Operation,
        /// Crashes so far.
        crashes: u32,
    },
    /// The store failed; the step is repeated, or its caller is refused.
    StoreFailed {
        /// Which step: `claim`, `renew`, `finish`, `read`, `list`, `enqueue`, `take`, `amend`, `sweep`.
        step: &'static str,
        /// The failure.
        error: &'a StoreError,
    },
    /// A consumer took messages from its broker.
    Received {
        /// The consumer.
        name: &'a Name,
        /// How many.
        messages: usize,
        /// Those that may have been delivered before.
        redelivered: usize,
    },
    /// A message came to an end at its consumer, and its broker was told.
    Consumed {
        /// The consumer.
        name: &'a Name,
        /// `done`, `duplicate`, `waiting`, `unknown`, `dead` (acknowledged), or `again` (to be delivered again).
        came: &'static str,
        /// From its delivery.
        took: Duration,
    },
    /// A consumer takes nothing from its broker for now: what its handler calls is away.
    IntakePaused {
        /// The consumer.
        name: &'a Name,
    },
    /// A consumer takes messages again.
    IntakeResumed {
        /// The consumer.
        name: &'a Name,
    },
    /// How far a consumer is behind.
    Lag {
        /// The consumer.
        name: &'a Name,
        /// Messages that are not done with.
        messages: u64,
        /// Age of the oldest, where the broker can tell.
        oldest: Option<Duration>,
    },
    /// A consumer's broker failed or refused; it is asked again.
    SourceFailed {
        /// The consumer.
        name: &'a Name,
        /// What was being done: `receive`, `ack`, `retry`, `dead`, `lag`, `limits`.
        doing: &'static str,
        /// The failure.
        error: &'a dyn std::error::Error,
        /// Whether a person must act.
        refused: bool,
    },
    /// The sweeper did some work.
    Swept(Swept),
}

/// Someone who wants to know.
pub trait Observer: Send + Sync + 'static {
    /// Takes an event. Called on the hot path: be quick, never block.
    fn event(&self, event: &Event<'_>);
}

/// Nobody wants to know.
impl Observer for () {
    fn event(&self, _: &Event<'_>) {}
}
