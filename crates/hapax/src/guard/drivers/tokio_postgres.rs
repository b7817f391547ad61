//! tokio-postgres: one round trip, and no prepared statement, so that it goes through a pooler in transaction mode.

use hapax_store::joined::Fault;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, GenericClient, Row};

use crate::guard::error::after_sqlstate;
use crate::guard::verdict::ROUNDS;
use crate::guard::{Guard, GuardError, Told};

impl Guard<'_> {
    /// Asks the guard in a transaction of tokio-postgres; values come with their types, as in
    /// [`Client::query_typed`](tokio_postgres::Client::query_typed). A text with the type [`Type::UNKNOWN`] fits columns
    /// of enums, json and domains.
    ///
    /// # Errors
    /// [`GuardError`] says what it means for the transaction.
    pub async fn tokio_postgres<C: GenericClient + Sync + ?Sized>(
        &self,
        client: &C,
        values: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Told<Row>, GuardError> {
        self.check(values.len())?;
        let text = self.postgres_text();
        for _ in 0..ROUNDS {
            let rows = client.query_typed(&text, values).await;
            let rows = rows.map_err(|error| self.explained(error))?;
            let word = |row: &Row| row.try_get(row.len() - 1).ok();
            if let Some(told) = self.verdict(rows, word)? {
                return Ok(told);
            }
        }
        Err(self.raced())
    }

    fn explained(&self, error: Error) -> GuardError {
        let fault = Fault::of(&error);
        let (said, next) = match error.as_db_error() {
            Some(database) => {
                let code = database.code().code();
                let said = format!("the database says: {} (SQLSTATE {code})", database.message());
                (said, after_sqlstate(code))
            }
            None => (format!("the driver says: {}", causes(&error)), ""),
        };
        self.failed(fault, &said, next, error)
    }
}

/// The driver keeps what is wrong with a value one level down.
fn causes(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
