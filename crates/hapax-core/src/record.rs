//! What a store remembers of an operation, and every transition but the claim (see [`crate::decide()`]).
//!
//! Transitions are pure: they take the record, the event and the store's `now`, and give the record's next form or
//! the reason why nothing changes. SQL stores carry the same rules in guarded statements and CHECK constraints.

use std::fmt;
use std::time::Duration;

use crate::answer::{Answer, NotKept, Outcome};
use crate::decide::Refusal;
use crate::fingerprint::Fingerprint;
use crate::store::{Claim, Finish, Lease, Starter};
use crate::time::Timestamp;
use crate::words::{AttemptId, Fence, Operation, OperationId};

mod amending;
mod notes;
mod taking;

pub use amending::AmendVerdict;
pub use notes::{Input, LastError};
pub use taking::{EnqueueVerdict, TakeVerdict};

/// What a lapsed claim becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AfterFailure {
    /// The outcome is unknown and stays so until a late finish or a resolver: at most once.
    #[default]
    Hold,
    /// The next claim takes over: at least once.
    Retry,
}

/// How long a record lives on after its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Retention {
    /// How long the answer can be replayed, counted from the finish.
    pub replay_for: Duration,
    /// How long the fact and the fingerprint are remembered, counted from the finish. At least `replay_for`.
    pub remember_for: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        const HOUR: u64 = 3600;
        Self {
            replay_for: Duration::from_secs(24 * HOUR),
            remember_for: Duration::from_secs(30 * 24 * HOUR),
        }
    }
}

/// Why an outcome is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The claim's deadline passed without a finish: its holder crashed, hangs, or could not reach the store.
    Lapsed,
    /// The handler or upstream failed in a way that proves nothing: 5xx, time-out, reset after bytes were sent.
    Ambiguous,
}

/// Why a record is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeadReason {
    /// The policy's tries are spent.
    Exhausted,
    /// It crashes whoever runs it.
    Poison,
    /// The same identity came with another payload.
    Mismatch,
    /// A failure that no retry can mend, or a person's verdict.
    Refused,
    /// Its compensation has begun: what it did is being undone.
    Undone,
}

/// The state of a record, with what only that state has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Claimed until its deadline.
    Running {
        /// End of the lease.
        deadline: Timestamp,
        /// The latest deadline that heartbeats can reach.
        run_until: Timestamp,
        /// What it becomes when the deadline passes.
        after_failure: AfterFailure,
        /// Who started it.
        starter: Starter,
    },
    /// Not done; to be run at `due`.
    Waiting {
        /// The earliest time of the next claim.
        due: Timestamp,
    },
    /// It may have happened.
    Unknown {
        /// Why nobody knows.
        cause: Cause,
        /// The ambiguous answer, if there was one.
        answer: Option<Answer>,
    },
    /// It happened, once.
    Done(Outcome),
    /// No automatic retry will touch it.
    Dead {
        /// Why.
        reason: DeadReason,
        /// The last failure's answer, if there was one.
        answer: Option<Answer>,
    },
}

impl State {
    /// The state's name.
    #[must_use]
    pub fn name(&self) -> StateName {
        match self {
            Self::Running { .. } => StateName::Running,
            Self::Waiting { .. } => StateName::Waiting,
            Self::Unknown { .. } => StateName::Unknown,
            Self::Done(_) => StateName::Done,
            Self::Dead { .. } => StateName::Dead,
        }
    }
}

macro_rules! text_codes {
    ($type:ident, $($variant:ident => $text:literal),+) => {
        impl $type {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word for it in SQL, in the CLI and in JSON.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),+
                }
            }

            /// The value behind a word; `None` if it is not one of ours.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

/// A state without what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StateName {
    /// See [`State::Running`].
    Running,
    /// See [`State::Waiting`].
    Waiting,
    /// See [`State::Unknown`].
    Unknown,
    /// See [`State::Done`].
    Done,
    /// See [`State::Dead`].
    Dead,
}

text_codes!(StateName, Running => "running", Waiting => "waiting", Unknown => "unknown", Done => "done", Dead => "dead");
text_codes!(Starter, Caller => "caller", System => "system", Alone => "alone");
text_codes!(AfterFailure, Hold => "hold", Retry => "retry");
text_codes!(Cause, Lapsed => "lapsed", Ambiguous => "ambiguous");
text_codes!(DeadReason, Exhausted => "exhausted", Poison => "poison", Mismatch => "mismatch", Refused => "refused",
    Undone => "undone");
text_codes!(NotKept, Expired => "expired", TooLarge => "too-large", Discarded => "discarded");

/// What a store remembers of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What was asked for.
    pub operation: Operation,
    /// Digest of the first arrival.
    pub fingerprint: Fingerprint,
    /// Fence of the last claim.
    pub fence: Fence,
    /// Attempt of the last claim.
    pub attempt: AttemptId,
    /// Starts made by the system; a client's own arrivals do not count, nor does a start that was cut off by a crash
    /// which may have been another's doing.
    pub tries: u32,
    /// Crashes of the process that ran it since its last finish: one makes it suspect, the next ones count only if it
    /// ran alone. Stays 0 where crashes are not held against an operation.
    pub crashes: u32,
    /// When the first claim was made.
    pub created: Timestamp,
    /// When the present state was entered.
    pub since: Timestamp,
    /// How long it lives on after its end.
    pub retention: Retention,
    /// What to run it with when nobody asks, in the door's own form. Dropped when it is done.
    pub input: Option<Input>,
    /// What the last failed run said. Dropped when it is done.
    pub last_error: Option<LastError>,
    /// When a person last sent it back from the dead; its schedule of retries counts from there.
    pub redriven: Option<Timestamp>,
    /// What it belongs to: the operation whose step it is, or the aggregate whose order it keeps. Never changes.
    pub group: Option<OperationId>,
    /// When a runner should look at it: `None` for what is settled, or runs unattended and belongs to no group;
    /// [`Timestamp::FOREVER`] for what waits for an arrival or a person, or runs unattended in a group. So what belongs
    /// to a group and is not done always has one.
    pub wake_at: Option<Timestamp>,
    /// Where it is in its life.
    pub state: State,
}

/// What [`Record::finish`] decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinishVerdict {
    /// The record becomes this.
    Becomes(Box<Record>),
    /// This attempt finished before; the first finish stands (its reply was lost, or the run lapsed into unknown and
    /// nothing new is known).
    Already,
    /// Another attempt holds the fence, or holds none any more.
    Fenced,
}

/// What [`Record::renew`] decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenewVerdict {
    /// The deadline becomes this.
    Until(Timestamp),
    /// `max_run` is over: the deadline stays as it is.
    Over,
    /// The claim is no longer this holder's.
    Fenced,
}

/// What [`Record::tend`] decides for the sweeper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tended {
    /// Nothing to do before this time.
    Keep(Timestamp),
    /// The record becomes this (an answer expired, or a lease lapsed); look again at this time.
    Becomes(Box<Record>, Timestamp),
    /// The record's time is over: forget it.
    Forget,
}

impl Record {
    /// The record and the lease that a granted claim makes: a first run, or the next one of `before`.
    #[must_use]
    pub fn started(before: Option<&Self>, claim: &Claim, fence: Fence, now: Timestamp) -> (Self, Lease) {
        let counted = u32::from(claim.starter != Starter::Caller);
        let tries = before.map_or(0, |record| record.tries).saturating_add(counted);
        let run_until = now.after(claim.max_run);
        let deadline = now.after(claim.lease).min(run_until);
        let input = before.and_then(|record| record.input.as_ref()).or(claim.input.as_ref());
        let group = before.map_or(claim.group, |record| record.group);
        let wake_at = if claim.attended || input.is_some() {
            Some(deadline)
        } else {
            group.map(|_| Timestamp::FOREVER)
        };
        let record = Self {
            operation: claim.operation.clone(),
            fingerprint: claim.fingerprint,
            fence,
            attempt: claim.attempt,
            tries,
            crashes: before.map_or(0, |record| record.crashes),
            created: before.map_or(now, |record| record.created),
            since: now,
            retention: claim.retention,
            input: input.cloned(),
            last_error: before.and_then(|record| record.last_error.clone()),
            redriven: before.and_then(|record| record.redriven),
            group,
            wake_at,
            state: State::Running {
                deadline,
                run_until,
                after_failure: claim.after_failure,
                starter: claim.starter,
            },
        };
        (
            record,
            Lease {
                fence,
                deadline,
                run_until,
                tries,
            },
        )
    }

    /// When the sweeper should first look at a record started now: not before its answer can have expired, so that a
    /// finish need not move the time (an indexed column).
    #[must_use]
    pub fn first_look(claim: &Claim, now: Timestamp) -> Timestamp {
        now.after(claim.max_run).after(claim.retention.replay_for)
    }

    /// The same record once its lease lapsed in hold mode; `None` while it did not.
    #[must_use]
    pub fn lapsed(&self, now: Timestamp) -> Option<Self> {
        match self.state {
            State::Running {
                deadline,
                after_failure: AfterFailure::Hold,
                ..
            } if deadline <= now => Some(self.becoming(
                State::Unknown {
                    cause: Cause::Lapsed,
                    answer: None,
                },
                deadline,
                self.last_error.clone(),
            )),
            _ => None,
        }
    }

    /// Extends the lease of the holder of `fence`, at most to `max_run` after the start. A run that lives to be renewed
    /// is no longer alone.
    #[must_use]
    pub fn renew(&self, fence: Fence, lease: Duration, now: Timestamp) -> RenewVerdict {
        match self.state {
            State::Running {
                deadline, run_until, ..
            } if self.fence == fence => {
                if now >= run_until {
                    RenewVerdict::Over
                } else {
                    RenewVerdict::Until(now.after(lease).min(run_until).max(deadline))
                }
            }
            _ => RenewVerdict::Fenced,
        }
    }

    /// Ends the run that holds `fence`. A run that lapsed into unknown can still report what became of it.
    #[must_use]
    pub fn finish(&self, fence: Fence, finish: &Finish, now: Timestamp) -> FinishVerdict {
        if self.fence != fence {
            return FinishVerdict::Fenced;
        }
        match (&self.state, finish) {
            (State::Waiting { .. } | State::Done(_) | State::Dead { .. }, _)
            | (State::Unknown { .. }, Finish::Unknown { .. }) => FinishVerdict::Already,
            (State::Running { .. } | State::Unknown { .. }, _) => {
                let last_error = finish.last_error().cloned();
                let mut record = self.becoming(finish.state(now), now, last_error);
                record.crashes = 0;
                let started_by_system =
                    matches!(self.state, State::Running { starter, .. } if starter != Starter::Caller);
                if started_by_system && matches!(finish, Finish::Release { counts: false, .. }) {
                    record.tries = record.tries.saturating_sub(1);
                }
                FinishVerdict::Becomes(Box::new(record))
            }
        }
    }

    /// What the sweeper has to do with the record.
    #[must_use]
    pub fn tend(&self, now: Timestamp) -> Tended {
        if let Some(record) = self.lapsed(now) {
            let next = record.next_look(now);
            return Tended::Becomes(Box::new(record), next);
        }
        if self.forget_at().is_some_and(|at| at <= now) {
            return Tended::Forget;
        }
        match &self.state {
            State::Done(Outcome::Answer(_)) if self.answer_until() <= now => {
                let mut record = self.clone();
                record.state = State::Done(Outcome::NotKept(NotKept::Expired));
                let next = record.next_look(now);
                Tended::Becomes(Box::new(record), next)
            }
            _ => Tended::Keep(self.next_look(now)),
        }
    }

    /// Whether it is settled for good.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done(_))
    }

    /// The end of `replay_for` for a done record.
    #[must_use]
    pub fn answer_until(&self) -> Timestamp {
        self.since.after(self.retention.replay_for)
    }

    /// When the record may be forgotten; `None` while it is claimed in hold mode, unknown, or will be run by itself.
    #[must_use]
    pub fn forget_at(&self) -> Option<Timestamp> {
        match self.state {
            State::Running { .. } | State::Waiting { .. } if self.input.is_some() => None,
            // From its deadline on, a claim in retry mode is no more than an operation that waits for an arrival.
            State::Running {
                deadline,
                after_failure: AfterFailure::Retry,
                ..
            } => Some(deadline.after(self.retention.replay_for)),
            State::Running { .. } | State::Unknown { .. } => None,
            // Any arrival from `due` on claims the record, so that `due` is no earlier than the last one.
            State::Waiting { due } => Some(due.max(self.since).after(self.retention.replay_for)),
            State::Done(_) | State::Dead { .. } => Some(self.since.after(self.retention.remember_for)),
        }
    }

    /// The shortest time between two looks of the sweeper, so that a look that changes nothing does not come back
    /// at once.
    const LOOK_AGAIN: Duration = Duration::from_secs(1);

    /// When a sweeper should look at a record that it leaves as it is.
    fn next_look(&self, now: Timestamp) -> Timestamp {
        let next = match self.state {
            State::Running {
                deadline,
                after_failure: AfterFailure::Hold,
                ..
            } => deadline,
            State::Done(Outcome::Answer(_)) => self.answer_until(),
            _ => self.forget_at().unwrap_or_else(|| now.after(self.retention.replay_for)),
        };
        next.max(now.after(Self::LOOK_AGAIN))
    }

    /// What a duplicate is told of the record as it stands.
    #[must_use]
    pub fn refusal(&self, now: Timestamp) -> Refusal {
        let since = self.since;
        match &self.state {
            State::Running { deadline, .. } => Refusal::InProgress {
                since,
                deadline: *deadline,
            },
            State::Waiting { due } => Refusal::Later { due: *due },
            State::Unknown { cause, answer } => Refusal::Unknown {
                since,
                cause: *cause,
                answer: answer.clone(),
            },
            State::Done(Outcome::Answer(_)) if self.answer_until() <= now => Refusal::Done {
                at: since,
                outcome: Outcome::NotKept(NotKept::Expired),
            },
            State::Done(outcome) => Refusal::Done {
                at: since,
                outcome: outcome.clone(),
            },
            State::Dead { reason, answer } => Refusal::Dead {
                since,
                reason: *reason,
                answer: answer.clone(),
            },
        }
    }

    /// The record in another state, with what that state keeps of it.
    fn becoming(&self, state: State, since: Timestamp, last_error: Option<LastError>) -> Self {
        let settled = matches!(state, State::Done(_));
        let wake_at = match &state {
            State::Running { .. } => self.wake_at,
            State::Done(_) => None,
            State::Waiting { due } if self.input.is_some() => Some(*due),
            // A run that a runner attends is resolved by one, too.
            State::Unknown { .. } if self.wake_at.is_some_and(|at| at < Timestamp::FOREVER) => Some(since),
            State::Waiting { .. } | State::Unknown { .. } | State::Dead { .. } => Some(Timestamp::FOREVER),
        };
        Self {
            operation: self.operation.clone(),
            fingerprint: self.fingerprint,
            fence: self.fence,
            attempt: self.attempt,
            tries: self.tries,
            crashes: self.crashes,
            created: self.created,
            since,
            retention: self.retention,
            input: if settled { None } else { self.input.clone() },
            last_error: if settled { None } else { last_error },
            redriven: self.redriven,
            group: self.group,
            wake_at,
            state,
        }
    }
}

#[cfg(test)]
mod tests;
