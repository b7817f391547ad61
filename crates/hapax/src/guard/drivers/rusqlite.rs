//! rusqlite.

use hapax_store::joined::Fault;
use rusqlite::types::Value;
use rusqlite::{Connection, Error, Row, ToSql};

use crate::guard::error::after_sqlite;
use crate::guard::verdict::ROUNDS;
use crate::guard::{Guard, GuardError, Told};

impl Guard<'_> {
    /// Asks the guard in a transaction of rusqlite. The row's values are in the order of
    /// [`returning`](Self::returning).
    ///
    /// # Errors
    /// [`GuardError`] says what it means for the transaction.
    pub fn rusqlite(&self, connection: &Connection, values: &[&dyn ToSql]) -> Result<Told<Vec<Value>>, GuardError> {
        self.check(values.len())?;
        let [write, look] = self.sqlite_texts();
        for _ in 0..ROUNDS {
            let explained = |error| self.explained_sqlite(error);
            let mut rows = rows(connection, &write, values).map_err(explained)?;
            if rows.is_empty() {
                rows = self::rows(connection, &look, values).map_err(explained)?;
            }
            let word = |row: &Vec<Value>| match row.last() {
                Some(Value::Text(word)) => Some(word.clone()),
                _ => None,
            };
            if let Some(told) = self.verdict(rows, word)? {
                return Ok(told);
            }
        }
        Err(self.raced())
    }

    fn explained_sqlite(&self, error: Error) -> GuardError {
        let fault = Fault::of(&error);
        let (code, said) = match &error {
            // Without the statement's text, which is not the caller's.
            Error::SqlInputError { error, msg, .. } => (error.extended_code, msg.clone()),
            _ => {
                let code = error.sqlite_error().map_or(0, |error| error.extended_code);
                (code, error.to_string())
            }
        };
        let next = after_sqlite(code, &said, fault);
        self.failed(fault, &format!("SQLite says: {said}"), next, error)
    }
}

fn rows(connection: &Connection, text: &str, values: &[&dyn ToSql]) -> rusqlite::Result<Vec<Vec<Value>>> {
    let mut prepared = connection.prepare_cached(text)?;
    // Not every statement takes all values.
    for (index, value) in values.iter().take(prepared.parameter_count()).enumerate() {
        prepared.raw_bind_parameter(index + 1, value)?;
    }
    let columns = prepared.column_count();
    let values = |row: &Row<'_>| (0..columns).map(|column| row.get(column)).collect();
    prepared.raw_query().mapped(values).collect()
}
