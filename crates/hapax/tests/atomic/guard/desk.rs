//! A database of the test's own, and connections to it by one of the drivers.

use std::time::Duration;

use hapax::guard::{Guard, GuardError, Guarded, Told};
use hapax_testbed::{Database, Postgres};
use rusqlite::types::Value;
use sqlx::{Arguments, Connection, Executor, Row};
use tempfile::TempDir;
use tokio::task::block_in_place;
use tokio_postgres::types::{ToSql, Type};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Driver {
    TokioPostgres,
    SqlxPostgres,
    SqlxSqlite,
    Rusqlite,
}

pub(super) struct Place {
    driver: Driver,
    /// PostgreSQL's URL or SQLite's file.
    at: String,
    _held: Held,
}

enum Held {
    Database(#[allow(dead_code, reason = "held")] Database),
    Directory(#[allow(dead_code, reason = "held")] TempDir),
}

impl Place {
    pub(super) fn tokio_postgres() -> Self {
        Self::postgres(Driver::TokioPostgres)
    }

    pub(super) fn sqlx_postgres() -> Self {
        Self::postgres(Driver::SqlxPostgres)
    }

    pub(super) fn sqlx_sqlite() -> Self {
        Self::sqlite(Driver::SqlxSqlite)
    }

    pub(super) fn rusqlite() -> Self {
        Self::sqlite(Driver::Rusqlite)
    }

    fn postgres(driver: Driver) -> Self {
        let database = Postgres::shared().database();
        Self {
            driver,
            at: database.url().to_owned(),
            _held: Held::Database(database),
        }
    }

    fn sqlite(driver: Driver) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.db");
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", "wal").unwrap();
        Self {
            driver,
            at: path.to_str().unwrap().to_owned(),
            _held: Held::Directory(directory),
        }
    }

    pub(super) fn is_postgres(&self) -> bool {
        matches!(self.driver, Driver::TokioPostgres | Driver::SqlxPostgres)
    }

    /// The URL, for PostgreSQL.
    pub(super) fn url(&self) -> &str {
        &self.at
    }

    /// The same database at another address.
    pub(super) async fn desk_at(&self, url: &str) -> Desk {
        match self.driver {
            Driver::TokioPostgres => {
                let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
                tokio::spawn(connection);
                Desk::TokioPostgres(client)
            }
            Driver::SqlxPostgres => Desk::SqlxPostgres(sqlx::PgConnection::connect(url).await.unwrap()),
            Driver::SqlxSqlite => {
                let options = sqlx::sqlite::SqliteConnectOptions::new()
                    .filename(url)
                    .busy_timeout(Duration::from_secs(60));
                Desk::SqlxSqlite(sqlx::SqliteConnection::connect_with(&options).await.unwrap())
            }
            Driver::Rusqlite => {
                let connection = rusqlite::Connection::open(url).unwrap();
                connection.busy_timeout(Duration::from_secs(60)).unwrap();
                Desk::Rusqlite(connection)
            }
        }
    }

    pub(super) async fn desk(&self) -> Desk {
        self.desk_at(&self.at).await
    }
}

/// A value for a guard.
#[derive(Debug, Clone, Copy)]
pub(super) enum V {
    Int(i64),
    Text(&'static str),
    NullInt,
}

impl From<i64> for V {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<&'static str> for V {
    fn from(text: &'static str) -> Self {
        Self::Text(text)
    }
}

/// What a guard said, with the first column of its row as text.
pub(super) type Said = (Guarded, Option<String>);

/// A connection.
pub(super) enum Desk {
    TokioPostgres(tokio_postgres::Client),
    SqlxPostgres(sqlx::PgConnection),
    SqlxSqlite(sqlx::SqliteConnection),
    Rusqlite(rusqlite::Connection),
}

impl Desk {
    pub(super) async fn execute(&mut self, sql: &str) {
        match self {
            Self::TokioPostgres(client) => client.batch_execute(sql).await.unwrap(),
            Self::SqlxPostgres(connection) => {
                connection.execute(sqlx::AssertSqlSafe(sql.to_owned())).await.unwrap();
            }
            Self::SqlxSqlite(connection) => {
                connection.execute(sqlx::AssertSqlSafe(sql.to_owned())).await.unwrap();
            }
            Self::Rusqlite(connection) => block_in_place(|| connection.execute_batch(sql)).unwrap(),
        }
    }

    /// Begins a transaction that writes.
    pub(super) async fn begin(&mut self) {
        let sql = match self {
            Self::TokioPostgres(_) | Self::SqlxPostgres(_) => "BEGIN",
            Self::SqlxSqlite(_) | Self::Rusqlite(_) => "BEGIN IMMEDIATE",
        };
        self.execute(sql).await;
    }

    /// The first column of the only row, as text.
    pub(super) async fn value(&mut self, sql: &str) -> String {
        match self {
            Self::TokioPostgres(client) => text(&client.query_one(sql, &[]).await.unwrap()),
            Self::SqlxPostgres(connection) => {
                let query = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned()));
                pg_text(&query.fetch_one(connection).await.unwrap())
            }
            Self::SqlxSqlite(connection) => {
                let query = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned()));
                sqlite_text(&query.fetch_one(connection).await.unwrap())
            }
            Self::Rusqlite(connection) => shown(&connection.query_row(sql, [], |row| row.get(0)).unwrap()),
        }
    }

    pub(super) async fn ask(&mut self, guard: &Guard<'_>, values: &[V]) -> Result<Said, GuardError> {
        match self {
            Self::TokioPostgres(client) => {
                let values: Vec<(&(dyn ToSql + Sync), Type)> = values
                    .iter()
                    .map(|value| match value {
                        V::Int(number) => (number as &(dyn ToSql + Sync), Type::INT8),
                        V::Text(text) => (text as &(dyn ToSql + Sync), Type::UNKNOWN),
                        V::NullInt => (&None::<i64> as &(dyn ToSql + Sync), Type::INT8),
                    })
                    .collect();
                guard.tokio_postgres(client, &values).await.map(|told| said(told, text))
            }
            Self::SqlxPostgres(connection) => {
                let mut arguments = sqlx::postgres::PgArguments::default();
                for value in values {
                    match *value {
                        V::Int(number) => arguments.add(number).unwrap(),
                        V::Text(text) => arguments.add(text).unwrap(),
                        V::NullInt => arguments.add(None::<i64>).unwrap(),
                    }
                }
                let told = guard.sqlx_postgres(connection, arguments).await;
                told.map(|told| said(told, pg_text))
            }
            Self::SqlxSqlite(connection) => {
                let mut arguments = sqlx::sqlite::SqliteArguments::default();
                for value in values {
                    match *value {
                        V::Int(number) => arguments.add(number).unwrap(),
                        V::Text(text) => arguments.add(text).unwrap(),
                        V::NullInt => arguments.add(None::<i64>).unwrap(),
                    }
                }
                let told = guard.sqlx_sqlite(connection, arguments).await;
                told.map(|told| said(told, sqlite_text))
            }
            Self::Rusqlite(connection) => {
                let values: Vec<&dyn rusqlite::ToSql> = values
                    .iter()
                    .map(|value| match value {
                        V::Int(number) => number as &dyn rusqlite::ToSql,
                        V::Text(text) => text as &dyn rusqlite::ToSql,
                        V::NullInt => &rusqlite::types::Null as &dyn rusqlite::ToSql,
                    })
                    .collect();
                let told = block_in_place(|| guard.rusqlite(connection, &values));
                told.map(|told| said(told, |row| shown(&row[0])))
            }
        }
    }
}

fn said<R>(told: Told<R>, text: impl Fn(&R) -> String) -> Said {
    (told.answer, told.row.as_ref().map(text))
}

fn text(row: &tokio_postgres::Row) -> String {
    match *row.columns()[0].type_() {
        Type::INT8 => row.get::<_, Option<i64>>(0).map(|number| number.to_string()),
        _ => row.get::<_, Option<String>>(0),
    }
    .unwrap_or_else(|| "null".to_owned())
}

fn pg_text(row: &sqlx::postgres::PgRow) -> String {
    match row.try_get::<Option<i64>, _>(0) {
        Ok(number) => number.map(|number| number.to_string()),
        Err(_) => row.get(0),
    }
    .unwrap_or_else(|| "null".to_owned())
}

fn sqlite_text(row: &sqlx::sqlite::SqliteRow) -> String {
    match row.try_get::<Option<i64>, _>(0) {
        Ok(number) => number.map(|number| number.to_string()),
        Err(_) => row.get(0),
    }
    .unwrap_or_else(|| "null".to_owned())
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        other => panic!("{other:?}"),
    }
}
