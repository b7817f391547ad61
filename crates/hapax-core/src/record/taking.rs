//! What a runner does with records, and how they are laid before it.

use std::time::Duration;

use super::{DeadReason, Record, State};
use crate::decide::Refusal;
use crate::store::{Claim, Enqueue, Lease, Starter, Take, TakeName};
use crate::time::Timestamp;
use crate::words::{Fence, OperationId};

/// What [`Record::enqueue`] decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnqueueVerdict {
    /// Write this record: a new one, or one that waited for an arrival and now has its input.
    Write(Box<Record>),
    /// This attempt had enqueued it before, and its reply was lost.
    Already,
    /// The last holder's lease lapsed in hold mode: write this record and refuse with its [`Record::refusal`].
    Lapse(Box<Record>),
    /// Nothing is written.
    Refuse(Refusal),
}

/// What [`Record::take`] decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakeVerdict {
    /// Run it: write this record.
    Run(Box<Record>, Lease),
    /// Find out what became of it: write this record, so that nobody else asks meanwhile.
    Resolve(Box<Record>),
    /// It cannot be run: write this record.
    Becomes(Box<Record>),
    /// Suspected of crashing whoever runs it: left for a [`Take`] in solitude.
    Suspect,
    /// No suspect, and so not for a [`Take`] in solitude.
    Leave,
    /// Not now: only its [`Record::wake_at`] moves.
    Later(Timestamp),
}

impl Record {
    /// Crashes that prove a record to be poison: the first makes it suspect, two more happened while it ran alone.
    pub const POISON: u32 = 3;

    /// Lays an operation before the runners.
    #[must_use]
    pub fn enqueue(before: Option<&Self>, enqueue: &Enqueue, fence: Fence, now: Timestamp) -> EnqueueVerdict {
        let due = now.after(enqueue.delay);
        let Some(before) = before else {
            return EnqueueVerdict::Write(Box::new(Self {
                operation: enqueue.operation.clone(),
                fingerprint: enqueue.fingerprint,
                fence,
                attempt: enqueue.attempt,
                tries: 0,
                crashes: 0,
                created: now,
                since: now,
                retention: enqueue.retention,
                input: Some(enqueue.input.clone()),
                last_error: None,
                redriven: None,
                group: enqueue.group,
                wake_at: Some(due),
                state: State::Waiting { due },
            }));
        };
        if before.fingerprint.recipe() != enqueue.fingerprint.recipe() {
            return EnqueueVerdict::Refuse(Refusal::OtherRecipe(before.fingerprint.recipe()));
        }
        if before.fingerprint != enqueue.fingerprint {
            return EnqueueVerdict::Refuse(Refusal::Mismatch);
        }
        if let Some(lapsed) = before.lapsed(now) {
            return EnqueueVerdict::Lapse(Box::new(lapsed));
        }
        let takes_input = match before.state {
            State::Waiting { .. } if before.attempt == enqueue.attempt => return EnqueueVerdict::Already,
            State::Waiting { .. } => before.input.is_none(),
            // A lapsed claim in retry mode is no more than an operation that waits for somebody to run it.
            State::Running { deadline, .. } => before.input.is_none() && deadline <= now,
            _ => false,
        };
        if !takes_input {
            return EnqueueVerdict::Refuse(before.refusal(now));
        }
        // What waits for its time goes on waiting for it.
        let due = match before.state {
            State::Waiting { due: before } => due.max(before),
            _ => due,
        };
        let mut record = before.clone();
        record.attempt = enqueue.attempt;
        record.fence = fence;
        record.input = Some(enqueue.input.clone());
        record.since = now;
        record.state = State::Waiting { due };
        record.wake_at = Some(due);
        EnqueueVerdict::Write(Box::new(record))
    }

    /// When the sweeper should first look at a record enqueued now.
    #[must_use]
    pub fn first_look_enqueued(enqueue: &Enqueue, now: Timestamp) -> Timestamp {
        now.after(enqueue.delay).after(enqueue.retention.replay_for)
    }

    /// The pause of one that has to wait for the one record before it: bounds what it costs if the end of that one fails
    /// to wake it.
    pub const TURN_PAUSE: Duration = Duration::from_secs(5);
    /// The pause of one with more before it: many can wait like that, and each look costs a write.
    pub const LINE_PAUSE: Duration = Duration::from_secs(60);

    /// The group in which the record has to wait for its turn, if any.
    #[must_use]
    pub fn line(&self, name: &TakeName) -> Option<OperationId> {
        self.group.filter(|_| name.ordered)
    }

    /// When its runner should look at the next record of a group, whose turn may have come since one before it is done:
    /// as if it had not been put off, so that it passes those that became due after it. `None` if it does not wait for
    /// its turn.
    #[must_use]
    pub fn turn(&self, now: Timestamp) -> Option<Timestamp> {
        match self.state {
            State::Waiting { due } if due <= now && self.input.is_some() => Some(due),
            _ => None,
        }
    }

    /// What a runner that handles this record's name has to do with it, once its [`wake_at`](Self::wake_at) has come.
    /// `before` is how many older records of its [`line`](Self::line) are not done; more than two count as two.
    #[must_use]
    pub fn take(&self, take: &Take, name: &TakeName, before: usize, fence: Fence, now: Timestamp) -> TakeVerdict {
        if let Some(at) = self.wake_at.filter(|at| *at > now) {
            return TakeVerdict::Later(at);
        }
        let record = self.lapsed(now);
        let record = record.as_ref().unwrap_or(self);
        let suspect = matches!(record.state, State::Running { deadline, .. } if deadline <= now)
            && name.crashes_count
            && record.input.is_some();
        match (suspect, take.alone) {
            (true, false) => return TakeVerdict::Suspect,
            (false, true) => return TakeVerdict::Leave,
            _ => {}
        }
        match &record.state {
            State::Running { deadline, .. } if *deadline > now => TakeVerdict::Later(*deadline),
            State::Running { .. } | State::Waiting { .. } if record.input.is_none() => {
                TakeVerdict::Later(Timestamp::FOREVER)
            }
            State::Waiting { due } if *due > now => TakeVerdict::Later(*due),
            State::Running { .. } | State::Waiting { .. } if before > 0 => {
                TakeVerdict::Later(now.after(if before == 1 {
                    Self::TURN_PAUSE
                } else {
                    Self::LINE_PAUSE
                }))
            }
            State::Waiting { .. } => record.start(take, name, fence, now),
            State::Running { starter, .. } => record.after_crash(*starter, name).start(take, name, fence, now),
            State::Unknown { .. } if name.resolves => {
                let mut asked = record.clone();
                asked.wake_at = Some(now.after(name.resolve_pause(now.since(record.since))));
                TakeVerdict::Resolve(Box::new(asked))
            }
            State::Unknown { .. } if matches!(self.state, State::Running { .. }) => {
                let mut lapsed = record.clone();
                lapsed.wake_at = Some(Timestamp::FOREVER);
                TakeVerdict::Becomes(Box::new(lapsed))
            }
            State::Unknown { .. } | State::Done(_) | State::Dead { .. } => TakeVerdict::Later(Timestamp::FOREVER),
        }
    }

    /// The record with the crash of its last run taken into account. A crash takes bystanders with it, so that the
    /// first one gives the start back; where the process that crashes is not the one at fault, each one does.
    fn after_crash(&self, starter: Starter, name: &TakeName) -> Self {
        let mut record = self.clone();
        let first = record.crashes == 0;
        if name.crashes_count && (first || starter == Starter::Alone) {
            record.crashes += 1;
        }
        if starter != Starter::Caller && (first || !name.crashes_count) {
            record.tries = record.tries.saturating_sub(1);
        }
        record
    }

    fn start(&self, take: &Take, name: &TakeName, fence: Fence, now: Timestamp) -> TakeVerdict {
        let dead = if self.crashes >= Self::POISON {
            Some(DeadReason::Poison)
        } else if self.tries >= name.tries {
            Some(DeadReason::Exhausted)
        } else {
            None
        };
        if let Some(reason) = dead {
            let state = State::Dead { reason, answer: None };
            return TakeVerdict::Becomes(Box::new(self.becoming(state, now, self.last_error.clone())));
        }
        let claim = Claim {
            operation: self.operation.clone(),
            fingerprint: self.fingerprint,
            attempt: take.attempt,
            starter: if take.alone { Starter::Alone } else { Starter::System },
            lease: name.lease,
            max_run: name.max_run,
            after_failure: name.after_failure,
            attended: true,
            retention: self.retention,
            input: None,
            group: None,
        };
        let (record, lease) = Self::started(Some(self), &claim, fence, now);
        TakeVerdict::Run(Box::new(record), lease)
    }

    /// Whether a repeated [`Take`] of the same attempt had taken this record to run it: its lease.
    #[must_use]
    pub fn taken_by(&self, take: &Take, now: Timestamp) -> Option<Lease> {
        match self.state {
            State::Running {
                deadline, run_until, ..
            } if self.attempt == take.attempt && deadline > now => Some(Lease {
                fence: self.fence,
                deadline,
                run_until,
                tries: self.tries,
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
