//! A database with receipts and one business table, and backends that write to both.

use std::sync::Arc;
use std::time::Duration;

use hapax::core::OperationId;
use hapax::receipts::{self, Receipts};
use hapax_testbed::{Database, MariaDatabase, MariaDb, Postgres};
use sqlx::{Connection as _, Executor as _};
use tempfile::TempDir;
use tokio::task::block_in_place;
use tokio_postgres::types::{ToSql, Type};

/// A database of the test's own.
pub(super) struct World {
    pub(super) url: String,
    pub(super) receipts: Arc<dyn Receipts>,
    pub(super) kind: Kind,
    _server: Server,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Postgres,
    MariaDb,
    Sqlite,
}

enum Server {
    Postgres(#[allow(dead_code, reason = "held")] Database),
    MariaDb(#[allow(dead_code, reason = "held")] MariaDatabase),
    Sqlite(#[allow(dead_code, reason = "held")] TempDir),
}

impl World {
    pub(super) async fn postgres() -> Self {
        let database = Postgres::shared().database();
        let url = database.url().to_owned();
        Self::new(Kind::Postgres, url, Server::Postgres(database)).await
    }

    pub(super) async fn mariadb() -> Self {
        let database = MariaDb::shared().database();
        let url = database.url().to_owned();
        Self::new(Kind::MariaDb, url, Server::MariaDb(database)).await
    }

    pub(super) async fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.db");
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        let url = format!("sqlite:{}", path.display());
        Self::new(Kind::Sqlite, url, Server::Sqlite(directory)).await
    }

    async fn new(kind: Kind, url: String, server: Server) -> Self {
        assert_eq!(receipts::install(&url).await.unwrap(), receipts::Installed::Fresh);
        let receipts = receipts::connect(&url).await.unwrap();
        let world = Self {
            url,
            receipts,
            kind,
            _server: server,
        };
        let engine = if kind == Kind::MariaDb { " ENGINE = InnoDB" } else { "" };
        let mut backend = world.backend().await;
        backend
            .execute(&format!("CREATE TABLE orders (item VARCHAR(40) NOT NULL){engine}"))
            .await
            .unwrap();
        world
    }

    /// A connection of a backend's.
    pub(super) async fn backend(&self) -> Backend {
        match self.kind {
            Kind::Postgres => {
                let (client, connection) = tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await.unwrap();
                tokio::spawn(connection);
                Backend::Postgres(client)
            }
            Kind::MariaDb => Backend::MariaDb(Box::new(sqlx::MySqlConnection::connect(&self.url).await.unwrap())),
            Kind::Sqlite => {
                let connection = rusqlite::Connection::open(&self.url["sqlite:".len()..]).unwrap();
                connection.busy_timeout(Duration::from_secs(5)).unwrap();
                Backend::Sqlite(connection)
            }
        }
    }

    /// Orders that are committed.
    pub(super) async fn orders(&self) -> Vec<String> {
        let sql = "SELECT item FROM orders ORDER BY item";
        match self.backend().await {
            Backend::Postgres(client) => client
                .query(sql, &[])
                .await
                .unwrap()
                .iter()
                .map(|row| row.get(0))
                .collect(),
            Backend::MariaDb(mut connection) => sqlx::query_scalar(sql).fetch_all(&mut *connection).await.unwrap(),
            Backend::Sqlite(connection) => {
                let mut statement = connection.prepare(sql).unwrap();
                let rows = statement.query_map([], |row| row.get(0)).unwrap();
                rows.map(Result::unwrap).collect()
            }
        }
    }
}

/// What a backend says when it writes a receipt.
#[derive(Clone, Copy)]
pub(super) struct Written<'a> {
    pub(super) operation: Option<&'a str>,
    pub(super) fence: Option<i64>,
    pub(super) status: Option<i32>,
    pub(super) body: Option<&'a [u8]>,
    pub(super) content_type: Option<&'a str>,
}

pub(super) enum Backend {
    Postgres(tokio_postgres::Client),
    MariaDb(Box<sqlx::MySqlConnection>),
    Sqlite(rusqlite::Connection),
}

impl Backend {
    pub(super) async fn execute(&mut self, sql: &str) -> Result<(), String> {
        match self {
            Self::Postgres(client) => client.batch_execute(sql).await.map_err(postgres_error),
            Self::MariaDb(connection) => {
                let done = connection.execute(sqlx::AssertSqlSafe(sql.to_owned())).await;
                done.map(|_| ()).map_err(|error| error.to_string())
            }
            Self::Sqlite(connection) => block_in_place(|| connection.execute_batch(sql)).map_err(|e| e.to_string()),
        }
    }

    pub(super) async fn begin(&mut self) {
        let sql = match self {
            Self::MariaDb(_) => "START TRANSACTION",
            _ => "BEGIN",
        };
        self.execute(sql).await.unwrap();
    }

    /// The business write.
    pub(super) async fn order(&mut self, item: &str) -> Result<(), String> {
        self.execute(&format!("INSERT INTO orders (item) VALUES ('{item}')"))
            .await
    }

    pub(super) async fn commit(&mut self) -> Result<(), String> {
        self.execute("COMMIT").await
    }

    pub(super) async fn rollback(&mut self) {
        // Where the failed call did that already, there is nothing to roll back, which SQLite calls an error.
        let _ = self.execute("ROLLBACK").await;
    }

    /// The call of hapax_receipt with a status and a body.
    pub(super) async fn receipt(&mut self, operation: OperationId, fence: i64) -> Result<(), String> {
        let operation = operation.to_string();
        self.write(Written {
            operation: Some(&operation),
            fence: Some(fence),
            status: Some(201),
            body: Some(br#"{"id":7}"#),
            content_type: None,
        })
        .await
    }

    pub(super) async fn write(&mut self, written: Written<'_>) -> Result<(), String> {
        let Written {
            operation,
            fence,
            status,
            body,
            content_type,
        } = written;
        match self {
            Self::Postgres(client) => {
                let sql = "SELECT hapax_receipt($1, $2, $3, $4, $5)";
                let params: &[(&(dyn ToSql + Sync), Type)] = &[
                    (&operation, Type::TEXT),
                    (&fence, Type::INT8),
                    (&status, Type::INT4),
                    (&body, Type::BYTEA),
                    (&content_type, Type::TEXT),
                ];
                let done = client.query_typed(sql, params).await;
                done.map(|_| ()).map_err(postgres_error)
            }
            Self::MariaDb(connection) => {
                let query = sqlx::query("CALL hapax_receipt(?, ?, ?, ?, ?)")
                    .bind(operation)
                    .bind(fence);
                let query = query.bind(status).bind(body).bind(content_type);
                query
                    .execute(&mut **connection)
                    .await
                    .map(|_| ())
                    .map_err(|error| error.to_string())
            }
            Self::Sqlite(connection) => block_in_place(|| {
                let sql =
                    "INSERT INTO hapax_receipt (operation, fence, status, body, content_type) VALUES (?, ?, ?, ?, ?)";
                let done = connection.execute(sql, (operation, fence, status, body, content_type));
                done.map(|_| ()).map_err(|error| error.to_string())
            }),
        }
    }

    /// A whole attempt: the order and its receipt in one transaction.
    pub(super) async fn attempt(&mut self, operation: OperationId, fence: i64, item: &str) -> Result<(), String> {
        self.begin().await;
        let done = async {
            self.order(item).await?;
            self.receipt(operation, fence).await?;
            self.commit().await
        };
        let done = done.await;
        if done.is_err() {
            self.rollback().await;
        }
        done
    }
}

fn postgres_error(error: tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{} ({})", db.message(), db.code().code()),
        None => error.to_string(),
    }
}

/// The error of a receipt that was committed before.
#[track_caller]
pub(super) fn assert_committed(kind: Kind, error: &str, operation: OperationId, fence: i64) {
    let expected = match kind {
        Kind::Sqlite => "hapax: the receipt of this operation was committed already".to_owned(),
        _ => format!("hapax: receipt of {operation} was committed by fence {fence} already"),
    };
    assert!(error.contains(&expected), "{error}");
}

/// The error of a stale attempt.
#[track_caller]
pub(super) fn assert_stale(kind: Kind, error: &str, operation: OperationId, sealed: i64, fence: i64) {
    let expected = match kind {
        Kind::Sqlite => "hapax: this operation is sealed".to_owned(),
        _ => format!("hapax: {operation} is sealed up to fence {sealed}; this attempt (fence {fence}) is stale"),
    };
    assert!(error.contains(&expected), "{error}");
}
