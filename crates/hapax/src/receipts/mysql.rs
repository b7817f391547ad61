//! Receipts in MySQL and MariaDB.

use std::net::IpAddr;
use std::str::FromStr;

use hapax_core::{BoxFuture, Fence, OperationId, StoreError, StoreErrorKind};
use sqlx::mysql::{
    MySqlArguments, MySqlConnectOptions, MySqlConnection, MySqlPool, MySqlPoolOptions, MySqlRow, MySqlSslMode,
};
use sqlx::query::Query;
use sqlx::{Connection, Executor, MySql, Row};
use tokio::time::timeout;

use super::{
    BODIES, CONNECTIONS, Dialect, Installed, LOCK_TIMEOUT, LONG_PATIENCE, NO_BODY, PATIENCE, Raw, Receipt, Receipts,
    Sealing, check_version, invalid, no_function, no_number, not_installed, read_only, sealing, stored,
};

const COLUMNS: &str = "operation, fence, sealed, status, content_type, CAST(LENGTH(body) AS SIGNED) AS bytes, \
                       TIMESTAMPDIFF(MICROSECOND, '1970-01-01', at) DIV 1000 AS at_ms, \
                       TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000 AS now_ms";

pub(super) struct MysqlReceipts {
    label: String,
    pool: MySqlPool,
}

/// Where the database is: TLS for what leaves the machine, verified, unless the URL says `ssl-mode=disabled`.
pub(crate) fn target(url: &str) -> Result<(MySqlConnectOptions, String), StoreError> {
    // The parser's errors may quote what they could not read.
    let unreadable = || invalid("the MySQL URL cannot be read: write mysql://USER:PASSWORD@HOST:3306/DATABASE");
    let rest = url
        .strip_prefix("mariadb:")
        .or_else(|| url.strip_prefix("mysql:"))
        .ok_or_else(unreadable)?;
    let mut options = MySqlConnectOptions::from_str(&format!("mysql:{rest}")).map_err(|_| unreadable())?;
    let host = options.get_host().to_owned();
    let label = match options.get_database() {
        Some(database) => format!("MySQL database {database:?} at {host}:{}", options.get_port()),
        None => {
            return Err(invalid(
                "the MySQL URL names no database: write mysql://USER@HOST/DATABASE",
            ));
        }
    };
    let stays = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    let said = url.contains("ssl-mode=") || url.contains("sslmode=");
    if !said {
        options = options.ssl_mode(if stays {
            MySqlSslMode::Preferred
        } else {
            MySqlSslMode::VerifyIdentity
        });
    }
    Ok((options, label))
}

/// A connection for looking at a database whose settings are those of any that sets nothing itself, and what the
/// database is called. TLS is as for receipts.
///
/// # Errors
/// The store's, which says what failed, where, and what to do.
pub async fn connect_mysql_plainly(url: &str) -> Result<(MySqlConnection, String), StoreError> {
    let (options, label) = target(url)?;
    let options = options
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None::<String>);
    let connected = timeout(PATIENCE, MySqlConnection::connect_with(&options)).await;
    let connection = connected
        .map_err(|_| silent("cannot connect", &label))?
        .map_err(|error| explain(&error, "cannot connect", &label))?;
    Ok((connection, label))
}

pub(crate) async fn prepare(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    let seconds = LOCK_TIMEOUT.as_secs();
    let sql =
        format!("SET SESSION innodb_lock_wait_timeout = {seconds}, SESSION transaction_isolation = 'READ-COMMITTED'");
    // MariaDB before 11.1 knows the latter by its old name only.
    let old = sql.replace("transaction_isolation", "tx_isolation");
    match connection.execute(sqlx::AssertSqlSafe(sql)).await {
        Ok(_) => Ok(()),
        Err(_) => connection.execute(sqlx::AssertSqlSafe(old)).await.map(|_| ()),
    }
}

/// The version that is there. Refuses what cannot keep receipts.
async fn look(connection: &mut MySqlConnection, label: &str) -> Result<Option<i64>, StoreError> {
    let failed = |error: sqlx::Error| explain(&error, "cannot look for receipts", label);
    let sql = "SELECT CAST(@@global.read_only AS SIGNED) + CAST(@@innodb_read_only AS SIGNED) AS read_only, \
               (SELECT CAST(COUNT(*) AS SIGNED) FROM information_schema.tables WHERE table_schema = DATABASE() \
                AND table_name = 'hapax_receipt_version') AS installed, \
               (SELECT CAST(COUNT(*) AS SIGNED) FROM information_schema.tables WHERE table_schema = DATABASE() \
                AND table_name = 'hapax_receipt' AND engine <> 'InnoDB') AS foreign_engine";
    let row = connection.fetch_one(sql).await.map_err(failed)?;
    let number = |name: &str| row.try_get::<i64, _>(name).map_err(failed);
    if number("read_only")? != 0 {
        return Err(read_only(label));
    }
    if number("foreign_engine")? != 0 {
        return Err(invalid(format!(
            "hapax_receipt in {label} is not in InnoDB, and so in no transaction: ALTER TABLE hapax_receipt ENGINE = InnoDB"
        )));
    }
    if number("installed")? == 0 {
        return Ok(None);
    }
    let sql = "SELECT CAST(MAX(version) AS SIGNED) AS version FROM hapax_receipt_version";
    let row = connection.fetch_one(sql).await.map_err(failed)?;
    row.try_get("version").map_err(failed)
}

/// Makes what is missing. Definitions are no part of a transaction here; the version is written last.
pub(super) async fn install(url: &str) -> Result<Installed, StoreError> {
    let (options, label) = target(url)?;
    let failed = |error: sqlx::Error| explain(&error, "cannot install receipts", &label);
    let connected = timeout(PATIENCE, MySqlConnection::connect_with(&options)).await;
    let mut connection = connected
        .map_err(|_| silent("cannot connect", &label))?
        .map_err(failed)?;
    let version = look(&mut connection, &label).await?;
    check_version(version, &label, true)?;
    let fresh = version.is_none();
    let statements: Vec<String> = if fresh {
        // What an install that broke off has left is made again.
        let again = |text: String| text.replace("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS ");
        let statements = Dialect::Mysql.statements().into_iter().map(again);
        statements
            .flat_map(|text| match text.contains("CREATE PROCEDURE") {
                true => vec!["DROP PROCEDURE IF EXISTS hapax_receipt".to_owned(), text],
                false => vec![text],
            })
            .collect()
    } else {
        Dialect::Mysql.functions().iter().map(|&text| text.to_owned()).collect()
    };
    for statement in statements {
        connection
            .execute(sqlx::AssertSqlSafe(statement))
            .await
            .map_err(failed)?;
    }
    let _ = connection.close().await;
    Ok(if fresh { Installed::Fresh } else { Installed::Again })
}

impl MysqlReceipts {
    pub(super) async fn connect(url: &str) -> Result<Self, StoreError> {
        let (options, label) = target(url)?;
        let pool = MySqlPoolOptions::new()
            .max_connections(CONNECTIONS as u32)
            .acquire_timeout(PATIENCE)
            .after_connect(|connection, _| Box::pin(prepare(connection)))
            .connect_lazy_with(options);
        let mut connection = pool
            .acquire()
            .await
            .map_err(|error| explain(&error, "cannot connect", &label))?;
        check_version(look(&mut connection, &label).await?, &label, false)?;
        // Refused for want of an operation, if it is there; who may not call it cannot see whether it is.
        if let Err(error) = connection
            .execute("CALL hapax_receipt(NULL, NULL, NULL, NULL, NULL)")
            .await
            && number(&error) == 1305
        {
            return Err(no_function("the procedure hapax_receipt", &label));
        }
        drop(connection);
        Ok(Self { label, pool })
    }

    async fn rows(&self, doing: &str, query: Query<'_, MySql, MySqlArguments>) -> Result<Vec<Receipt>, StoreError> {
        let rows = timeout(PATIENCE, query.fetch_all(&self.pool)).await;
        let rows = rows.map_err(|_| silent(doing, &self.label))?;
        let rows = rows.map_err(|error| explain(&error, doing, &self.label))?;
        let raw = |row: &MySqlRow| raw(row).map_err(|error| explain(&error, doing, &self.label));
        rows.iter().map(|row| raw(row)?.receipt(&self.label)).collect()
    }

    async fn run(&self, doing: &str, query: Query<'_, MySql, MySqlArguments>) -> Result<u64, StoreError> {
        let done = timeout(PATIENCE, query.execute(&self.pool)).await;
        let done = done.map_err(|_| silent(doing, &self.label))?;
        Ok(done
            .map_err(|error| explain(&error, doing, &self.label))?
            .rows_affected())
    }

    async fn find(&self, operations: &[OperationId], limit: i64) -> Result<Vec<Receipt>, StoreError> {
        if operations.is_empty() {
            return Ok(Vec::new());
        }
        let marks = vec!["?"; operations.len()].join(", ");
        let sql = format!(
            "SELECT {COLUMNS}, CASE WHEN LENGTH(body) <= {limit} THEN body END AS body FROM hapax_receipt \
             WHERE operation IN ({marks})"
        );
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
        for operation in operations {
            query = query.bind(operation.to_string());
        }
        self.rows("cannot look for a receipt", query).await
    }

    async fn seal(&self, operation: OperationId, fence: Fence) -> Result<Sealing, StoreError> {
        let (id, number) = (operation.to_string(), stored(fence)?);
        let query = sqlx::query(include_str!("mysql/seal.sql")).bind(id).bind(number);
        let query = query.bind(number).bind(number).bind(number);
        self.run("cannot seal an operation", query).await?;
        let row = self.find(&[operation], BODIES).await?.pop();
        sealing(row, fence, &self.label)
    }
}

impl Receipts for MysqlReceipts {
    fn label(&self) -> &str {
        &self.label
    }

    fn find<'a>(&'a self, operations: &'a [OperationId]) -> BoxFuture<'a, Result<Vec<Receipt>, StoreError>> {
        Box::pin(self.find(operations, BODIES))
    }

    fn heads<'a>(&'a self, operations: &'a [OperationId]) -> BoxFuture<'a, Result<Vec<Receipt>, StoreError>> {
        Box::pin(self.find(operations, NO_BODY))
    }

    fn seal(&self, operation: OperationId, fence: Fence) -> BoxFuture<'_, Result<Sealing, StoreError>> {
        Box::pin(self.seal(operation, fence))
    }

    fn list(&self, after: Option<OperationId>, limit: u32) -> BoxFuture<'_, Result<Vec<Receipt>, StoreError>> {
        Box::pin(async move {
            let after = after.map_or(String::new(), |id| id.to_string());
            let sql = format!(
                "SELECT {COLUMNS}, CAST(NULL AS BINARY) AS body FROM hapax_receipt WHERE operation > ? \
                 ORDER BY operation LIMIT ?"
            );
            let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(after).bind(limit);
            self.rows("cannot list receipts", query).await
        })
    }

    fn purge<'a>(&'a self, rows: &'a [(OperationId, Fence)]) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            if rows.is_empty() {
                return Ok(0);
            }
            // MariaDB finds rows by a list of pairs only by reading all of them.
            let (ids, pairs) = (vec!["?"; rows.len()].join(", "), vec!["(?, ?)"; rows.len()].join(", "));
            let sql =
                format!("DELETE FROM hapax_receipt WHERE operation IN ({ids}) AND (operation, fence) IN ({pairs})");
            let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
            for (operation, _) in rows {
                query = query.bind(operation.to_string());
            }
            for (operation, fence) in rows {
                query = query.bind(operation.to_string()).bind(stored(*fence)?);
            }
            self.run("cannot purge receipts", query).await
        })
    }

    fn number<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<i64, StoreError>> {
        Box::pin(async move {
            let doing = "cannot count";
            let query = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned()));
            let row = timeout(LONG_PATIENCE, query.fetch_one(&self.pool)).await;
            let row = row.map_err(|_| silent(doing, &self.label))?;
            let row = row.map_err(|error| match error {
                sqlx::Error::RowNotFound => no_number(&self.label),
                other => explain(&other, doing, &self.label),
            })?;
            row.try_get(0).map_err(|_| no_number(&self.label))
        })
    }

    fn highest_fence(&self) -> BoxFuture<'_, Result<Option<Fence>, StoreError>> {
        Box::pin(async move {
            let doing = "cannot read receipts";
            let query = sqlx::query("SELECT MAX(fence) AS fence FROM hapax_receipt");
            let row = timeout(LONG_PATIENCE, query.fetch_one(&self.pool)).await;
            let row = row.map_err(|_| silent(doing, &self.label))?;
            let fence = row.and_then(|row| row.try_get::<Option<i64>, _>("fence"));
            let fence = fence.map_err(|error| explain(&error, doing, &self.label))?;
            Ok(fence.map(|fence| Fence::new(fence.unsigned_abs())))
        })
    }
}

fn raw(row: &MySqlRow) -> Result<Raw, sqlx::Error> {
    Ok(Raw {
        operation: row.try_get("operation")?,
        fence: row.try_get("fence")?,
        sealed: row.try_get("sealed")?,
        status: row.try_get::<Option<i32>, _>("status")?.map(i64::from),
        content_type: row.try_get("content_type")?,
        body: row.try_get("body")?,
        bytes: row.try_get("bytes")?,
        at_ms: row.try_get("at_ms")?,
        now_ms: row.try_get("now_ms")?,
    })
}

/// The server's number of an error; 0 if it is not the server's.
fn number(error: &sqlx::Error) -> u16 {
    let db = error.as_database_error();
    let db = db.and_then(|error| error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>());
    db.map_or(0, sqlx::mysql::MySqlDatabaseError::number)
}

fn silent(doing: &str, label: &str) -> StoreError {
    let message = format!("{doing}: {label} did not answer within {} s", PATIENCE.as_secs());
    StoreError::new(StoreErrorKind::Unavailable, message)
}

fn explain(error: &sqlx::Error, doing: &str, label: &str) -> StoreError {
    let Some(db) = error.as_database_error() else {
        let kind = match error {
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) => StoreErrorKind::Corrupt,
            sqlx::Error::Configuration(_) => StoreErrorKind::Invalid,
            _ => StoreErrorKind::Unavailable,
        };
        let hint = match error {
            sqlx::Error::Tls(_) => {
                ": name its CA with ssl-ca=FILE in the URL, or write ssl-mode=disabled to go without"
            }
            _ => "",
        };
        return StoreError::new(
            kind,
            format!("{doing}: the connection to {label} failed: {error}{hint}"),
        );
    };
    let number = number(error);
    let (kind, next) = match number {
        1146 | 1305 if db.message().contains("hapax_receipt") => return not_installed(label),
        1290 | 1792 | 1836 => return read_only(label),
        1205 => (
            StoreErrorKind::Unavailable,
            ": a transaction of the backend that writes this receipt is still open",
        ),
        1213 | 1040 | 1053 | 1077 | 1078 | 1079 | 1080 | 1152..=1161 => (StoreErrorKind::Unavailable, ""),
        1021 | 1114 => (StoreErrorKind::Full, ": make room on the database's disk"),
        1044 | 1142 | 1143 | 1227 | 1370 => (
            StoreErrorKind::Invalid,
            ": grant this user SELECT, INSERT, UPDATE, DELETE on hapax_receipt and SELECT on hapax_receipt_version; to \
             install, CREATE, CREATE ROUTINE and ALTER ROUTINE too, or let an administrator run the output of `hapax \
             receipts sql`",
        ),
        _ => (StoreErrorKind::Invalid, ""),
    };
    StoreError::new(
        kind,
        format!("{doing}: {label} says: {} (error {number}){next}", db.message()),
    )
}
