//! The protocol: what happens when an operation is asked for.
//!
//! Read this to learn why an arrival got its answer. The order of the rules is a promise: a mismatch is reported
//! before in-progress, and in-progress before replay.

use crate::answer::{Answer, Outcome};
use crate::fingerprint::RecipeId;
use crate::record::{Cause, DeadReason, Record, State};
use crate::store::{Claim, Lease};
use crate::time::Timestamp;

/// What a claim on a record comes to. A store carries it out in the same atomic step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The claim wins: write [`Record::started`] with a new fence.
    Run,
    /// The claim had won before and its reply was lost: it still holds the lease.
    Resume(Lease),
    /// The last holder's lease lapsed in hold mode: write this record and refuse with its [`Record::refusal`].
    Lapse(Box<Record>),
    /// Nothing is written.
    Refuse(Refusal),
}

/// Why a claim does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The key was used for something else.
    Mismatch,
    /// The record's fingerprint was made by another recipe: compute the arrival's under that one and claim again.
    OtherRecipe(RecipeId),
    /// Somebody runs it.
    InProgress {
        /// Start of the run.
        since: Timestamp,
        /// End of the lease.
        deadline: Timestamp,
    },
    /// Not done, not due.
    Later {
        /// When it may be tried again.
        due: Timestamp,
    },
    /// It may have happened.
    Unknown {
        /// Since when.
        since: Timestamp,
        /// Why nobody knows.
        cause: Cause,
        /// The ambiguous answer, if there was one.
        answer: Option<Answer>,
    },
    /// It happened.
    Done {
        /// When.
        at: Timestamp,
        /// What it answered.
        outcome: Outcome,
    },
    /// No automatic retry will touch it.
    Dead {
        /// Since when.
        since: Timestamp,
        /// Why.
        reason: DeadReason,
        /// The last failure's answer, if there was one.
        answer: Option<Answer>,
    },
    /// This attempt ran and ended already: a late repetition of its claim.
    AttemptOver,
}

/// Decides what a claim comes to at the store's `now`.
#[must_use]
pub fn decide(record: Option<&Record>, claim: &Claim, now: Timestamp) -> Verdict {
    let Some(record) = record else {
        return Verdict::Run;
    };
    if record.fingerprint.recipe() != claim.fingerprint.recipe() {
        return Verdict::Refuse(Refusal::OtherRecipe(record.fingerprint.recipe()));
    }
    if record.fingerprint != claim.fingerprint {
        return Verdict::Refuse(Refusal::Mismatch);
    }
    if let Some(lapsed) = record.lapsed(now) {
        return Verdict::Lapse(Box::new(lapsed));
    }
    let same_attempt = record.attempt == claim.attempt;
    match record.state {
        State::Running { deadline, .. } if deadline <= now => Verdict::Run,
        State::Running {
            deadline, run_until, ..
        } if same_attempt => Verdict::Resume(Lease {
            fence: record.fence,
            deadline,
            run_until,
            tries: record.tries,
        }),
        State::Waiting { .. } if same_attempt => Verdict::Refuse(Refusal::AttemptOver),
        State::Waiting { due } if due <= now => Verdict::Run,
        _ => Verdict::Refuse(record.refusal(now)),
    }
}

#[cfg(test)]
mod tests;
