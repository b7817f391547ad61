//! Which scopes and names the database knows to have records (see the table `hapax_namespace`).

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use hapax_core::Operation;

use super::failure::Outcome;
use super::statements::Statements;

/// Rows that the table is allowed. With as many it counts as incomplete, and a bare key is looked for in all records.
pub(crate) const MAX_NAMESPACES: i64 = 100_000;

/// What the writer remembers of the table, so that a known namespace costs no statement. Digests suffice: should two
/// collide, a listing by a bare key may leave one out.
#[derive(Default)]
pub(super) struct Namespaces {
    known: HashSet<u64>,
    hasher: RandomState,
    rows: Option<i64>,
}

impl Namespaces {
    /// Adds the namespace of a new record, unless it is known or the table is full.
    pub(super) fn add(&mut self, operation: &Operation, sql: &mut Statements<'_>) -> Outcome<()> {
        let digest = self.hasher.hash_one((operation.scope(), operation.name()));
        if self.known.contains(&digest) {
            return Ok(());
        }
        // Other processes add rows too: the count is at most the true one, so that whoever stops adding does so only
        // when the table is full.
        let rows = match self.rows {
            Some(rows) => rows,
            None => sql.namespace_count.query_row([], |row| row.get(0))?,
        };
        self.rows = Some(rows);
        if rows >= MAX_NAMESPACES {
            return Ok(());
        }
        let words = (operation.scope().as_str(), operation.name().as_str());
        self.rows = Some(rows + sql.namespace_add.execute(words)? as i64);
        self.known.insert(digest);
        Ok(())
    }

    /// Forgets what a transaction that was rolled back may have added.
    pub(super) fn reset(&mut self) {
        self.known.clear();
        self.rows = None;
    }
}
