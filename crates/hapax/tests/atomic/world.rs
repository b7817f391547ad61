//! A database with the store's tables and one of a shop's, for each driver.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hapax::atomic::{
    Atomic, AtomicOptions, Database, PostgresTransaction, Rusqlite, RusqliteTransaction, TokioPostgres,
};
use hapax::core::{Answer, Fingerprint, Key, Name, Operation, RecipeId, Scope, Store};
use hapax::store::joined::Joint;
use hapax::store::postgres::PostgresOptions;
use hapax::store::{PostgresStore, SqliteOptions, SqliteStore};
use hapax::{Arrival, Engine, EngineOptions, RunOptions};
use hapax_testbed::Postgres;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;
pub(crate) type Client = deadpool_postgres::Object;

/// Connections of each pool.
pub(crate) const POOL: usize = 5;

const TABLE: &str = "CREATE TABLE orders (key text NOT NULL)";
const INSERT_POSTGRES: &str = "INSERT INTO orders (key) VALUES ($1)";

/// What the suite needs of a driver.
pub(crate) trait World: Send + Sync + 'static {
    type Database: Database + Clone;

    fn database(&self) -> Self::Database;
    fn engine(&self) -> &Engine;
    fn joint(&self) -> Joint;

    /// Inserts an order in the handler's transaction.
    fn order<'t>(
        connection: &'t mut <Self::Database as Database>::Connection,
        key: &'t str,
    ) -> BoxFuture<'t, Result<(), BoxError>>;

    /// How many orders have this key, seen from outside.
    fn orders(&self, key: &str) -> BoxFuture<'static, i64>;

    fn atomic(&self, options: AtomicOptions) -> Atomic<Self::Database> {
        Atomic::new(self.engine(), self.joint(), self.database(), options).unwrap()
    }
}

/// One time that an order is asked for.
pub(crate) fn arrival(key: &str, wait: Duration) -> Arrival {
    Arrival {
        group: None,
        input: None,
        operation: operation(key),
        fingerprint: Fingerprint::new(RecipeId::new(1), [1; 32]),
        refingerprint: Arc::new(|_, _| None),
        options: RunOptions::default(),
        wait,
    }
}

pub(crate) fn operation(key: &str) -> Operation {
    let (scope, name) = (Scope::new("shop").unwrap(), Name::new("order").unwrap());
    Operation::new(scope, name, Key::new(key).unwrap())
}

pub(crate) fn answer(status: u16) -> Answer {
    Answer {
        status,
        headers: vec![],
        body: "ordered".into(),
    }
}

fn engine(store: impl Store) -> Engine {
    Engine::new(store, EngineOptions::default(), ())
}

pub(crate) struct TokioPostgresWorld {
    pub pool: deadpool_postgres::Pool,
    pub engine: Engine,
    pub joint: Joint,
    pub database: hapax_testbed::Database,
}

pub(crate) fn tokio_postgres_pool(url: &str) -> deadpool_postgres::Pool {
    let config = url.parse().unwrap();
    let manager = deadpool_postgres::Manager::new(config, ::tokio_postgres::NoTls);
    deadpool_postgres::Pool::builder(manager)
        .max_size(POOL)
        .build()
        .unwrap()
}

pub(crate) fn tokio_postgres_database(pool: deadpool_postgres::Pool) -> TokioPostgres<Client> {
    TokioPostgres::new(
        move || {
            let pool = pool.clone();
            async move { pool.get().await }
        },
        |client: &Client| client,
    )
    .prepared(|client, text, types| Box::pin(client.prepare_typed_cached(text, types)))
}

async fn postgres_store(url: &str) -> (Engine, Joint) {
    let store = PostgresStore::connect(url, PostgresOptions::default()).await.unwrap();
    let joint = store.joint().prepared(true);
    (engine(store), joint)
}

impl TokioPostgresWorld {
    pub(crate) async fn start() -> Self {
        let database = Postgres::shared().database();
        let (engine, joint) = postgres_store(database.url()).await;
        let pool = tokio_postgres_pool(database.url());
        pool.get().await.unwrap().batch_execute(TABLE).await.unwrap();
        Self {
            pool,
            engine,
            joint,
            database,
        }
    }
}

impl World for TokioPostgresWorld {
    type Database = TokioPostgres<Client>;

    fn database(&self) -> Self::Database {
        tokio_postgres_database(self.pool.clone())
    }

    fn engine(&self) -> &Engine {
        &self.engine
    }

    fn joint(&self) -> Joint {
        self.joint.clone()
    }

    fn order<'t>(connection: &'t mut PostgresTransaction<Client>, key: &'t str) -> BoxFuture<'t, Result<(), BoxError>> {
        Box::pin(async move {
            connection.execute(INSERT_POSTGRES, &[&key]).await?;
            Ok(())
        })
    }

    fn orders(&self, key: &str) -> BoxFuture<'static, i64> {
        let (pool, key) = (self.pool.clone(), key.to_owned());
        Box::pin(async move {
            let client = pool.get().await.unwrap();
            let row = client
                .query_one("SELECT count(*) FROM orders WHERE key = $1", &[&key])
                .await;
            row.unwrap().get(0)
        })
    }
}

pub(crate) struct SqlxPostgresWorld {
    pool: sqlx::PgPool,
    engine: Engine,
    joint: Joint,
    _database: hapax_testbed::Database,
}

impl SqlxPostgresWorld {
    pub(crate) async fn start() -> Self {
        let database = Postgres::shared().database();
        let (engine, joint) = postgres_store(database.url()).await;
        let options = sqlx::postgres::PgPoolOptions::new().max_connections(POOL as u32);
        let pool = options.connect(database.url()).await.unwrap();
        sqlx::query(TABLE).execute(&pool).await.unwrap();
        Self {
            pool,
            engine,
            joint,
            _database: database,
        }
    }
}

impl World for SqlxPostgresWorld {
    type Database = sqlx::PgPool;

    fn database(&self) -> sqlx::PgPool {
        self.pool.clone()
    }

    fn engine(&self) -> &Engine {
        &self.engine
    }

    fn joint(&self) -> Joint {
        self.joint.clone()
    }

    fn order<'t>(connection: &'t mut sqlx::PgConnection, key: &'t str) -> BoxFuture<'t, Result<(), BoxError>> {
        Box::pin(async move {
            sqlx::query(INSERT_POSTGRES).bind(key).execute(connection).await?;
            Ok(())
        })
    }

    fn orders(&self, key: &str) -> BoxFuture<'static, i64> {
        let (pool, key) = (self.pool.clone(), key.to_owned());
        Box::pin(async move {
            let count = sqlx::query_scalar("SELECT count(*) FROM orders WHERE key = $1").bind(key);
            count.fetch_one(&pool).await.unwrap()
        })
    }
}

pub(crate) struct SqlxSqliteWorld {
    pool: sqlx::SqlitePool,
    engine: Engine,
    joint: Joint,
    _directory: tempfile::TempDir,
}

impl SqlxSqliteWorld {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.db");
        let store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
        let joint = store.joint();
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(POOL as u32);
        let pool = pool.connect_with(options).await.unwrap();
        sqlx::query(TABLE).execute(&pool).await.unwrap();
        Self {
            pool,
            engine: engine(store),
            joint,
            _directory: directory,
        }
    }
}

impl World for SqlxSqliteWorld {
    type Database = sqlx::SqlitePool;

    fn database(&self) -> sqlx::SqlitePool {
        self.pool.clone()
    }

    fn engine(&self) -> &Engine {
        &self.engine
    }

    fn joint(&self) -> Joint {
        self.joint.clone()
    }

    fn order<'t>(connection: &'t mut sqlx::SqliteConnection, key: &'t str) -> BoxFuture<'t, Result<(), BoxError>> {
        Box::pin(async move {
            sqlx::query("INSERT INTO orders (key) VALUES (?)")
                .bind(key)
                .execute(connection)
                .await?;
            Ok(())
        })
    }

    fn orders(&self, key: &str) -> BoxFuture<'static, i64> {
        let (pool, key) = (self.pool.clone(), key.to_owned());
        Box::pin(async move {
            let count = sqlx::query_scalar("SELECT count(*) FROM orders WHERE key = ?").bind(key);
            count.fetch_one(&pool).await.unwrap()
        })
    }
}

pub(crate) struct RusqliteWorld {
    database: Rusqlite,
    engine: Engine,
    joint: Joint,
    directory: tempfile::TempDir,
}

impl RusqliteWorld {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.db");
        let store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
        let joint = store.joint();
        rusqlite::Connection::open(&path).unwrap().execute_batch(TABLE).unwrap();
        Self {
            database: Rusqlite::open(&path).unwrap(),
            engine: engine(store),
            joint,
            directory,
        }
    }
}

impl World for RusqliteWorld {
    type Database = Rusqlite;

    fn database(&self) -> Rusqlite {
        self.database.clone()
    }

    fn engine(&self) -> &Engine {
        &self.engine
    }

    fn joint(&self) -> Joint {
        self.joint.clone()
    }

    fn order<'t>(connection: &'t mut RusqliteTransaction, key: &'t str) -> BoxFuture<'t, Result<(), BoxError>> {
        let key = key.to_owned();
        Box::pin(async move {
            let inserted = connection.call(move |sqlite| sqlite.execute("INSERT INTO orders (key) VALUES (?)", [key]));
            inserted.await?;
            Ok(())
        })
    }

    fn orders(&self, key: &str) -> BoxFuture<'static, i64> {
        let sqlite = rusqlite::Connection::open(self.directory.path().join("shop.db")).unwrap();
        let counted = sqlite.query_row("SELECT count(*) FROM orders WHERE key = ?", [key], |row| row.get(0));
        let counted = counted.unwrap();
        Box::pin(async move { counted })
    }
}
