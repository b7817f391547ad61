//! rusqlite and sqlx, on the store's file.

use std::sync::Arc;
use std::time::Duration;

use hapax_check::conformance::joined::{Link, Meeting, Opened, Place};
use hapax_core::{BoxFuture, Store, StoreError};
use hapax_store::Clock;
use hapax_store::joined::{Connection, JointError, Row, Statement, Value};
use hapax_store::sqlite::{SqliteOptions, SqliteStore};
use sqlx::Connection as _;
use tempfile::TempDir;

use super::explain;

#[derive(Clone, Copy)]
enum Driver {
    Rusqlite,
    Sqlx,
}

/// One file, reached one way.
struct Way {
    driver: Driver,
    begin: &'static str,
    directory: TempDir,
}

impl Way {
    fn new(driver: Driver) -> Self {
        Self {
            driver,
            begin: "BEGIN IMMEDIATE",
            directory: match tempfile::tempdir() {
                Ok(directory) => directory,
                Err(error) => panic!("no directory for the database: {error}"),
            },
        }
    }

    fn deferred(driver: Driver) -> Self {
        Self {
            begin: "BEGIN",
            ..Self::new(driver)
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("hapax.db")
    }
}

impl Place for Way {
    fn open(&self, clock: Clock) -> BoxFuture<'_, Result<Opened, StoreError>> {
        Box::pin(async move {
            let options = SqliteOptions {
                clock,
                ..SqliteOptions::default()
            };
            let store = SqliteStore::open(self.path(), options)?;
            let joint = store.joint();
            Ok((Arc::new(store) as Arc<dyn Store>, joint))
        })
    }

    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Link>, JointError>> {
        Box::pin(async move {
            Ok(match self.driver {
                Driver::Rusqlite => {
                    let connection = rusqlite::Connection::open(self.path()).map_err(explain)?;
                    Box::new(Rusqlite(connection)) as Box<dyn Link>
                }
                Driver::Sqlx => {
                    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.path());
                    let connection = sqlx::SqliteConnection::connect_with(&options).await.map_err(explain)?;
                    Box::new(Sqlx(connection))
                }
            })
        })
    }

    fn begin(&self, patience: Duration) -> Vec<String> {
        vec![
            format!("PRAGMA busy_timeout = {}", patience.as_millis()),
            self.begin.to_owned(),
        ]
    }

    fn meeting(&self) -> Meeting {
        Meeting::Queues
    }

    fn waiting(&self) -> usize {
        0
    }
}

struct Rusqlite(rusqlite::Connection);

impl Connection for Rusqlite {
    fn run<'a>(
        &'a mut self,
        statement: &'static Statement,
        values: &'a [Value<'a>],
        keep: bool,
    ) -> BoxFuture<'a, Result<Vec<Row>, JointError>> {
        self.0.run(statement, values, keep)
    }
}

impl Link for Rusqlite {
    fn execute<'a>(&'a mut self, sql: &'a str) -> BoxFuture<'a, Result<(), JointError>> {
        let done = self.0.execute_batch(sql).map_err(explain);
        Box::pin(std::future::ready(done))
    }
}

struct Sqlx(sqlx::SqliteConnection);

impl Connection for Sqlx {
    fn run<'a>(
        &'a mut self,
        statement: &'static Statement,
        values: &'a [Value<'a>],
        keep: bool,
    ) -> BoxFuture<'a, Result<Vec<Row>, JointError>> {
        self.0.run(statement, values, keep)
    }
}

impl Link for Sqlx {
    fn execute<'a>(&'a mut self, sql: &'a str) -> BoxFuture<'a, Result<(), JointError>> {
        Box::pin(async move {
            let query = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()));
            query.execute(&mut self.0).await.map(|_| ()).map_err(explain)
        })
    }
}

mod rusqlite_joined {
    hapax_check::joined_tests!(super::Way::new(super::Driver::Rusqlite));
}

mod rusqlite_deferred {
    hapax_check::joined_tests!(super::Way::deferred(super::Driver::Rusqlite));
}

mod sqlx_joined {
    hapax_check::joined_tests!(super::Way::new(super::Driver::Sqlx));
}

#[test]
fn rusqlite_is_a_store() {
    super::check_suite(super::STEPS, || Arc::new(Way::new(Driver::Rusqlite)));
}

#[test]
fn sqlx_carries_every_value() {
    super::check_suite(super::VALUES, || Arc::new(Way::new(Driver::Sqlx)));
}

#[test]
fn histories() {
    let regressions = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions/joined-sqlite.txt");
    super::check_histories(32, regressions, || Arc::new(Way::new(Driver::Rusqlite)));
    super::check_histories(16, regressions, || Arc::new(Way::new(Driver::Sqlx)));
}
