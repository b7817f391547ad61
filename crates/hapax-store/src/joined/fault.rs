//! What can go wrong in the caller's transaction, and what to do about it.

use std::error::Error;
use std::fmt;

use hapax_core::{StoreError, StoreErrorKind};

/// What a failure inside a transaction means for whoever began it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Another transaction holds the record, or the database's write lock, and the time-out for waiting was over. Roll
    /// back; try again later.
    Busy,
    /// The database chose this transaction to give way (a serialization failure, a deadlock, a snapshot that is out
    /// of date). Roll back; run it again from the top.
    Conflict,
    /// The connection is gone. Before the commit, so is the transaction; a commit whose answer was lost may have
    /// happened: claim again with the same attempt on another connection to learn it.
    Lost,
    /// Anything else: trying again does not help by itself.
    Other,
}

impl Fault {
    /// What an error of one of the drivers means, or an error with one of them underneath: for what the caller's own
    /// statements and its commit answered.
    #[must_use]
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(known) = known(error) {
                return known;
            }
            next = error.source();
        }
        Self::Other
    }

    /// What a PostgreSQL error code means.
    #[must_use]
    pub fn of_sqlstate(code: &str) -> Self {
        match code {
            // A lock that was not to be had in time; a statement that was cancelled for it.
            "55P03" | "57014" => Self::Busy,
            "40001" | "40P01" => Self::Conflict,
            // Ended by a time-out of the session, an administrator, a crash or a shutdown.
            "25P03" | "57P01" | "57P02" | "57P03" | "57P05" => Self::Lost,
            _ if code.starts_with("08") => Self::Lost,
            _ => Self::Other,
        }
    }

    /// What an extended result code of SQLite means.
    #[must_use]
    pub fn of_sqlite(code: i32) -> Self {
        const BUSY: i32 = 5;
        const LOCKED: i32 = 6;
        const BUSY_SNAPSHOT: i32 = 517;
        match code {
            BUSY_SNAPSHOT => Self::Conflict,
            _ if code & 0xff == BUSY || code & 0xff == LOCKED => Self::Busy,
            _ => Self::Other,
        }
    }
}

fn known(error: &(dyn Error + 'static)) -> Option<Fault> {
    if let Some(error) = error.downcast_ref::<JointError>() {
        return Some(error.fault());
    }
    #[cfg(feature = "postgres")]
    if let Some(error) = error.downcast_ref::<tokio_postgres::Error>() {
        return Some(super::tokio_postgres::fault(error));
    }
    #[cfg(feature = "sqlite")]
    if let Some(error) = error.downcast_ref::<rusqlite::Error>() {
        return Some(super::rusqlite::fault(error));
    }
    #[cfg(feature = "sqlx")]
    if let Some(error) = error.downcast_ref::<sqlx::Error>() {
        return Some(super::sqlx::fault(error));
    }
    None
}

/// A step in the caller's transaction that failed. On PostgreSQL the transaction is thereby aborted: roll it back, to
/// a savepoint at least.
#[derive(Debug)]
pub struct JointError {
    fault: Fault,
    kind: StoreErrorKind,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl JointError {
    /// A failure; `message` says what failed, why, and what to do next.
    pub fn new(fault: Fault, kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self {
            fault,
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// With the driver's error underneath. The message tells it already.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Of an error that PostgreSQL answered with.
    #[must_use]
    pub fn of_sqlstate(code: &str, said: &str) -> Self {
        let (kind, next) = explain_sqlstate(code);
        let next = if next.is_empty() {
            String::new()
        } else {
            format!(": {next}")
        };
        let message = format!("the database says: {said} (SQLSTATE {code}){next}");
        Self::new(Fault::of_sqlstate(code), kind, message)
    }

    /// Of an error that SQLite answered with, by its extended result code.
    #[must_use]
    pub fn of_sqlite(code: i32, said: &str) -> Self {
        let fault = Fault::of_sqlite(code);
        let (kind, next) = explain_sqlite(code, fault);
        Self::new(fault, kind, format!("SQLite says: {said}: {next}"))
    }

    /// Of a connection that failed without an answer.
    #[must_use]
    pub fn lost(said: &str) -> Self {
        let message = format!("the connection failed: {said}: begin again on another one");
        Self::new(Fault::Lost, StoreErrorKind::Unavailable, message)
    }

    pub(super) fn corrupt(what: &str) -> Self {
        let message =
            format!("a record does not make sense ({what}): compare the schema with the one `hapax migrate` makes");
        Self::new(Fault::Other, StoreErrorKind::Corrupt, message)
    }

    pub(super) fn raced() -> Self {
        let message = "the record changed each time it was looked at: roll back and try again";
        Self::new(Fault::Conflict, StoreErrorKind::Unavailable, message)
    }

    pub(super) fn during(mut self, doing: &str, label: &str) -> Self {
        self.message = format!("cannot {doing} in the transaction on {label}: {}", self.message);
        self
    }

    /// What it means for the transaction.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Display for JointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for JointError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

impl From<JointError> for StoreError {
    fn from(error: JointError) -> Self {
        Self::new(error.kind, error.message)
    }
}

fn explain_sqlstate(code: &str) -> (StoreErrorKind, &'static str) {
    use StoreErrorKind::{Corrupt, Full, Invalid, Schema, Unavailable};
    match code {
        "42P01" | "42703" | "42883" => (
            Schema,
            "hapax's tables are not there, or of another version: run `hapax migrate` on the database of this \
             connection, and see that its search_path finds them",
        ),
        "25P02" => (
            Invalid,
            "an earlier statement failed and the transaction is aborted: roll back, or set a savepoint before what may fail",
        ),
        "25006" => (
            Full,
            "the transaction or the server is read-only: begin READ WRITE on the primary",
        ),
        "42501" => (
            Invalid,
            "grant this connection's user the rights on the tables and the sequence whose names begin with hapax_",
        ),
        "55P03" | "57014" => (
            Unavailable,
            "another transaction has the operation: roll back and try again later",
        ),
        "40001" | "40P01" => (Unavailable, "roll back and run the transaction again from the top"),
        "26000" | "42P05" | "08P01" => (
            Invalid,
            "prepared statements do not go through a pooler in transaction mode: leave them off",
        ),
        "53100" => (Full, "make room on the database's disk"),
        "23514" => (
            Corrupt,
            "a rule of the schema was broken: compare it with the one `hapax migrate` makes",
        ),
        _ if code.starts_with("08") || code.starts_with("57") || code.starts_with("53") => (Unavailable, ""),
        _ if code.starts_with("XX") => (Corrupt, ""),
        _ => (Invalid, ""),
    }
}

fn explain_sqlite(code: i32, fault: Fault) -> (StoreErrorKind, &'static str) {
    use StoreErrorKind::{Corrupt, Full, Invalid, Schema, Unavailable};
    match (fault, code & 0xff) {
        (Fault::Conflict, _) => (
            Unavailable,
            "the transaction began by reading and somebody wrote since: roll back and begin it with BEGIN IMMEDIATE",
        ),
        (Fault::Busy, _) => (
            Unavailable,
            "another connection is writing: roll back and try again; set a busy time-out and begin with BEGIN IMMEDIATE",
        ),
        // An error in a statement of ours: its tables are not as it knows them.
        (_, 1 | 17) => (
            Schema,
            "hapax's tables are not in this file, or of another version: run `hapax migrate` on it",
        ),
        (_, 8) => (Full, "the connection or the file is read-only: open it for writing"),
        (_, 13) => (Full, "make room on its disk"),
        (_, 10) => (Unavailable, "the disk failed: close this connection and open another"),
        (_, 11 | 26) => (
            Corrupt,
            "check the file with `PRAGMA integrity_check`, or restore a backup",
        ),
        _ => (Invalid, "the step breaks a rule of the schema"),
    }
}
