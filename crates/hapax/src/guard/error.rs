//! What can go wrong with a guard, and what to do about it.

use std::error::Error;
use std::fmt;

use hapax_store::joined::Fault;

use super::Guard;

/// A guard that could not be asked. Nothing was written by it; on PostgreSQL the transaction is aborted, if the database
/// failed the statement.
#[derive(Debug)]
pub struct GuardError {
    fault: Fault,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl GuardError {
    /// What it means for the transaction.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.fault
    }
}

impl fmt::Display for GuardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for GuardError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

impl Guard<'_> {
    fn error(&self, fault: Fault, message: &str) -> GuardError {
        let schema = self.schema.map(|schema| format!("{schema}.")).unwrap_or_default();
        let key = self.key.join(", ");
        GuardError {
            fault,
            message: format!("the guard of {schema}{} ({key}) was not asked: {message}", self.table),
            source: None,
        }
    }

    /// Whether it can be asked with so many values.
    pub(super) fn check(&self, values: usize) -> Result<(), GuardError> {
        if self.key.is_empty() {
            return Err(self.error(
                Fault::Other,
                "its key has no columns: name those that make a row unique",
            ));
        }
        if let Some(name) = self.same.iter().find(|name| !self.set.contains(name)) {
            let message = format!("`same` names {name}, which `set` does not: only what is written can be compared");
            return Err(self.error(Fault::Other, &message));
        }
        let parameters = self.parameters();
        if parameters.len() != values {
            let message = format!(
                "it takes {} values ({}), and {values} were given",
                parameters.len(),
                parameters.join(", ")
            );
            return Err(self.error(Fault::Other, &message));
        }
        Ok(())
    }

    pub(super) fn several_rows(&self) -> GuardError {
        let message = "several rows have this key, and none was written: a guard's key must name one row; `hapax doctor` \
                       tells which index is missing";
        self.error(Fault::Other, message)
    }

    pub(super) fn null_in_key(&self) -> GuardError {
        let message = "a value of its key is null, and nulls are never the same: such a row could be inserted any number \
                       of times";
        self.error(Fault::Other, message)
    }

    pub(super) fn raced(&self) -> GuardError {
        let message = "others changed the row each time it was looked at: roll back and run the transaction again";
        self.error(Fault::Conflict, message)
    }

    /// Of a driver's error, which says this.
    pub(super) fn failed(
        &self,
        fault: Fault,
        said: &str,
        next: &str,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> GuardError {
        let next = match (next, fault) {
            ("", Fault::Busy) => "another transaction holds the row: roll back and try again later",
            ("", Fault::Conflict) => "roll back and run the transaction again from the top",
            ("", Fault::Lost) => "begin again on another connection",
            _ => next,
        };
        let next = if next.is_empty() {
            String::new()
        } else {
            format!(": {next}")
        };
        GuardError {
            source: Some(source.into()),
            ..self.error(fault, &format!("{said}{next}"))
        }
    }
}

const NO_TABLE: &str = "make the table, or name its schema";
const NO_COLUMN: &str = "compare the guard's names with the table's columns, capitals too";
const NO_INDEX: &str = "it takes a unique index on exactly the key's columns, without WHERE and not deferrable; `hapax \
                        doctor` tells what is there";

/// What to do about an error of PostgreSQL, if that is known.
#[cfg(any(feature = "tokio-postgres", feature = "sqlx-postgres"))]
pub(super) fn after_sqlstate(code: &str) -> &'static str {
    match code {
        "42P01" => NO_TABLE,
        "42703" => NO_COLUMN,
        "42P10" => NO_INDEX,
        "42804" | "42883" | "42P08" | "22P02" | "22P03" => "give each value the type of its column",
        "42501" => "grant this connection's user SELECT, INSERT and UPDATE on the table",
        "25P02" => "an earlier statement failed and the transaction is aborted: roll back",
        "25006" => "the transaction or the server is read-only: begin READ WRITE on the primary",
        _ => "",
    }
}

/// What to do about an error of SQLite, which says this, if that is known.
#[cfg(any(feature = "rusqlite", feature = "sqlx-sqlite"))]
pub(super) fn after_sqlite(code: i32, said: &str, fault: Fault) -> &'static str {
    const READONLY: i32 = 8;
    match (fault, code & 0xff) {
        (Fault::Conflict, _) => {
            "the transaction began by reading and somebody wrote since: roll back and begin it with BEGIN IMMEDIATE"
        }
        (_, READONLY) => "open the file for writing",
        // One code for all that is wrong with a statement.
        (_, 1) if said.contains("no such table") => NO_TABLE,
        (_, 1) if said.contains("no such column") || said.contains("no column named") => NO_COLUMN,
        (_, 1) if said.contains("ON CONFLICT") => NO_INDEX,
        _ => "",
    }
}
