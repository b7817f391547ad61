//! sqlx: a connection in a transaction, or `&mut *transaction`.

use hapax_store::joined::Fault;
use sqlx::{AssertSqlSafe, Error, Row};

use crate::guard::verdict::ROUNDS;
use crate::guard::{Guard, GuardError, Told};

impl Guard<'_> {
    /// Asks the guard in a transaction of sqlx. Nothing stays prepared, so that it goes through a pooler in transaction
    /// mode.
    ///
    /// # Errors
    /// [`GuardError`] says what it means for the transaction.
    #[cfg(feature = "sqlx-postgres")]
    pub async fn sqlx_postgres(
        &self,
        connection: &mut sqlx::PgConnection,
        values: sqlx::postgres::PgArguments,
    ) -> Result<Told<sqlx::postgres::PgRow>, GuardError> {
        use sqlx::Arguments;
        self.check(values.len())?;
        let text = self.postgres_text();
        for _ in 0..ROUNDS {
            let query = sqlx::query_with(AssertSqlSafe(text.clone()), values.clone()).persistent(false);
            let rows = query.fetch_all(&mut *connection).await;
            let rows = rows.map_err(|error| self.explained_sqlx(error))?;
            if let Some(told) = self.verdict(rows, word)? {
                return Ok(told);
            }
        }
        Err(self.raced())
    }

    /// Asks the guard in a transaction of sqlx.
    ///
    /// # Errors
    /// [`GuardError`] says what it means for the transaction.
    #[cfg(feature = "sqlx-sqlite")]
    pub async fn sqlx_sqlite(
        &self,
        connection: &mut sqlx::SqliteConnection,
        values: sqlx::sqlite::SqliteArguments,
    ) -> Result<Told<sqlx::sqlite::SqliteRow>, GuardError> {
        use sqlx::Arguments;
        self.check(values.len())?;
        let [write, look] = self.sqlite_texts();
        for _ in 0..ROUNDS {
            let mut rows = Vec::new();
            for text in [&write, &look] {
                let query = sqlx::query_with(AssertSqlSafe(text.clone()), values.clone());
                rows = query
                    .fetch_all(&mut *connection)
                    .await
                    .map_err(|error| self.explained_sqlx(error))?;
                if !rows.is_empty() {
                    break;
                }
            }
            if let Some(told) = self.verdict(rows, word)? {
                return Ok(told);
            }
        }
        Err(self.raced())
    }

    fn explained_sqlx(&self, error: Error) -> GuardError {
        let fault = Fault::of(&error);
        let (said, next) = match &error {
            Error::Database(database) => {
                let code = database.code().unwrap_or_default();
                told(&code, database.message(), fault)
            }
            _ => (format!("sqlx says: {error}"), ""),
        };
        self.failed(fault, &said, next, error)
    }
}

/// A SQLSTATE has five characters, an extended result code of SQLite at most four digits.
fn told(code: &str, message: &str, fault: Fault) -> (String, &'static str) {
    let _ = fault;
    #[cfg(feature = "sqlx-sqlite")]
    if let Some(number) = (code.len() < 5).then(|| code.parse().ok()).flatten() {
        let next = crate::guard::error::after_sqlite(number, message, fault);
        return (format!("SQLite says: {message}"), next);
    }
    #[cfg(feature = "sqlx-postgres")]
    let next = crate::guard::error::after_sqlstate(code);
    #[cfg(not(feature = "sqlx-postgres"))]
    let next = "";
    (format!("the database says: {message} (SQLSTATE {code})"), next)
}

fn word<R: Row>(row: &R) -> Option<String>
where
    usize: sqlx::ColumnIndex<R>,
    for<'r> String: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
{
    row.try_get(row.len() - 1).ok()
}
