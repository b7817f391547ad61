//! What can go wrong between this process and the database, and what to tell whom.

use std::time::Duration;

use hapax_core::{StoreError, StoreErrorKind};
use tokio_postgres::error::{DbError, SqlState};

/// A failure that every operation of a batch can be told of.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) kind: StoreErrorKind,
    pub(super) message: String,
    /// The database answered, and can be asked again on the same connection.
    pub(super) answered: bool,
    /// One operation of the batch may be the reason: each is worth another try alone.
    pub(super) of_one: bool,
}

impl Failure {
    pub(super) fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            answered: false,
            of_one: false,
        }
    }

    /// `doing` says what was tried, `target` where.
    pub(super) fn of(error: &tokio_postgres::Error, doing: &str, target: &str) -> Self {
        match error.as_db_error() {
            Some(db) => Self {
                kind: kind(db.code()),
                message: describe(db, doing, target),
                answered: stays_usable(db.code()),
                of_one: may_be_of_one(db.code()),
            },
            None => Self::new(
                StoreErrorKind::Unavailable,
                format!("{doing}: the connection to {target} failed: {}", chain(error)),
            ),
        }
    }

    pub(super) fn timed_out(doing: &str, target: &str, after: Duration) -> Self {
        let message = format!("{doing}: {target} did not answer within {} ms", after.as_millis());
        Self::new(StoreErrorKind::Unavailable, message)
    }

    pub(super) fn raced(doing: &str, target: &str) -> Self {
        let message = format!("{doing}: lost every race for the record in {target}: try again");
        Self::new(StoreErrorKind::Unavailable, message)
    }

    pub(super) fn corrupt(what: &str, target: &str) -> Self {
        let message =
            format!("a record in {target} does not make sense ({what}): compare the schema with `hapax migrate`'s");
        Self::new(StoreErrorKind::Corrupt, message)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        Self::new(failure.kind, failure.message)
    }
}

fn kind(code: &SqlState) -> StoreErrorKind {
    if *code == SqlState::DISK_FULL || *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        return StoreErrorKind::Full;
    }
    if [
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_COLUMN,
        SqlState::UNDEFINED_FUNCTION,
    ]
    .contains(code)
    {
        return StoreErrorKind::Schema;
    }
    if *code == SqlState::CHECK_VIOLATION || code.code().starts_with("XX") {
        return StoreErrorKind::Corrupt;
    }
    match &code.code()[..2] {
        // Connection, feature (a cached plan that no longer fits), cursor and prepared statement, transaction,
        // resources, object state, operator, system.
        "08" | "0A" | "26" | "25" | "40" | "53" | "55" | "57" | "58" => StoreErrorKind::Unavailable,
        _ => StoreErrorKind::Invalid,
    }
}

/// Whether the connection is worth keeping: not if the server goes away, became a replica, or lost our statements.
fn stays_usable(code: &SqlState) -> bool {
    *code == SqlState::QUERY_CANCELED || !matches!(&code.code()[..2], "08" | "0A" | "25" | "26" | "57")
}

/// Locks, constraints and data are about single rows; a full disk or a slow server is not.
fn may_be_of_one(code: &SqlState) -> bool {
    matches!(&code.code()[..2], "22" | "23" | "40" | "55" | "XX")
}

fn describe(db: &DbError, doing: &str, target: &str) -> String {
    let code = db.code();
    let next = match code.code() {
        "53100" => "make room on the database's disk",
        "25006" => "the server is a replica or read-only: connect to the primary",
        "28P01" | "28000" => "check the user and password in the URL, and pg_hba.conf",
        "3D000" => "create the database, or correct its name in the URL",
        "42501" => "grant the user the rights on the tables and the sequence whose names begin with hapax_",
        "42P01" | "42703" | "42883" => "run `hapax migrate`",
        "08P01" | "26000" | "42P05" => "behind a pooler in transaction mode write prepare=false in the URL",
        "53300" => "raise max_connections, or give hapax fewer connections",
        "55P03" => "another transaction holds the record",
        _ => "",
    };
    let mut message = format!("{doing}: {target} says: {} (SQLSTATE {})", db.message(), code.code());
    if !next.is_empty() {
        message.push_str(": ");
        message.push_str(next);
    }
    message
}

/// An error with the errors underneath.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_their_kinds() {
        use StoreErrorKind::*;
        for (code, kind_of, usable) in [
            ("53100", Full, true),
            ("25006", Full, false),
            ("42P01", Schema, true),
            ("23514", Corrupt, true),
            ("XX001", Corrupt, true),
            ("08006", Unavailable, false),
            ("57P01", Unavailable, false),
            ("57014", Unavailable, true),
            ("55P03", Unavailable, true),
            ("40001", Unavailable, true),
            ("53300", Unavailable, true),
            ("26000", Unavailable, false),
            ("0A000", Unavailable, false),
            ("28P01", Invalid, true),
            ("3D000", Invalid, true),
            ("42501", Invalid, true),
        ] {
            let state = SqlState::from_code(code);
            assert_eq!((kind(&state), stays_usable(&state)), (kind_of, usable), "{code}");
        }
    }
}
