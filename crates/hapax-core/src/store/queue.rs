//! What runners ask of a store.

use std::time::Duration;

use super::Lease;
use crate::decide::Refusal;
use crate::fingerprint::Fingerprint;
use crate::record::{AfterFailure, Input, Record, Retention};
use crate::time::Timestamp;
use crate::words::{AttemptId, Name, Operation, OperationId, Scope};

/// An operation to be run by a runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enqueue {
    /// What is asked for.
    pub operation: Operation,
    /// Digest of what is asked.
    pub fingerprint: Fingerprint,
    /// Identity of this attempt to enqueue: random, and the same when it is repeated after a lost reply.
    pub attempt: AttemptId,
    /// What to run it with.
    pub input: Input,
    /// Time until it is due; zero for at once.
    pub delay: Duration,
    /// How long the record lives on after its end.
    pub retention: Retention,
    /// What it belongs to: the operation whose step it is, or the aggregate whose order it keeps. Counts where the
    /// record is new.
    pub group: Option<OperationId>,
}

/// The store's answer to an [`Enqueue`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enqueued {
    /// The store's time of the decision.
    pub now: Timestamp,
    /// Why it was not enqueued: what the record says of an operation that was asked for before.
    pub refusal: Option<Refusal>,
}

/// A request for work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Take {
    /// Identity of this request: random, and the same when it is repeated after a lost reply. Every record that it
    /// takes gets it as its attempt.
    pub attempt: AttemptId,
    /// What the runner can handle. Records of other names are left alone.
    pub names: Vec<TakeName>,
    /// The most records to take.
    pub limit: usize,
    /// Takes one record suspected of crashing its process, and nothing else: the runner has nothing else in flight.
    pub alone: bool,
    /// Whether it is a repetition: what the attempt took before counts.
    pub again: bool,
}

impl Take {
    /// About how many records a take puts off before it ends with [`Taken::more`], however much is due: those that wait
    /// for their turn can be many.
    pub const MOST_PUT_OFF: usize = 512;
}

/// How a runner treats the records of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeName {
    /// The name.
    pub name: Name,
    /// Length of the lease.
    pub lease: Duration,
    /// The longest time that heartbeats can extend the lease to, from the start.
    pub max_run: Duration,
    /// What a lapsed lease becomes.
    pub after_failure: AfterFailure,
    /// Starts made by the system before a record is dead.
    pub tries: u32,
    /// Whether a crash of the runner's process can be the operation's fault.
    pub crashes_count: bool,
    /// Whether the runner can find out what became of an unknown outcome.
    pub resolves: bool,
    /// Whether a record of a group has to wait until all older ones of its group, of whatever name, are done. Age is the
    /// order in which a store made them: of two that are made by transactions which overlap, either can be the older.
    pub ordered: bool,
}

impl TakeName {
    /// Pause before an outcome that has been unknown for `age` is looked into again: a tenth of that, between 1 s and
    /// 10 min.
    #[must_use]
    pub fn resolve_pause(&self, age: Duration) -> Duration {
        const SHORTEST: Duration = Duration::from_secs(1);
        const LONGEST: Duration = Duration::from_secs(600);
        (age / 10).clamp(SHORTEST, LONGEST)
    }
}

/// One record that a runner has to do something about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Run it.
    Run(Box<Record>, Lease),
    /// Find out what became of it. The record is unknown and claimed by nobody; [`Amend`](super::Amend) it with its
    /// fence.
    Resolve(Box<Record>),
}

/// The store's answer to a [`Take`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The store's time.
    pub now: Timestamp,
    /// What to do.
    pub work: Vec<Work>,
    /// Records that became dead, or unknown with nobody to ask.
    pub ended: Vec<Record>,
    /// Whether there are suspects to be run alone.
    pub suspects: bool,
    /// Whether there may be more to take at once; never false if there is.
    pub more: bool,
}

/// Counts of what is not settled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Census {
    /// Records that wait, with and without input.
    pub waiting: u64,
    /// Records whose outcome is unknown.
    pub unknown: u64,
    /// Dead letters.
    pub dead: u64,
    /// The earliest time that a record with input was due and has not run; `None` if none is due.
    pub oldest_due: Option<Timestamp>,
    /// Since when the oldest unknown outcome is unknown.
    pub oldest_unknown: Option<Timestamp>,
    /// Records of each scope, in all states; empty unless asked for.
    pub scopes: Vec<(Scope, u64)>,
}
