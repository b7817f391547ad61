//! What the rows of a guard's statements mean.

use super::error::GuardError;
use super::{Guard, Guarded, Kind, Told};

/// How often a guard looks again at a row that others change meanwhile.
pub(super) const ROUNDS: usize = 8;

/// The words of the statements.
pub(super) const APPLIED: &str = "applied";
pub(super) const ALREADY_APPLIED: &str = "already-applied";
pub(super) const STALE: &str = "stale";
pub(super) const REJECTED: &str = "rejected";
/// Another transaction changed the row between the statement's snapshot and its write.
pub(super) const AGAIN: &str = "again";
/// The key has a null, which no unique index compares.
pub(super) const NULL_KEY: &str = "null-key";

impl Guard<'_> {
    /// What these rows say; `None`: run it again.
    pub(super) fn verdict<R>(
        &self,
        mut rows: Vec<R>,
        word: impl Fn(&R) -> Option<String>,
    ) -> Result<Option<Told<R>>, GuardError> {
        if rows.len() > 1 {
            return Err(self.several_rows());
        }
        let Some(row) = rows.pop() else {
            // A row that is in the way of an insert and cannot be seen yet, or is gone again.
            let inserts = matches!(self.kind, Kind::UpsertIfNewer { .. } | Kind::InsertOrGet);
            let rejected = Told {
                answer: Guarded::Rejected,
                row: None,
            };
            return Ok((!inserts).then_some(rejected));
        };
        let word = word(&row);
        let answer = match word.as_deref() {
            Some(APPLIED) => Guarded::Applied,
            Some(ALREADY_APPLIED) => Guarded::AlreadyApplied,
            Some(STALE) => Guarded::Stale,
            Some(REJECTED) => Guarded::Rejected,
            Some(NULL_KEY) => return Err(self.null_in_key()),
            _ => return Ok(None),
        };
        Ok(Some(Told { answer, row: Some(row) }))
    }
}
