//! What a store must do.
//!
//! A store keeps records and carries out the decisions of this crate, each in one atomic step. It owns the clock and
//! the fence counter. No method is optional: the conformance suite of `hapax-check` runs all of them against every
//! store.

mod amend;
mod queue;

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::answer::{Answer, Outcome};
use crate::decide::Refusal;
use crate::fingerprint::{Fingerprint, RecipeId};
use crate::record::{AfterFailure, Cause, DeadReason, Input, LastError, Record, Retention, State, StateName};
use crate::time::Timestamp;
use crate::words::{AttemptId, Fence, Operation, OperationId};

pub use amend::{Amend, Amended, Amendment, Audit, AuditEntry, AuditPage, Resolution};
pub use queue::{Census, Enqueue, Enqueued, Take, TakeName, Taken, Work};

/// A boxed future, so that the contract can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The store contract.
///
/// A store MUST
/// - make each method one atomic step, durable before it answers (as far as its configuration promises);
/// - give each granted claim a fence higher than any that it gave before;
/// - take `now` from one clock that never runs backwards ([`StoreClock`](crate::StoreClock));
/// - answer a repetition of `claim`, `enqueue` and `take` (same attempt) and of `finish` (same fence) as the first was
///   answered.
///
/// A store that answers with an error MAY have carried the step out: callers repeat it, or treat it as unknown.
pub trait Store: Send + Sync + 'static {
    /// Claims an operation: carries out [`decide`](crate::decide()).
    fn claim(&self, claim: Claim) -> BoxFuture<'_, Result<Claimed, StoreError>>;

    /// Extends the lease of the holder of `fence` ([`Record::renew`]).
    fn renew(&self, id: OperationId, fence: Fence, lease: Duration) -> BoxFuture<'_, Result<Renewed, StoreError>>;

    /// Ends the run of the holder of `fence` ([`Record::finish`]).
    fn finish(&self, id: OperationId, fence: Fence, finish: Finish) -> BoxFuture<'_, Result<Finished, StoreError>>;

    /// The record, with the store's time; a lapsed one as it stands.
    fn read(&self, id: OperationId) -> BoxFuture<'_, Result<(Timestamp, Option<Record>), StoreError>>;

    /// A page of records, oldest first, without answers. At most `limit` (1 to 1,000; others are clamped).
    fn list(&self, filter: Filter, after: Option<Cursor>, limit: usize) -> BoxFuture<'_, Result<Page, StoreError>>;

    /// Lays an operation before the runners ([`Record::enqueue`]).
    fn enqueue(&self, enqueue: Enqueue) -> BoxFuture<'_, Result<Enqueued, StoreError>>;

    /// Work whose time has come ([`Record::take`]), the longest due about first. No record is given to two takers.
    fn take(&self, take: Take) -> BoxFuture<'_, Result<Taken, StoreError>>;

    /// Changes a record otherwise than by running it ([`Record::amend`]), and writes an [`AuditEntry`] in the same step.
    fn amend(&self, id: OperationId, amendment: Amendment) -> BoxFuture<'_, Result<Amended, StoreError>>;

    /// A page of the audit, oldest first, of one operation or of all. At most `limit` (1 to 1,000; others are clamped).
    fn audit(
        &self,
        id: Option<OperationId>,
        after: Option<Cursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<AuditPage, StoreError>>;

    /// Counts what is not settled; the records of each scope too if `scopes`, which reads all of them. A claim that
    /// lapsed unattended counts once an arrival or the sweeper has noticed.
    fn census(&self, scopes: bool) -> BoxFuture<'_, Result<Census, StoreError>>;

    /// Tends at most `limit` records whose time has come ([`Record::tend`]): lapses, strips answers, forgets.
    fn sweep(&self, limit: usize) -> BoxFuture<'_, Result<Swept, StoreError>>;

    /// The number of a fingerprint recipe, the same for the same text for ever; a new one for a new text.
    fn recipe(&self, text: String) -> BoxFuture<'_, Result<RecipeId, StoreError>>;

    /// The text of a recipe; `None` if the number was never given out.
    fn recipe_text(&self, recipe: RecipeId) -> BoxFuture<'_, Result<Option<String>, StoreError>>;

    /// The store's time and how far an unaccepted jump of its clock is ahead; also says whether the store can be
    /// reached. `accept_jump` accepts the jump first.
    fn time(&self, accept_jump: bool) -> BoxFuture<'_, Result<(Timestamp, Option<Duration>), StoreError>>;

    /// Makes every later fence higher than `at_least`: for a store that lost records to a backup, so that no fence that
    /// somebody may have seen is given out again. Never lowers one.
    ///
    /// Refused as [`Invalid`](StoreErrorKind::Invalid) above [`Fence::HIGHEST_RAISE`].
    fn raise_fence(&self, at_least: Fence) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The secret that keys fingerprints and scope digests: 32 random bytes, made with the store and kept in it.
    fn secret(&self) -> [u8; 32];
}

/// Who asks for a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Starter {
    /// A caller's own arrival: its back-off is its own, the start is no try.
    Caller,
    /// The system, under a retry policy: the start is a try.
    System,
    /// The system, with nothing else in flight in its process: a crash before the first heartbeat is this operation's.
    Alone,
}

/// A request for the right to run an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What is asked for.
    pub operation: Operation,
    /// Digest of what is asked.
    pub fingerprint: Fingerprint,
    /// Identity of this attempt: random, and the same when the claim is repeated after a lost reply.
    pub attempt: AttemptId,
    /// Whether the start counts as a try.
    pub starter: Starter,
    /// Length of the lease.
    pub lease: Duration,
    /// The longest time that heartbeats can extend the lease to, from the start.
    pub max_run: Duration,
    /// What a lapsed lease becomes.
    pub after_failure: AfterFailure,
    /// Whether a runner looks after it if it lapses or ends unknown: there is a resolver for operations of this name.
    pub attended: bool,
    /// How long the record lives on after its end.
    pub retention: Retention,
    /// What a runner can run it with if its claimer does not end it. Kept unless the record has one.
    pub input: Option<Input>,
    /// What it belongs to: the operation whose step it is, or the aggregate whose order it keeps. Counts where the
    /// claim makes the record.
    pub group: Option<OperationId>,
}

/// The store's answer to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The store's time of the decision.
    pub now: Timestamp,
    /// The decision.
    pub ruling: Ruling,
}

/// Whether a claim was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// Run it.
    Won(Lease),
    /// Do not.
    Refused(Refusal),
}

/// The right to run an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The fencing token of this run.
    pub fence: Fence,
    /// End of the lease.
    pub deadline: Timestamp,
    /// The latest deadline that heartbeats can reach.
    pub run_until: Timestamp,
    /// Starts made by the system so far.
    pub tries: u32,
}

impl Lease {
    /// Whether a lease that was given at the store's `now` may be over when its reply took so long to arrive.
    #[must_use]
    pub fn is_over(&self, now: Timestamp, took: Duration) -> bool {
        took >= self.deadline.since(now)
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// It happened.
    Done(Outcome),
    /// It did not happen, provably, or is to be tried again: waiting, due after this time.
    Release {
        /// Time until due; zero for at once.
        after: Duration,
        /// Whether a start by the system stays a try. One that provably had no effect is none.
        counts: bool,
        /// What went wrong.
        last_error: Option<LastError>,
    },
    /// It may have happened.
    Unknown {
        /// The ambiguous answer, if there was one.
        answer: Option<Answer>,
        /// What went wrong.
        last_error: Option<LastError>,
    },
    /// No retry can mend it.
    Dead {
        /// Why.
        reason: DeadReason,
        /// The last failure's answer, if there was one.
        answer: Option<Answer>,
        /// What went wrong.
        last_error: Option<LastError>,
    },
}

impl Finish {
    /// The state that the finish leads to at `now`.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> State {
        match self {
            Self::Done(outcome) => State::Done(outcome.clone()),
            Self::Release { after, .. } => State::Waiting { due: now.after(*after) },
            Self::Unknown { answer, .. } => State::Unknown {
                cause: Cause::Ambiguous,
                answer: answer.clone(),
            },
            Self::Dead { reason, answer, .. } => State::Dead {
                reason: *reason,
                answer: answer.clone(),
            },
        }
    }

    /// What the run said of its failure.
    #[must_use]
    pub fn last_error(&self) -> Option<&LastError> {
        match self {
            Self::Done(_) => None,
            Self::Release { last_error, .. } | Self::Unknown { last_error, .. } | Self::Dead { last_error, .. } => {
                last_error.as_ref()
            }
        }
    }
}

/// The store's answer to a finish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finished {
    /// The record is as the finish says.
    Applied {
        /// The store's time of the finish.
        now: Timestamp,
    },
    /// This attempt had finished before; the first finish stands.
    Already {
        /// The store's time.
        now: Timestamp,
        /// The record as it is.
        record: Box<Record>,
    },
    /// The fence is not (or no longer) this attempt's: nothing was written.
    Fenced {
        /// The store's time.
        now: Timestamp,
        /// The record as it is; `None` if it was forgotten.
        record: Option<Box<Record>>,
    },
}

/// The store's answer to a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// The lease now ends then.
    Until(Timestamp),
    /// `max_run` is over: the lease will lapse.
    Over,
    /// The fence is not (or no longer) this attempt's.
    Fenced,
}

/// Which records to list. Everything that is `Some` must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// In this state. A claim that lapsed in hold mode counts as unknown.
    pub state: Option<StateName>,
    /// Of this scope.
    pub scope: Option<String>,
    /// Of this name.
    pub name: Option<String>,
    /// With this key.
    pub key: Option<String>,
    /// Dead for this reason.
    pub dead: Option<DeadReason>,
    /// In its present state since this time or later.
    pub since: Option<Timestamp>,
    /// In its present state since before this time.
    pub before: Option<Timestamp>,
    /// Of this group. Cheap, however many records there are.
    pub group: Option<OperationId>,
}

/// Where the next page begins. Opaque: only the store that made it can read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(pub i64);

/// A page of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The store's time.
    pub now: Timestamp,
    /// The records, oldest first.
    pub records: Vec<Summary>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

/// A record without its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// What was asked for.
    pub operation: Operation,
    /// Its state; a claim that lapsed in hold mode counts as unknown.
    pub state: StateName,
    /// Fence of the last claim.
    pub fence: Fence,
    /// Starts made by the system.
    pub tries: u32,
    /// When the first claim was made.
    pub created: Timestamp,
    /// When the present state was entered.
    pub since: Timestamp,
    /// Running: end of the lease. Waiting: when it is due.
    pub until: Option<Timestamp>,
    /// Status of the stored answer, if there is one.
    pub status: Option<u16>,
    /// Dead: why.
    pub dead: Option<DeadReason>,
    /// What the last failed run said.
    pub last_error: Option<LastError>,
    /// Whether its input is stored, so that a runner can run it.
    pub has_input: bool,
    /// When a person last sent it back from the dead.
    pub redriven: Option<Timestamp>,
    /// What it belongs to.
    pub group: Option<OperationId>,
}

impl Summary {
    /// The summary of a record at `now`.
    #[must_use]
    pub fn of(record: &Record, now: Timestamp) -> Self {
        let lapsed = record.lapsed(now);
        let record = lapsed.as_ref().unwrap_or(record);
        let (until, answer) = match &record.state {
            State::Running { deadline, .. } => (Some(*deadline), None),
            State::Waiting { due } => (Some(*due), None),
            State::Unknown { answer, .. } | State::Dead { answer, .. } => (None, answer.as_ref()),
            State::Done(Outcome::Answer(answer)) => (None, Some(answer)),
            State::Done(Outcome::NotKept(_)) => (None, None),
        };
        Self {
            operation: record.operation.clone(),
            state: record.state.name(),
            fence: record.fence,
            tries: record.tries,
            created: record.created,
            since: record.since,
            until,
            status: answer.map(|answer| answer.status),
            dead: match record.state {
                State::Dead { reason, .. } => Some(reason),
                _ => None,
            },
            last_error: record.last_error.clone(),
            has_input: record.input.is_some(),
            redriven: record.redriven,
            group: record.group,
        }
    }
}

impl Filter {
    /// Whether a record belongs to the listing.
    #[must_use]
    pub fn holds(&self, summary: &Summary) -> bool {
        let operation = &summary.operation;
        self.state.is_none_or(|state| state == summary.state)
            && self
                .scope
                .as_deref()
                .is_none_or(|scope| scope == operation.scope().as_str())
            && self
                .name
                .as_deref()
                .is_none_or(|name| name == operation.name().as_str())
            && self.key.as_deref().is_none_or(|key| key == operation.key().as_str())
            && self.dead.is_none_or(|reason| summary.dead == Some(reason))
            && self.since.is_none_or(|since| summary.since >= since)
            && self.before.is_none_or(|before| summary.since < before)
            && self.group.is_none_or(|group| summary.group == Some(group))
    }
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Claims that became unknown.
    pub lapsed: usize,
    /// Answers that were dropped.
    pub stripped: usize,
    /// Records that were forgotten.
    pub forgotten: usize,
    /// Records that were looked at; as many as the limit means that more may be waiting.
    pub looked_at: usize,
}

/// What kind of failure a store met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// It cannot be reached, or did not answer in time. Trying again may help.
    Unavailable,
    /// Its disk is full or read-only. Trying again helps once someone has made room.
    Full,
    /// Its schema is older or newer than this program.
    Schema,
    /// What it keeps does not make sense.
    Corrupt,
    /// It was asked or configured wrongly.
    Invalid,
}

/// A store's failure. The step MAY have been carried out.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StoreError {
    /// A failure; `message` says what failed, where, and what to do next.
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// With the error underneath.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Whether the same step may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Unavailable | StoreErrorKind::Full)
    }
}

/// Whether a store's counter may be raised to `at_least`, for stores to ask first.
///
/// # Errors
/// [`Invalid`](StoreErrorKind::Invalid) above [`Fence::HIGHEST_RAISE`].
pub fn check_raise(at_least: Fence) -> Result<(), StoreError> {
    if at_least <= Fence::HIGHEST_RAISE {
        return Ok(());
    }
    let message = format!(
        "cannot raise the fence to {at_least}: the highest is {}; no store gave out a fence like that, so check where \
         the number comes from",
        Fence::HIGHEST_RAISE
    );
    Err(StoreError::new(StoreErrorKind::Invalid, message))
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests;
