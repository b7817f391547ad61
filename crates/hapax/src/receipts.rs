//! Receipts: rows that a backend writes in its own transaction, in any language, which prove that an operation happened.
//!
//! The receipt's primary key is the operation, so that a second transaction that brings one cannot commit, whatever
//! anyone believed. Who wants to conclude "it did not happen" *seals* the operation first: from then on no attempt up to
//! that fence can commit, and only a later one may replace the seal. [`find`](Receipts::find) and
//! [`seal`](Receipts::seal) are what turns an unknown outcome into a known one.
//!
//! This module speaks to the user's database: [`install`] puts the table and the function `hapax_receipt` there,
//! [`connect`] opens it. What it does not do: decide what becomes of a record.
//!
//! ```no_run
//! # async fn example(operation: hapax::core::OperationId, fence: hapax::core::Fence) -> Result<(), hapax::core::StoreError> {
//! use hapax::receipts::{self, Sealing};
//!
//! receipts::install("postgres://shop@127.0.0.1/shop").await?;
//! let receipts = receipts::connect("postgres://shop@127.0.0.1/shop").await?;
//! match receipts.seal(operation, fence).await? {
//!     Sealing::Sealed => println!("it did not happen, and this attempt never will"),
//!     Sealing::Committed(receipt) => println!("it happened, by fence {}", receipt.fence),
//!     Sealing::Later(fence) => println!("it did not happen, and no attempt up to {fence} will"),
//! }
//! # Ok(())
//! # }
//! ```

mod keeper;
#[cfg(feature = "mysql")]
pub(crate) mod mysql;
mod postgres;
mod resolver;
mod sql;
pub(crate) mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hapax_core::{BoxFuture, Fence, OperationId, StoreError, StoreErrorKind, Timestamp};

pub use keeper::ReceiptKeeper;
#[cfg(feature = "mysql")]
pub use mysql::connect_mysql_plainly;
pub use resolver::{ReceiptResolver, Written};
pub use sql::Dialect;

/// The version of the table and the function that this program installs and expects.
pub const VERSION: u32 = 1;

/// The longest body that is read back, in bytes: a record keeps none that is longer.
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// How long a statement waits for another transaction's lock: a seal waits for the receipt of a transaction that is
/// about to commit.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the database may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same for what reads the whole table.
const LONG_PATIENCE: Duration = Duration::from_secs(600);
/// Limits to the length of bodies that are read: none, or the usual.
const NO_BODY: i64 = -1;
const BODIES: i64 = MAX_BODY_BYTES as i64;
/// Connections at once.
const CONNECTIONS: usize = 4;

/// The receipts of one database of the user's.
///
/// An implementation MUST make each method one transaction, committed before it answers. A method that fails MAY have
/// been carried out; repeating it is always safe.
pub trait Receipts: Send + Sync + 'static {
    /// Which database, for messages: without the password.
    fn label(&self) -> &str;

    /// The rows of these operations, receipts and seals, in no order.
    fn find<'a>(&'a self, operations: &'a [OperationId]) -> BoxFuture<'a, Result<Vec<Receipt>, StoreError>>;

    /// The same without bodies.
    fn heads<'a>(&'a self, operations: &'a [OperationId]) -> BoxFuture<'a, Result<Vec<Receipt>, StoreError>>;

    /// Makes sure that no attempt up to `fence` can commit any more, unless one has. Waits a little for a transaction
    /// that is about to, and fails with [`Unavailable`](StoreErrorKind::Unavailable) if that takes longer.
    fn seal(&self, operation: OperationId, fence: Fence) -> BoxFuture<'_, Result<Sealing, StoreError>>;

    /// A page of rows in the order of their operations, without bodies. At most `limit`.
    fn list(&self, after: Option<OperationId>, limit: u32) -> BoxFuture<'_, Result<Vec<Receipt>, StoreError>>;

    /// Removes rows, as long as they still have these fences. Says how many.
    fn purge<'a>(&'a self, rows: &'a [(OperationId, Fence)]) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// The one number that a query of the user's gives, such as `SELECT count(*) FROM orders`.
    fn number<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<i64, StoreError>>;

    /// The highest fence of any row; `None` if there is no row. Reads the whole table.
    fn highest_fence(&self) -> BoxFuture<'_, Result<Option<Fence>, StoreError>>;
}

/// A row: a receipt, or the seal in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Of which operation.
    pub operation: OperationId,
    /// The attempt that committed it; of a seal, the last one that is shut out.
    pub fence: Fence,
    /// Whether it is a seal: nothing happened, up to this fence.
    pub sealed: bool,
    /// The status that the backend answered, 200 to 599, if it said so.
    pub status: Option<u16>,
    /// The content type that goes with it; `application/json` unless the backend said otherwise.
    pub content_type: Option<String>,
    /// The body, if one is there and was asked for.
    pub body: Body,
    /// When it was written, by the clock of its database.
    pub at: Timestamp,
    /// How long ago that was, by the same clock.
    pub age: Duration,
}

/// The body of a receipt.
#[derive(Clone, PartialEq, Eq)]
pub enum Body {
    /// The backend gave none.
    None,
    /// The bytes.
    Bytes(Bytes),
    /// It is there, with so many bytes, but was not read: only [`find`](Receipts::find) reads any, and none that is
    /// longer than [`MAX_BODY_BYTES`].
    NotRead(u64),
}

/// Not the bytes: they are the user's.
impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::NotRead(length) => write!(f, "NotRead({length})"),
        }
    }
}

/// What sealing came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sealing {
    /// No attempt up to the fence has committed, and none can.
    Sealed,
    /// One has: this is its receipt.
    Committed(Receipt),
    /// It was sealed already, even up to this later fence: who asks looks at an old record.
    Later(Fence),
}

/// What [`install`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installed {
    /// Nothing was there: the table and the function were made.
    Fresh,
    /// The table was there; the function was written again.
    Again,
}

/// Opens the receipts of a database: `postgres://USER@HOST/DATABASE`, `mysql://USER@HOST/DATABASE` (feature `mysql`;
/// MariaDB too) or `sqlite:FILE`. Must be called in a Tokio runtime.
///
/// # Errors
/// Says which database, why and what to do: cannot be reached, read-only, not installed, an older or newer version, or
/// more than one `hapax_receipt` that could be meant.
pub async fn connect(url: &str) -> Result<Arc<dyn Receipts>, StoreError> {
    Ok(match Dialect::of(url)? {
        Dialect::Postgres => Arc::new(postgres::PostgresReceipts::connect(url).await?),
        #[cfg(feature = "mysql")]
        Dialect::Mysql => Arc::new(mysql::MysqlReceipts::connect(url).await?),
        #[cfg(not(feature = "mysql"))]
        Dialect::Mysql => return Err(without_mysql()),
        Dialect::Sqlite => Arc::new(sqlite::SqliteReceipts::connect(url).await?),
    })
}

/// Puts the table and the function `hapax_receipt` into a database, in the schema that its URL leads to. Can be repeated.
///
/// # Errors
/// Says which database, why and what to do: cannot be reached, read-only, rights that are missing, a newer version.
/// Then nothing was changed (on MySQL, whose tables know no transaction: nothing that a repetition does not mend).
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

#[cfg(not(feature = "mysql"))]
fn without_mysql() -> StoreError {
    invalid("this program was built without the feature `mysql`")
}

fn invalid(message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Invalid, message)
}

fn corrupt(what: &str, label: &str) -> StoreError {
    let message = format!("a row of hapax_receipt in {label} does not make sense ({what}): only hapax writes there");
    StoreError::new(StoreErrorKind::Corrupt, message)
}

fn read_only(label: &str) -> StoreError {
    let message = format!("{label} is a replica or read-only: receipts are written and sealed on the primary: name it");
    StoreError::new(StoreErrorKind::Full, message)
}

fn not_installed(label: &str) -> StoreError {
    let message = format!("{label} has no receipts yet: run `hapax receipts install`");
    StoreError::new(StoreErrorKind::Schema, message)
}

fn no_function(what: &str, label: &str) -> StoreError {
    let message =
        format!("{what} is missing in {label}, so that no receipt is checked: run `hapax receipts install` again");
    StoreError::new(StoreErrorKind::Schema, message)
}

fn no_number(label: &str) -> StoreError {
    invalid(format!(
        "the query does not give one whole number in {label}: write SELECT count(*) FROM …"
    ))
}

/// Refuses a version that is not ours; `may_be_old` if it is about to be replaced.
fn check_version(version: Option<i64>, label: &str, may_be_old: bool) -> Result<(), StoreError> {
    match version {
        Some(version) if version == i64::from(VERSION) => Ok(()),
        Some(version) if version > i64::from(VERSION) => {
            let message = format!(
                "the receipts in {label} are of version {version}, this program's of version {VERSION}: use the newer \
                 hapax that installed them"
            );
            Err(StoreError::new(StoreErrorKind::Schema, message))
        }
        _ if may_be_old => Ok(()),
        Some(version) => {
            let message = format!(
                "the receipts in {label} are of version {version}, this program needs version {VERSION}: run `hapax \
                 receipts install` again, which keeps every receipt"
            );
            Err(StoreError::new(StoreErrorKind::Schema, message))
        }
        None => Err(not_installed(label)),
    }
}

/// What a database gives of a row, before it is believed.
struct Raw {
    operation: String,
    fence: i64,
    sealed: bool,
    status: Option<i64>,
    content_type: Option<String>,
    body: Option<Vec<u8>>,
    bytes: Option<i64>,
    at_ms: i64,
    now_ms: i64,
}

impl Raw {
    fn receipt(self, label: &str) -> Result<Receipt, StoreError> {
        let operation = sql::parse_operation(&self.operation).ok_or_else(|| corrupt("its operation", label))?;
        let fence = u64::try_from(self.fence).map_err(|_| corrupt("its fence", label))?;
        let status = self.status.map(|status| match u16::try_from(status) {
            Ok(status @ 200..=599) => Ok(status),
            _ => Err(corrupt("its status", label)),
        });
        let body = match (self.body, self.bytes) {
            (Some(bytes), _) => Body::Bytes(bytes.into()),
            (None, None) => Body::None,
            (None, Some(length)) => Body::NotRead(length.unsigned_abs()),
        };
        let age = u64::try_from(self.now_ms.saturating_sub(self.at_ms)).unwrap_or(0);
        Ok(Receipt {
            operation,
            fence: Fence::new(fence),
            sealed: self.sealed,
            status: status.transpose()?,
            content_type: self.content_type,
            body,
            at: Timestamp::from_millis(self.at_ms),
            age: Duration::from_millis(age),
        })
    }
}

/// What a row says to who tried to seal its operation at `fence`.
fn sealing(row: Option<Receipt>, fence: Fence, label: &str) -> Result<Sealing, StoreError> {
    match row {
        Some(row) if !row.sealed => Ok(Sealing::Committed(row)),
        Some(row) if row.fence == fence => Ok(Sealing::Sealed),
        Some(row) if row.fence > fence => Ok(Sealing::Later(row.fence)),
        // Somebody removed it at once, or writes around us.
        Some(_) | None => Err(corrupt("a seal that did not hold", label)),
    }
}

/// A fence as databases keep it.
fn stored(fence: Fence) -> Result<i64, StoreError> {
    match i64::try_from(fence.get()) {
        Ok(fence @ 1..) => Ok(fence),
        _ => Err(invalid(format!("{fence} is no fence of a claim"))),
    }
}
