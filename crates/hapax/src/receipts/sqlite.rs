//! Receipts in a SQLite file, beside the backend's own tables.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hapax_core::{BoxFuture, Fence, OperationId, StoreError, StoreErrorKind};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, TransactionBehavior, params};

use super::{
    BODIES, Dialect, Installed, LOCK_TIMEOUT, NO_BODY, Raw, Receipt, Receipts, Sealing, check_version, corrupt,
    invalid, no_function, no_number, not_installed, read_only, sealing, stored,
};

const COLUMNS: &str = "operation, fence, sealed, status, content_type, length(CAST(body AS BLOB)) AS bytes, at AS at_ms, \
                       CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) AS now_ms";

pub(super) struct SqliteReceipts(Arc<File>);

struct File {
    label: String,
    connection: Mutex<Connection>,
}

pub(crate) fn path_of(url: &str) -> Result<PathBuf, StoreError> {
    let path = url.strip_prefix("sqlite:").unwrap_or(url);
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path.contains(":memory:") || path.contains('?') {
        return Err(invalid(format!("{url:?} names no file: write sqlite:FILE")));
    }
    Ok(PathBuf::from(path))
}

pub(crate) fn open(path: &Path, label: &str) -> Result<Connection, StoreError> {
    if !path.exists() {
        let message = format!("there is no {label}: receipts go into the backend's own database: name its file");
        return Err(invalid(message));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).and_then(|connection| {
        connection.busy_timeout(LOCK_TIMEOUT)?;
        // A seal must outlive a loss of power: what follows from it is run again.
        connection.pragma_update(None, "synchronous", "FULL")?;
        Ok(connection)
    });
    let connection = opened.map_err(|error| explain(&error, "cannot open it", label))?;
    if connection.is_readonly("main").unwrap_or(true) {
        return Err(read_only(label));
    }
    Ok(connection)
}

fn version(connection: &Connection, label: &str) -> Result<Option<i64>, StoreError> {
    let failed = |error: rusqlite::Error| explain(&error, "cannot look for receipts", label);
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'hapax_receipt_version'";
    let there = connection.query_row(sql, [], |_| Ok(())).optional().map_err(failed)?;
    if there.is_none() {
        return Ok(None);
    }
    let sql = "SELECT max(version) FROM hapax_receipt_version";
    connection.query_row(sql, [], |row| row.get(0)).map_err(failed)
}

/// Makes or rewrites everything in one transaction.
pub(super) async fn install(url: &str) -> Result<Installed, StoreError> {
    let path = path_of(url)?;
    blocking(move || {
        let label = label(&path);
        let failed = |error: rusqlite::Error| explain(&error, "cannot install receipts", &label);
        let mut connection = open(&path, &label)?;
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let version = version(&transaction, &label)?;
        check_version(version, &label, true)?;
        let fresh = version.is_none();
        let functions = || {
            Dialect::Sqlite
                .functions()
                .iter()
                .map(|&text| text.to_owned())
                .collect()
        };
        let statements: Vec<String> = if fresh {
            Dialect::Sqlite.statements()
        } else {
            functions()
        };
        for statement in statements {
            transaction.execute_batch(&statement).map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        Ok(if fresh { Installed::Fresh } else { Installed::Again })
    })
    .await
}

impl SqliteReceipts {
    pub(super) async fn connect(url: &str) -> Result<Self, StoreError> {
        let path = path_of(url)?;
        blocking(move || {
            let label = label(&path);
            let connection = open(&path, &label)?;
            check_version(version(&connection, &label)?, &label, false)?;
            let sql = "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND name = 'hapax_receipt_guard'";
            match connection.query_row(sql, [], |row| row.get(0)) {
                Ok(0) => return Err(no_function("the trigger hapax_receipt_guard", &label)),
                Ok(_) => {}
                Err(error) => return Err(explain(&error, "cannot look for receipts", &label)),
            }
            let connection = Mutex::new(connection);
            Ok(Self(Arc::new(File { label, connection })))
        })
        .await
    }

    fn find<'a>(&self, operations: &[OperationId], limit: i64) -> BoxFuture<'a, Result<Vec<Receipt>, StoreError>> {
        let ids: Vec<String> = operations.iter().map(OperationId::to_string).collect();
        self.with("cannot look for a receipt", move |connection, label| {
            let found = ids.iter().map(|id| find(connection, id, limit, label));
            found.filter_map(Result::transpose).collect()
        })
    }

    fn with<'a, T: Send + 'static>(
        &self,
        doing: &'static str,
        step: impl FnOnce(&mut Connection, &str) -> Result<T, Fault> + Send + 'static,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        let file = Arc::clone(&self.0);
        Box::pin(blocking(move || {
            let mut connection = file.connection.lock().unwrap_or_else(PoisonError::into_inner);
            step(&mut connection, &file.label).map_err(|fault| match fault {
                Fault::Sqlite(error) => explain(&error, doing, &file.label),
                Fault::Store(error) => error,
            })
        }))
    }
}

enum Fault {
    Sqlite(rusqlite::Error),
    Store(StoreError),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn find(connection: &Connection, id: &str, limit: i64, label: &str) -> Result<Option<Receipt>, Fault> {
    let sql = format!(
        "SELECT {COLUMNS}, CASE WHEN length(CAST(body AS BLOB)) <= ?2 THEN CAST(body AS BLOB) END AS body \
         FROM hapax_receipt WHERE operation = ?1"
    );
    let raw = connection
        .prepare_cached(&sql)?
        .query_row(params![id, limit], raw)
        .optional()?;
    Ok(raw.map(|raw| raw.receipt(label)).transpose()?)
}

impl Receipts for SqliteReceipts {
    fn label(&self) -> &str {
        &self.0.label
    }

    fn find<'a>(&'a self, operations: &'a [OperationId]) -> BoxFuture<'a, Result<Vec<Receipt>, StoreError>> {
        self.find(operations, BODIES)
    }

    fn heads<'a>(&'a self, operations: &'a [OperationId]) -> BoxFuture<'a, Result<Vec<Receipt>, StoreError>> {
        self.find(operations, NO_BODY)
    }

    fn seal(&self, operation: OperationId, fence: Fence) -> BoxFuture<'_, Result<Sealing, StoreError>> {
        self.with("cannot seal an operation", move |connection, label| {
            let (id, number) = (operation.to_string(), stored(fence)?);
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute(include_str!("sqlite/seal.sql"), params![id, number])?;
            let row = find(&transaction, &id, BODIES, label)?;
            transaction.commit()?;
            Ok(sealing(row, fence, label)?)
        })
    }

    fn list(&self, after: Option<OperationId>, limit: u32) -> BoxFuture<'_, Result<Vec<Receipt>, StoreError>> {
        self.with("cannot list receipts", move |connection, label| {
            let after = after.map_or(String::new(), |id| id.to_string());
            let sql = format!(
                "SELECT {COLUMNS}, NULL AS body FROM hapax_receipt WHERE operation > ?1 ORDER BY operation LIMIT ?2"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params![after, limit], raw)?;
            rows.map(|raw| Ok(raw?.receipt(label)?)).collect()
        })
    }

    fn purge<'a>(&'a self, rows: &'a [(OperationId, Fence)]) -> BoxFuture<'a, Result<u64, StoreError>> {
        let rows = rows.to_vec();
        self.with("cannot purge receipts", move |connection, _| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut gone = 0;
            for (operation, fence) in rows {
                let sql = "DELETE FROM hapax_receipt WHERE operation = ?1 AND fence = ?2";
                gone += transaction.execute(sql, params![operation.to_string(), stored(fence)?])?;
            }
            transaction.commit()?;
            Ok(gone as u64)
        })
    }

    fn number<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<i64, StoreError>> {
        let sql = sql.to_owned();
        self.with("cannot count", move |connection, label| {
            let number = connection.query_row(&sql, [], |row| row.get(0));
            number.map_err(|error| match error {
                rusqlite::Error::QueryReturnedNoRows | rusqlite::Error::InvalidColumnType(..) => {
                    no_number(label).into()
                }
                other => Fault::Sqlite(other),
            })
        })
    }

    fn highest_fence(&self) -> BoxFuture<'_, Result<Option<Fence>, StoreError>> {
        self.with("cannot read receipts", |connection, label| {
            let sql = "SELECT max(fence) FROM hapax_receipt";
            let highest: Option<i64> = connection.query_row(sql, [], |row| row.get(0))?;
            let fence = |fence| u64::try_from(fence).map_err(|_| corrupt("its fence", label));
            Ok(highest.map(fence).transpose()?.map(Fence::new))
        })
    }
}

fn raw(row: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok(Raw {
        operation: row.get("operation")?,
        fence: row.get("fence")?,
        sealed: row.get("sealed")?,
        status: row.get("status")?,
        content_type: row.get("content_type")?,
        body: row.get("body")?,
        bytes: row.get("bytes")?,
        at_ms: row.get("at_ms")?,
        now_ms: row.get("now_ms")?,
    })
}

pub(crate) fn label(path: &Path) -> String {
    format!("SQLite file {}", path.display())
}

pub(crate) async fn blocking<T: Send + 'static>(
    step: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(step).await {
        Ok(done) => done,
        Err(error) => {
            let message = "the thread that speaks to SQLite ended early";
            Err(StoreError::new(StoreErrorKind::Unavailable, message).caused_by(error))
        }
    }
}

pub(crate) fn explain(error: &rusqlite::Error, doing: &str, label: &str) -> StoreError {
    if error.to_string().contains("no such table: hapax_receipt") {
        return not_installed(label);
    }
    let Some(code) = error.sqlite_error_code() else {
        return StoreError::new(StoreErrorKind::Corrupt, format!("{doing}: {label}: {error}"));
    };
    let (kind, next) = match code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => (
            StoreErrorKind::Unavailable,
            ": another transaction, perhaps the backend's, is still writing",
        ),
        ErrorCode::ReadOnly => return read_only(label),
        ErrorCode::DiskFull => (StoreErrorKind::Full, ": make room on its disk"),
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => (StoreErrorKind::Corrupt, ""),
        ErrorCode::CannotOpen | ErrorCode::PermissionDenied => (StoreErrorKind::Invalid, ": check the file's owner"),
        _ => (StoreErrorKind::Unavailable, ""),
    };
    StoreError::new(kind, format!("{doing}: {label}: {error}{next}"))
}
