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
#[cfg(feature = "consume")]
const BREAK: &str = "INSERT INTO orders (key) VALUES (NULL)";
const INSERT_POSTGRES: &str = "INSERT INTO orders (key) VALUES ($1)";

/// What the suite needs of a driver.
pub(crate) trait World: Send + Sync + 'static {
    type Database: Database + Clone;

    /// A new database.
    fn start() -> impl Future<Output = Self> + Send;

    /// Where it is, for another process.
    fn at(&self) -> &str;

    /// In a database that is there already, as another process would be.
    fn join(at: &str) -> impl Future<Output = Self> + Send;

    fn database(&self) -> Self::Database;
    fn engine(&self) -> &Engine;
    fn joint(&self) -> Joint;

    /// Inserts an order in the handler's transaction.
    fn order<'t>(
        connection: &'t mut <Self::Database as Database>::Connection,
        key: &'t str,
    ) -> BoxFuture<'t, Result<(), BoxError>>;

    /// Inserts an order without a key, which the table forbids.
    #[cfg(feature = "consume")]
    fn break_a_rule(connection: &mut <Self::Database as Database>::Connection) -> BoxFuture<'_, Result<(), BoxError>>;

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

/// What goes with the world that made it.
type Home = Option<Box<dyn std::any::Any + Send + Sync>>;

fn postgres() -> (Home, String) {
    let database = Postgres::shared().database();
    let at = database.url().to_owned();
    (Some(Box::new(database)), at)
}

fn sqlite() -> (Home, String) {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().join("shop.db").to_str().unwrap().to_owned();
    (Some(Box::new(directory)), at)
}

pub(crate) struct TokioPostgresWorld {
    pool: deadpool_postgres::Pool,
    engine: Engine,
    joint: Joint,
    at: String,
    _home: Home,
}

fn tokio_postgres_pool(url: &str) -> deadpool_postgres::Pool {
    let config = url.parse().unwrap();
    let manager = deadpool_postgres::Manager::new(config, ::tokio_postgres::NoTls);
    deadpool_postgres::Pool::builder(manager)
        .max_size(POOL)
        .build()
        .unwrap()
}

fn tokio_postgres_database(pool: deadpool_postgres::Pool) -> TokioPostgres<Client> {
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

impl World for TokioPostgresWorld {
    type Database = TokioPostgres<Client>;

    async fn start() -> Self {
        let (_home, at) = postgres();
        let world = Self::on(&at).await;
        Self { _home, ..world }
    }

    fn at(&self) -> &str {
        &self.at
    }

    async fn join(at: &str) -> Self {
        let (engine, joint) = postgres_store(at).await;
        Self {
            pool: tokio_postgres_pool(at),
            engine,
            joint,
            at: at.to_owned(),
            _home: None,
        }
    }

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

    #[cfg(feature = "consume")]
    fn break_a_rule(connection: &mut PostgresTransaction<Client>) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(async move {
            connection.execute(BREAK, &[]).await?;
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

impl TokioPostgresWorld {
    /// In an empty database.
    pub(crate) async fn on(at: &str) -> Self {
        let world = Self::join(at).await;
        world.execute(TABLE).await;
        world
    }

    /// Runs SQL from outside.
    pub(crate) async fn execute(&self, sql: &str) {
        self.pool.get().await.unwrap().batch_execute(sql).await.unwrap();
    }

    /// The one number that it gives.
    pub(crate) async fn query_one(&self, sql: &str) -> i32 {
        let client = self.pool.get().await.unwrap();
        client.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// The same database by way of a pooler in transaction mode: nothing stays prepared.
    pub(crate) fn through(&self, url: &str) -> Atomic<TokioPostgres<Client>> {
        let pool = tokio_postgres_pool(url);
        let database = TokioPostgres::new(
            move || {
                let pool = pool.clone();
                async move { pool.get().await }
            },
            |client: &Client| client,
        );
        let joint = self.joint.clone().prepared(false);
        Atomic::new(&self.engine, joint, database, AtomicOptions::default()).unwrap()
    }
}

pub(crate) struct SqlxPostgresWorld {
    pool: sqlx::PgPool,
    engine: Engine,
    joint: Joint,
    at: String,
    _home: Home,
}

impl World for SqlxPostgresWorld {
    type Database = sqlx::PgPool;

    async fn start() -> Self {
        let (_home, at) = postgres();
        let world = Self::join(&at).await;
        sqlx::query(TABLE).execute(&world.pool).await.unwrap();
        Self { _home, ..world }
    }

    fn at(&self) -> &str {
        &self.at
    }

    async fn join(at: &str) -> Self {
        let (engine, joint) = postgres_store(at).await;
        let options = sqlx::postgres::PgPoolOptions::new().max_connections(POOL as u32);
        Self {
            pool: options.connect(at).await.unwrap(),
            engine,
            joint,
            at: at.to_owned(),
            _home: None,
        }
    }

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

    #[cfg(feature = "consume")]
    fn break_a_rule(connection: &mut sqlx::PgConnection) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(async move {
            sqlx::query(BREAK).execute(connection).await?;
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
    at: String,
    _home: Home,
}

impl World for SqlxSqliteWorld {
    type Database = sqlx::SqlitePool;

    async fn start() -> Self {
        let (_home, at) = sqlite();
        let world = Self::join(&at).await;
        sqlx::query(TABLE).execute(&world.pool).await.unwrap();
        Self { _home, ..world }
    }

    fn at(&self) -> &str {
        &self.at
    }

    async fn join(at: &str) -> Self {
        let store = SqliteStore::open(at, SqliteOptions::default()).unwrap();
        let joint = store.joint();
        let options = SqliteConnectOptions::new()
            .filename(at)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(POOL as u32);
        Self {
            pool: pool.connect_with(options).await.unwrap(),
            engine: engine(store),
            joint,
            at: at.to_owned(),
            _home: None,
        }
    }

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

    #[cfg(feature = "consume")]
    fn break_a_rule(connection: &mut sqlx::SqliteConnection) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(async move {
            sqlx::query(BREAK).execute(connection).await?;
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
    at: String,
    _home: Home,
}

impl World for RusqliteWorld {
    type Database = Rusqlite;

    async fn start() -> Self {
        let (_home, at) = sqlite();
        let world = Self::join(&at).await;
        rusqlite::Connection::open(&at).unwrap().execute_batch(TABLE).unwrap();
        Self { _home, ..world }
    }

    fn at(&self) -> &str {
        &self.at
    }

    async fn join(at: &str) -> Self {
        let store = SqliteStore::open(at, SqliteOptions::default()).unwrap();
        let joint = store.joint();
        Self {
            database: Rusqlite::open(at).unwrap(),
            engine: engine(store),
            joint,
            at: at.to_owned(),
            _home: None,
        }
    }

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

    #[cfg(feature = "consume")]
    fn break_a_rule(connection: &mut RusqliteTransaction) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(async move {
            connection.call(|sqlite| sqlite.execute(BREAK, [])).await?;
            Ok(())
        })
    }

    fn orders(&self, key: &str) -> BoxFuture<'static, i64> {
        let sqlite = rusqlite::Connection::open(&self.at).unwrap();
        let counted = sqlite.query_row("SELECT count(*) FROM orders WHERE key = ?", [key], |row| row.get(0));
        let counted = counted.unwrap();
        Box::pin(async move { counted })
    }
}
