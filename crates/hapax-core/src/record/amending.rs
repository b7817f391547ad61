//! What a person, or a resolver that has found out, can do to a record.

use super::{DeadReason, NotKept, Outcome, Record, State, StateName};
use crate::store::{Amend, Amendment, Resolution};
use crate::time::Timestamp;
use crate::words::Fence;

/// What [`Record::amend`] decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AmendVerdict {
    /// Delete the record.
    Forget,
    /// Write this record.
    Becomes(Box<Record>),
    /// The record's state forbids it.
    Refuse(StateName),
    /// It was claimed or amended since it was looked at.
    Changed(StateName),
    /// "It did not happen" counts only from then on: what was sent may still arrive.
    Unsettled(Timestamp),
}

impl Record {
    /// Amends the record. It gets a new fence, so that no earlier attempt can finish it.
    #[must_use]
    pub fn amend(&self, amendment: &Amendment, fence: Fence, now: Timestamp) -> AmendVerdict {
        let lapsed = self.lapsed(now);
        let record = lapsed.as_ref().unwrap_or(self);
        let state = record.state.name();
        if amendment.fence.is_some_and(|fence| fence != record.fence) {
            return AmendVerdict::Changed(state);
        }
        let next = match (&amendment.amend, &record.state) {
            (Amend::Forget { .. }, State::Running { .. })
            | (Amend::Forget { even_unknown: false }, State::Unknown { .. }) => return AmendVerdict::Refuse(state),
            (Amend::Forget { .. }, _) => return AmendVerdict::Forget,
            (Amend::Resolve { settle, .. }, State::Unknown { .. })
                if amendment.amend.is_not_done() && record.since.after(*settle) > now =>
            {
                return AmendVerdict::Unsettled(record.since.after(*settle));
            }
            (Amend::Resolve { resolution, .. }, State::Unknown { answer, .. }) => match resolution {
                Resolution::Done(outcome) => State::Done(outcome.clone()),
                Resolution::NotDone => State::Waiting { due: now },
                Resolution::Dead => State::Dead {
                    reason: DeadReason::Refused,
                    answer: answer.clone(),
                },
            },
            (
                Amend::Resolve {
                    resolution: Resolution::Done(outcome),
                    ..
                },
                State::Dead { .. },
            ) => State::Done(outcome.clone()),
            (
                Amend::Redrive,
                State::Dead {
                    reason: DeadReason::Undone,
                    ..
                },
            ) => return AmendVerdict::Refuse(state),
            (Amend::Redrive, State::Dead { .. }) => State::Waiting { due: now },
            (Amend::Undo, State::Dead { answer, .. }) => State::Dead {
                reason: DeadReason::Undone,
                answer: answer.clone(),
            },
            (Amend::Discard, State::Dead { .. }) => State::Done(Outcome::NotKept(NotKept::Discarded)),
            _ => return AmendVerdict::Refuse(state),
        };
        let mut record = record.becoming(next, now, record.last_error.clone());
        record.fence = fence;
        record.crashes = 0;
        // A new life: its first start is no retry.
        if amendment.amend == Amend::Redrive {
            record.last_error = None;
            record.tries = 0;
            record.redriven = Some(now);
        }
        AmendVerdict::Becomes(Box::new(record))
    }
}

#[cfg(test)]
mod tests;
