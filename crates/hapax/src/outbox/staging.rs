//! The table `hapax_outbox`, into which programs in any language enqueue effects by SQL, in their own transactions.
//!
//! [`install`] puts the table and the function `hapax_enqueue` into a database, [`connect`] opens it for a
//! [`Mover`](super::Mover), which takes its rows over. What it does not do: deliver.

#[cfg(feature = "mysql")]
mod mysql;
mod postgres;
mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hapax_core::{BoxFuture, Name, StoreError, StoreErrorKind};

use crate::receipts::{Dialect, Installed};

/// How long the database may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The staging table of one database.
///
/// An implementation MUST make each method one transaction, committed before it answers. A method that fails MAY have
/// been carried out; repeating it is always safe.
pub trait Staging: Send + Sync + 'static {
    /// Which database, for messages: without the password.
    fn label(&self) -> &str;

    /// Rows of these effects that can be taken over, oldest first. At most `limit`.
    fn read<'a>(&'a self, effects: &'a [Name], limit: u32) -> BoxFuture<'a, Result<Vec<Staged>, StoreError>>;

    /// Removes rows that were taken over.
    fn remove<'a>(&'a self, ids: &'a [i64]) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Says why rows cannot be taken over: they are passed over from then on.
    fn refuse<'a>(&'a self, refused: &'a [(i64, String)]) -> BoxFuture<'a, Result<(), StoreError>>;

    /// What is there, effect by effect. Reads the whole table.
    fn counts(&self) -> BoxFuture<'_, Result<Vec<StagedCount>, StoreError>>;

    /// Rows that cannot be taken over, oldest first, without payloads. At most `limit`.
    fn refused(&self, limit: u32) -> BoxFuture<'_, Result<Vec<Refused>, StoreError>>;
}

/// A row, as whoever enqueued it wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Its number; later rows have higher ones.
    pub id: i64,
    /// Name of the effect.
    pub effect: Text,
    /// Its key.
    pub key: Text,
    /// What is delivered.
    pub payload: Bytes,
    /// What that is.
    pub content_type: Text,
    /// What its order belongs to.
    pub aggregate: Option<Text>,
}

/// A text of a row, which may not be one.
pub type Text = Result<String, NoText>;

/// Bytes that are no UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("it is no UTF-8")]
pub struct NoText;

/// How many rows of an effect there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedCount {
    /// Name of the effect.
    pub effect: String,
    /// Rows that wait to be taken over.
    pub waiting: u64,
    /// Rows that cannot be.
    pub refused: u64,
    /// How long the oldest has been waiting.
    pub oldest: Duration,
}

/// A row that cannot be taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its number.
    pub id: i64,
    /// Name of the effect.
    pub effect: String,
    /// Its key.
    pub key: String,
    /// Why.
    pub error: String,
}

/// Opens the staging table of a database: `postgres://USER@HOST/DATABASE`, `mysql://USER@HOST/DATABASE` (feature
/// `mysql`; MariaDB too) or `sqlite:FILE`. Must be called in a Tokio runtime.
///
/// # Errors
/// Says which database, why and what to do: cannot be reached, read-only, not installed.
pub async fn connect(url: &str) -> Result<Arc<dyn Staging>, StoreError> {
    Ok(match Dialect::of(url)? {
        Dialect::Postgres => Arc::new(postgres::PostgresStaging::connect(url).await?),
        #[cfg(feature = "mysql")]
        Dialect::Mysql => Arc::new(mysql::MysqlStaging::connect(url).await?),
        #[cfg(not(feature = "mysql"))]
        Dialect::Mysql => return Err(without_mysql()),
        Dialect::Sqlite => Arc::new(sqlite::SqliteStaging::connect(url).await?),
    })
}

/// Puts the table and the function `hapax_enqueue` into a database, in the schema that its URL leads to. Can be repeated:
/// the table stays, the function is written again.
///
/// # Errors
/// Says which database, why and what to do: cannot be reached, read-only, rights that are missing. Then nothing was
/// changed (on MySQL, whose tables know no transaction: nothing that a repetition does not mend).
pub async fn install(url: &str) -> Result<Installed, StoreError> {
    match Dialect::of(url)? {
        Dialect::Postgres => postgres::install(url).await,
        #[cfg(feature = "mysql")]
        Dialect::Mysql => mysql::install(url).await,
        #[cfg(not(feature = "mysql"))]
        Dialect::Mysql => Err(without_mysql()),
        Dialect::Sqlite => sqlite::install(url).await,
    }
}

/// What [`install`] runs, as a script for the database's own client.
#[must_use]
pub fn script(dialect: Dialect) -> String {
    let statements = statements(dialect);
    let plain = |text: &&str| format!("{};\n\n", text.trim_end());
    match dialect {
        Dialect::Postgres | Dialect::Sqlite => {
            let body: String = statements.iter().map(plain).collect();
            format!("BEGIN;\n\n{body}COMMIT;\n")
        }
        // The semicolons inside the procedure are not the client's.
        Dialect::Mysql => statements
            .iter()
            .map(|text| match text.contains("CREATE PROCEDURE") {
                true => format!("DELIMITER //\n{}//\nDELIMITER ;\n", text.trim_end()),
                false => plain(text),
            })
            .collect(),
    }
}

fn statements(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::Postgres => &[
            include_str!("postgres/table.sql"),
            include_str!("postgres/function.sql"),
            include_str!("postgres/function_text.sql"),
            include_str!("postgres/pin.sql"),
        ],
        Dialect::Mysql => &[
            // A procedure keeps the mode of the session that made it: a lenient one would bend arguments until they fit.
            "SET SESSION sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'",
            include_str!("mysql/table.sql"),
            "DROP PROCEDURE IF EXISTS hapax_enqueue",
            include_str!("mysql/procedure.sql"),
        ],
        Dialect::Sqlite => &[
            include_str!("sqlite/table.sql"),
            "DROP TRIGGER IF EXISTS hapax_outbox_guard",
            include_str!("sqlite/trigger.sql"),
        ],
    }
}

#[cfg(not(feature = "mysql"))]
fn without_mysql() -> StoreError {
    StoreError::new(
        StoreErrorKind::Invalid,
        "this program was built without the feature `mysql`",
    )
}

fn not_installed(label: &str) -> StoreError {
    let message = format!("{label} has no outbox yet: run `hapax outbox install`");
    StoreError::new(StoreErrorKind::Schema, message)
}

fn read_only(label: &str) -> StoreError {
    let message = format!("{label} is a replica or read-only: an outbox is emptied on the primary: name it");
    StoreError::new(StoreErrorKind::Full, message)
}

fn silent(doing: &str, label: &str) -> StoreError {
    let message = format!("{doing}: {label} did not answer within {} s", PATIENCE.as_secs());
    StoreError::new(StoreErrorKind::Unavailable, message)
}

fn text(bytes: Vec<u8>) -> Text {
    String::from_utf8(bytes).map_err(|_| NoText)
}

fn millis(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
