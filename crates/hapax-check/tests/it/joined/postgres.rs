//! tokio-postgres and sqlx, to the server and through PgBouncer.

use std::sync::Arc;
use std::time::Duration;

use hapax_check::conformance::joined::{Link, Meeting, Opened, Place};
use hapax_core::{BoxFuture, Store, StoreError};
use hapax_store::Clock;
use hapax_store::joined::{Connection, JointError, Row, Statement, Value};
use hapax_store::postgres::{PostgresOptions, PostgresStore};
use hapax_testbed::{Database, PgBouncer, Postgres};
use sqlx::Connection as _;
use tokio_postgres::NoTls;

use super::explain;

#[derive(Clone, Copy)]
enum Driver {
    TokioPostgres,
    Sqlx,
}

/// One database, reached one way.
struct Way {
    driver: Driver,
    isolation: &'static str,
    pooler: Option<PgBouncer>,
    prepared: bool,
    database: Database,
}

impl Way {
    fn new(driver: Driver) -> Self {
        Self {
            driver,
            isolation: "READ COMMITTED",
            pooler: None,
            prepared: false,
            database: Postgres::shared().database(),
        }
    }

    fn isolated(driver: Driver, isolation: &'static str) -> Self {
        Self {
            isolation,
            ..Self::new(driver)
        }
    }

    /// Through PgBouncer in transaction mode.
    fn pooled(driver: Driver) -> Self {
        let way = Self::new(driver);
        let pooler = Some(PgBouncer::start(way.database.url(), 8));
        Self { pooler, ..way }
    }

    fn prepared(driver: Driver) -> Self {
        Self {
            prepared: true,
            ..Self::new(driver)
        }
    }

    fn url(&self) -> String {
        match &self.pooler {
            Some(pooler) => pooler.url(self.database.name()),
            None => self.database.url().to_owned(),
        }
    }
}

impl Place for Way {
    fn open(&self, clock: Clock) -> BoxFuture<'_, Result<Opened, StoreError>> {
        Box::pin(async move {
            let options = PostgresOptions {
                clock,
                ..PostgresOptions::default()
            };
            let store = PostgresStore::connect(self.database.url(), options).await?;
            let joint = store.joint().prepared(self.prepared);
            Ok((Arc::new(store) as Arc<dyn Store>, joint))
        })
    }

    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Link>, JointError>> {
        Box::pin(async move {
            let url = self.url();
            Ok(match self.driver {
                Driver::TokioPostgres => {
                    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.map_err(explain)?;
                    tokio::spawn(connection);
                    Box::new(Plain(client)) as Box<dyn Link>
                }
                Driver::Sqlx => Box::new(Sqlx(sqlx::PgConnection::connect(&url).await.map_err(explain)?)),
            })
        })
    }

    fn begin(&self, patience: Duration) -> Vec<String> {
        vec![
            format!("BEGIN ISOLATION LEVEL {}", self.isolation),
            format!("SET LOCAL lock_timeout = {}", patience.as_millis()),
        ]
    }

    fn meeting(&self) -> Meeting {
        match self.isolation {
            "READ COMMITTED" => Meeting::Sees,
            _ => Meeting::Conflicts,
        }
    }

    fn waiting(&self) -> usize {
        let waiting = self.database.query(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
        );
        waiting.trim().parse().unwrap_or(0)
    }
}

struct Plain(tokio_postgres::Client);

impl Connection for Plain {
    fn run<'a>(
        &'a mut self,
        statement: &'static Statement,
        values: &'a [Value<'a>],
        keep: bool,
    ) -> BoxFuture<'a, Result<Vec<Row>, JointError>> {
        self.0.run(statement, values, keep)
    }
}

impl Link for Plain {
    fn execute<'a>(&'a mut self, sql: &'a str) -> BoxFuture<'a, Result<(), JointError>> {
        Box::pin(async move { self.0.batch_execute(sql).await.map_err(explain) })
    }
}

struct Sqlx(sqlx::PgConnection);

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

mod tokio_postgres_joined {
    hapax_check::joined_tests!(super::Way::new(super::Driver::TokioPostgres));
}

mod tokio_postgres_repeatable_read {
    hapax_check::joined_tests!(super::Way::isolated(super::Driver::TokioPostgres, "REPEATABLE READ"));
}

mod tokio_postgres_serializable {
    hapax_check::joined_tests!(super::Way::isolated(super::Driver::TokioPostgres, "SERIALIZABLE"));
}

mod tokio_postgres_pgbouncer {
    hapax_check::joined_tests!(super::Way::pooled(super::Driver::TokioPostgres));
}

mod sqlx_joined {
    hapax_check::joined_tests!(super::Way::new(super::Driver::Sqlx));
}

mod sqlx_prepared {
    hapax_check::joined_tests!(super::Way::prepared(super::Driver::Sqlx));
}

mod sqlx_pgbouncer {
    hapax_check::joined_tests!(super::Way::pooled(super::Driver::Sqlx));
}

#[test]
fn tokio_postgres_is_a_store() {
    super::check_suite(super::STEPS, || Arc::new(Way::new(Driver::TokioPostgres)));
}

#[test]
fn sqlx_carries_every_value() {
    super::check_suite(super::VALUES, || Arc::new(Way::new(Driver::Sqlx)));
}

#[test]
fn histories() {
    let regressions = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions/joined-postgres.txt");
    super::check_histories(8, regressions, || Arc::new(Way::new(Driver::TokioPostgres)));
    super::check_histories(4, regressions, || Arc::new(Way::new(Driver::Sqlx)));
    super::check_histories(4, regressions, || {
        Arc::new(Way::isolated(Driver::TokioPostgres, "SERIALIZABLE"))
    });
}
