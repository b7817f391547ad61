//! What people and resolvers ask of a store.

use std::time::Duration;

use super::Cursor;
use crate::answer::Outcome;
use crate::record::{Record, StateName};
use crate::time::Timestamp;
use crate::words::{Fence, Operation};

/// A change to a record that is no run of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amendment {
    /// What to do.
    pub amend: Amend,
    /// The fence of the record that it was decided on; `None` if any will do.
    pub fence: Option<Fence>,
    /// For the record of who did it.
    pub audit: Audit,
}

/// What an amendment does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Amend {
    /// Forget the record: its key may run again. Refused while it runs, and for an unknown outcome unless
    /// `even_unknown`.
    Forget {
        /// Accept that an operation that may have happened may happen again.
        even_unknown: bool,
    },
    /// Settle an unknown outcome; or say that a dead letter is done after all.
    Resolve {
        /// What became of it.
        resolution: Resolution,
        /// How long after the attempt was cut off "it did not happen" counts.
        settle: Duration,
    },
    /// Send a dead letter back: to the runner, or, where no input is stored, to its next arrival. Refused once its
    /// compensation has begun.
    Redrive,
    /// Close a dead letter: done, without an answer.
    Discard,
    /// Say that the compensation of a dead letter has begun: it stays dead, for that reason, and cannot be redriven.
    Undo,
}

impl Amend {
    /// Whether it claims that an operation did not happen.
    #[must_use]
    pub fn is_not_done(&self) -> bool {
        matches!(
            self,
            Self::Resolve {
                resolution: Resolution::NotDone,
                ..
            }
        )
    }

    /// The word for it in the audit, in SQL and in the CLI.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Forget { .. } => "forget",
            Self::Resolve { resolution, .. } => match resolution {
                Resolution::Done(_) => "resolve-done",
                Resolution::NotDone => "resolve-not-done",
                Resolution::Dead => "resolve-dead",
            },
            Self::Redrive => "redrive",
            Self::Discard => "discard",
            Self::Undo => "undo",
        }
    }
}

/// What became of an operation whose outcome was unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// It happened.
    Done(Outcome),
    /// It did not happen: it waits, due at once.
    NotDone,
    /// It is not to be tried again.
    Dead,
}

/// Who changes a record, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// A person, or the resolver that found out: `probe`.
    pub actor: String,
    /// Why.
    pub reason: String,
}

/// What became of an amendment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Amended {
    /// The record is gone.
    Forgotten,
    /// The record is now this.
    Became(Box<Record>),
    /// There is no such record.
    Absent,
    /// The record's state forbids it.
    Refused(StateName),
    /// It is no longer the record that the amendment was decided on.
    Changed(StateName),
    /// "It did not happen" counts only from then on.
    Unsettled(Timestamp),
}

/// One line of the audit: an amendment that was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// When, by the store's time.
    pub at: Timestamp,
    /// Of which operation.
    pub operation: Operation,
    /// What was done: [`Amend::as_str`].
    pub action: String,
    /// Who and why.
    pub audit: Audit,
    /// The record's state before.
    pub before: StateName,
    /// The record's state after; `None` if it was forgotten.
    pub after: Option<StateName>,
}

/// A page of the audit, oldest first, and where to go on; `None` at the end.
pub type AuditPage = (Vec<AuditEntry>, Option<Cursor>);
