//! The consumers, wired: broker, records and handlers in one database.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use deadpool_postgres::{Manager, Object, Pool};
use hapax::atomic::{Atomic, AtomicOptions, PostgresTransaction, TokioPostgres};
use hapax::consume::{Consumer, ConsumerOptions, Handled, Identity, Message};
use hapax::core::Name;
use hapax::core::policy::{Backoff, BreakerPolicy, Limits, RetryPolicy};
use hapax::outbox::{Outbox, OutboxOptions};
use hapax::retry::Destination;
use hapax::store::postgres::{PostgresOptions, PostgresStore};
use hapax::{Engine, EngineOptions};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_postgres::NoTls;

use crate::handlers::{self, BoxError};
use crate::sources::source;

/// The names of the consumers.
pub const CONSUMERS: [&str; 3] = ["points", "stock", "email"];
const POOL: usize = 24;

/// What the consumers need to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// The broker's URL.
    pub broker: String,
    /// The URL of the database: of what the consumers write, and of the records.
    pub database: String,
    /// Messages that each consumer handles at a time.
    pub concurrency: usize,
    /// How long a message may be in the hands of a process that gives no sign of life.
    pub abandoned: Duration,
    /// Takes every delivery for a new message: what consumers are without hapax. For tests of tests.
    pub forget: bool,
}

/// Why the consumers could not be started, or ended.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct SetupError {
    what: &'static str,
    source: BoxError,
}

fn at<E: Into<BoxError>>(what: &'static str) -> impl Fn(E) -> SetupError {
    move |source| SetupError {
        what,
        source: source.into(),
    }
}

/// All three, ready to run.
#[derive(Debug)]
pub struct Consumers(Vec<Consumer>);

impl Consumers {
    /// Makes the tables that are not there.
    ///
    /// # Errors
    /// What is wrong with the database or the options.
    pub async fn new(options: &Options) -> Result<Self, SetupError> {
        let database = || at("the database");
        let config = options.database.parse().map_err(at("the database's URL"))?;
        let pool = Pool::builder(Manager::new(config, NoTls)).max_size(POOL).build();
        let pool = pool.map_err(at("the pool"))?;
        let client = pool.get().await.map_err(at("the database"))?;
        client
            .batch_execute(include_str!("schema.sql"))
            .await
            .map_err(database())?;
        let store = PostgresStore::connect(&options.database, PostgresOptions::default());
        let store = store.await.map_err(at("the records"))?;
        let joint = store.joint();
        let engine = Engine::new(store, EngineOptions::default(), ());
        let outbox = Outbox::open(&engine, OutboxOptions::default()).await;
        let outbox = Arc::new(outbox.map_err(at("the outbox"))?);
        let transactions = TokioPostgres::new(
            move || {
                let pool = pool.clone();
                async move { pool.get().await }
            },
            |client: &Object| client,
        );
        let atomic = Atomic::new(&engine, joint.clone(), transactions, AtomicOptions::default());
        let atomic = atomic.map_err(at("transactions"))?;

        let points = consumer(options, CONSUMERS[0], &atomic, |transaction, message| {
            Box::pin(handlers::points(transaction, message))
        })?;
        let stock = consumer(options, CONSUMERS[1], &atomic, |transaction, message| {
            Box::pin(handlers::stock(transaction, message))
        })?;
        let email = consumer(options, CONSUMERS[2], &atomic, move |transaction, message| {
            let (outbox, joint) = (Arc::clone(&outbox), joint.clone());
            Box::pin(async move { handlers::email(transaction, message, &outbox, &joint).await })
        })?;
        Ok(Self(vec![points, stock, email]))
    }

    /// Handles messages until `stop` says so, then ends what is under way.
    ///
    /// # Errors
    /// A consumer that may not go on: all stop then.
    pub async fn run(self, stop: watch::Sender<bool>) -> Result<(), SetupError> {
        let mut running = JoinSet::new();
        for consumer in self.0 {
            let mut stopped = stop.subscribe();
            running.spawn(consumer.run(async move {
                // With nobody left to stop it, it stops.
                let _ = stopped.wait_for(|stopped| *stopped).await;
            }));
        }
        let mut ended = Ok(());
        while let Some(one) = running.join_next().await {
            let one = one
                .map_err(at("a consumer"))
                .and_then(|one| one.map_err(at("a consumer")));
            if let Err(error) = one {
                stop.send_replace(true);
                ended = Err(error);
            }
        }
        ended
    }
}

type Transactions = TokioPostgres<Object>;

fn consumer<H>(options: &Options, name: &str, atomic: &Atomic<Transactions>, handler: H) -> Result<Consumer, SetupError>
where
    H: for<'t> Fn(
            &'t mut PostgresTransaction<Object>,
            &'t Message,
        ) -> Pin<Box<dyn Future<Output = Result<Handled, BoxError>> + Send + 't>>
        + Send
        + Sync
        + 'static,
{
    let source = source(&options.broker, name, options.abandoned).map_err(at("the broker"))?;
    let identity = match options.forget {
        true => each_delivery(),
        false => Identity::CloudEvents,
    };
    let policy = RetryPolicy {
        // What comes early is tried again until what it follows upon has come.
        backoff: Backoff {
            base: Duration::from_millis(200),
            cap: Duration::from_secs(10),
            ..Backoff::default()
        },
        limits: Limits {
            tries: 50,
            ..Limits::default()
        },
        // What is called is the database, which is back soon.
        breaker: BreakerPolicy {
            open: Duration::from_secs(2),
            open_at_most: Duration::from_secs(30),
            ..BreakerPolicy::default()
        },
        ..ConsumerOptions::policy()
    };
    let destination = Destination::new(policy).map_err(at("the policy"))?;
    let consume = ConsumerOptions {
        concurrency: options.concurrency,
        prefetch: 4 * options.concurrency,
        lease: options.abandoned,
        ..ConsumerOptions::new(destination)
    };
    let name = Name::new(name).map_err(at("a consumer's name"))?;
    Consumer::atomic(name, source, identity, atomic, consume, handler).map_err(at("a consumer"))
}

/// Another identity each time.
fn each_delivery() -> Identity {
    let (process, count) = (std::process::id(), AtomicU64::new(0));
    Identity::by(move |_| Some(format!("{process}-{}", count.fetch_add(1, Ordering::Relaxed))))
}
